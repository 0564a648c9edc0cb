"""How a command reads a whole record: it tells how far it is, and says it in a sentence where it cannot be read."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from gateway.audit.sources import Progress, UnreadableAuditError
from gateway.commands.shown import CannotError


@contextmanager
def readable() -> Iterator[None]:
    """Turns what cannot be read into a `CannotError`."""
    try:
        yield
    except UnreadableAuditError as error:
        raise CannotError(str(error)) from error


@contextmanager
def progress_shown(*, quiet: bool) -> Iterator[Progress | None]:
    """Tells a person at a terminal how far it is, on a line that ends before anything else is written."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    told = False

    def tell(done: int, total: int) -> None:
        nonlocal told
        told = True
        click.echo(f"\r{done} of {total} records", err=True, nl=False)

    try:
        yield tell
    finally:
        if told:
            click.echo(err=True)
