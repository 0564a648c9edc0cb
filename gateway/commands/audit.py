"""`gateway audit`: verify a record offline, read it, and export it."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import click

from gateway.audit.sources import export, opened
from gateway.audit.verify import Report, verify
from gateway.commands.places import database_option, place_of
from gateway.commands.reading import progress_shown, readable
from gateway.commands.record import shown
from gateway.commands.shown import CannotError
from gateway.settings.faults import reason
from gateway.terms.visible import visible

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_file = click.argument("file", type=_FILE, required=False)

OPEN_SHOWN_MAX: Final = 10


@click.group()
def audit() -> None:
    """Verify, show and export the record."""


@audit.command(name="verify")
@_file
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object and nothing else.")
def verify_file(file: Path | None, *, in_database: bool, as_json: bool) -> None:
    """Verify FILE, a ledger or an export, or a database, with no gateway and no trust in one.

    Exit code 0: every record is as it was written, in its place, none missing between two others, and every intent
    has its outcome or is named as open. 1: the first bad record is named. 2: it cannot be read.
    """
    place = place_of(file, in_database=in_database)
    with readable(), progress_shown(quiet=as_json) as progress:
        report = verify(place, progress)
    if as_json:
        click.echo(json.dumps(_told(report)))
    else:
        for line in _lines(report):
            click.echo(visible(line))
    sys.exit(0 if report.ok else 1)


@audit.command(name="show")
@_file
@database_option
@click.option("--operation", metavar="ID", help="Only the records of this operation.")
def show_file(file: Path | None, operation: str | None, *, in_database: bool) -> None:
    """Print the records of FILE, a ledger or an export, or of a database, for people. Nothing is verified by it.

    Exit code 0: printed. 1: there is no record of that operation. 2: it cannot be read.
    """
    found = False
    with readable(), opened(place_of(file, in_database=in_database)) as source:
        for entry in source.entries():
            for line in shown(entry, operation):
                found = True
                click.echo(visible(line))
    sys.exit(0 if found or operation is None else 1)


@audit.command(name="export")
@database_option
@click.argument("paths", metavar="[FILE] OUT", nargs=-1, required=True, type=click.Path(path_type=Path))
def export_file(paths: tuple[Path, ...], *, in_database: bool) -> None:
    """Write the records of FILE, or of a database, to the new file OUT in the portable form; `verify` reads it too.

    Exit code 0: written whole. 2: it could not be, and there is no OUT.
    """
    if len(paths) != (1 if in_database else 2):
        raise CannotError("name the FILE to read and then the new file OUT, or only OUT after --database")
    *files, out = paths
    place = place_of(_FILE.convert(files[0], None, None) if files else None, in_database=in_database)
    with readable(), _written_whole(out) as target, progress_shown(quiet=False) as progress:
        count = export(place, target, progress)
    click.echo(visible(f"{count} records in {out}"))


@contextmanager
def _written_whole(path: Path) -> Iterator[BinaryIO]:
    """A new file that only its owner reads, gone again if anything fails."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise CannotError(f"{path} exists: name a new file") from error
    except OSError as error:
        raise CannotError(f"cannot create {path}: {reason(error)}") from error
    try:
        with open(descriptor, "wb") as target:  # noqa: PTH123 - a descriptor is no path
            yield target
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CannotError(f"cannot write {path}: {reason(error)}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _lines(report: Report) -> Iterator[str]:
    for kind, count in report.kinds:
        yield f"{kind:<10}{count:>10}"
    for boot in report.boots:
        ending = "closed" if boot.closed else "no closing record"
        yield f"boot {boot.instance}/{boot.boot}: {boot.records} records, {ending}, head {boot.head.hex()}"
    if report.open_count:
        more = ", ..." if report.open_count > OPEN_SHOWN_MAX else ""
        names = ", ".join(report.open_operations[:OPEN_SHOWN_MAX])
        yield f"open operations: {report.open_count}: {names}{more}"
    for note in report.notes:
        yield f"note: {note}"
    if report.bad is not None:
        bad = report.bad
        yield f"BAD: record {bad.sequence} of {bad.instance}/{bad.boot}: {bad.problem}"
    yield f"{'ok' if report.ok else 'NOT ok'}: {report.records} records verified"


def _told(report: Report) -> dict[str, object]:
    bad = report.bad
    return {
        "ok": report.ok,
        "records": report.records,
        "kinds": dict(report.kinds),
        "boots": [
            {
                "instance": boot.instance,
                "boot": boot.boot,
                "records": boot.records,
                "closed": boot.closed,
                "head": boot.head.hex(),
            }
            for boot in report.boots
        ],
        "bad": {"instance": bad.instance, "boot": bad.boot, "sequence": bad.sequence, "problem": bad.problem}
        if bad
        else None,
        "open_operations": list(report.open_operations),
        "open_count": report.open_count,
        "notes": list(report.notes),
    }
