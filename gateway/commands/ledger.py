"""`gateway ledger`: whether the balances of a ledger are what its records of holds add up to."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

import click

from gateway.audit.sources import Database
from gateway.commands.places import database_option, place_of
from gateway.commands.shown import CannotError
from gateway.ledger.check import Difference, check
from gateway.ledger.sqlite_files import LedgerFileError
from gateway.terms.visible import visible

_WRONG: Final = 1


@click.group()
def ledger() -> None:
    """Look after keys, holds and balances."""


@ledger.command(name="check")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print the differences as one JSON object and nothing else.")
def check_ledger(file: Path | None, *, in_database: bool, as_json: bool) -> None:
    """Add up all holds of the ledger in FILE, or in a database, and compare them with its balances and operations.

    Nothing is changed, and gateways may go on meanwhile. Exit code 0: everything adds up. 1: each difference is
    named. 2: it cannot be read.
    """
    differences = _checked(place_of(file, in_database=in_database))
    if as_json:
        told = [{"what": one.what, "problem": one.problem} for one in differences]
        click.echo(json.dumps({"ok": not differences, "differences": told}))
    else:
        for one in differences:
            click.echo(visible(f"{one.what}: {one.problem}"))
        click.echo("ok: balances and holds add up" if not differences else f"NOT ok: {len(differences)} differences")
    sys.exit(_WRONG if differences else 0)


def _checked(place: Path | Database) -> tuple[Difference, ...]:
    if isinstance(place, Path):
        try:
            return check(place)
        except LedgerFileError as error:
            raise CannotError(str(error)) from error
    from gateway.ledger.postgres_check import check_database  # noqa: PLC0415 - only who has a database needs its client
    from gateway.ledger.postgres_link import LedgerDatabaseError  # noqa: PLC0415 - as above

    try:
        return asyncio.run(check_database(place.url))
    except LedgerDatabaseError as error:
        raise CannotError(str(error)) from error
