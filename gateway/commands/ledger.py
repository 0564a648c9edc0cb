"""`gateway ledger`: whether the balances of a ledger are what its holds, and what its records, add up to."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from gateway.audit.amounts import Hold, Sum
from gateway.audit.recount import SHOWN_MAX, Recount, recount
from gateway.audit.recount import Difference as Unlike
from gateway.audit.sources import Database
from gateway.commands.places import database_option, place_of
from gateway.commands.reading import progress_shown, readable
from gateway.commands.shown import CannotError
from gateway.ledger.check import Difference, check
from gateway.ledger.sqlite_files import LedgerFileError
from gateway.terms.visible import visible

_WRONG: Final = 1
_HEADINGS: Final = ("WHAT", "SCOPE", "WINDOW", "UNIT", "LEDGER SAYS", "RECORDS SAY")
_UNTOLD_NAMED: Final = 10


@click.group()
def ledger() -> None:
    """Look after keys, holds and balances."""


@ledger.command(name="check")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object and nothing else.")
def check_ledger(file: Path | None, *, in_database: bool, as_json: bool) -> None:
    """Compare the balances of the ledger in FILE, or in a database, with its holds, and both with its records.

    The holds are added up, and every amount is added up again from the audit records, whose chain is verified on the
    way. Nothing is changed, and gateways may go on meanwhile. Exit code 0: everything adds up. 1: each difference is
    named. 2: it cannot be read.
    """
    place = place_of(file, in_database=in_database)
    differences = _checked(place)
    with readable(), progress_shown(quiet=as_json) as progress:
        counted = recount(place, progress)
    ok = counted.ok and not differences
    if as_json:
        click.echo(json.dumps({"ok": ok, **_told(differences, counted)}))
    else:
        for line in _lines(differences, counted):
            click.echo(visible(line))
        click.echo(_verdict(counted, len(differences), ok=ok))
    sys.exit(0 if ok else _WRONG)


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


def _verdict(counted: Recount, differences: int, *, ok: bool) -> str:
    read = f"{counted.records} records of {counted.operations} operations"
    if ok:
        return f"ok: balances and holds add up, to what {read} say"
    return f"NOT ok: {differences + counted.difference_count} differences; {read} were added up"


def _lines(differences: tuple[Difference, ...], counted: Recount) -> Iterator[str]:
    for one in differences:
        yield f"{one.what}: {one.problem}"
    yield from _table(counted)
    if counted.untold_count:
        more = ", ..." if counted.untold_count > _UNTOLD_NAMED else ""
        names = ", ".join(counted.untold[:_UNTOLD_NAMED])
        yield (
            f"NOT recomputable: {counted.untold_count} operations, whose records do not tell their amounts; their"
            f" holds were taken as they stand: {names}{more}"
        )
    if counted.bad is not None:
        bad = counted.bad
        yield f"BAD: record {bad.sequence} of {bad.instance}/{bad.boot}: {bad.problem}"
        yield "The records do not verify, so what they say proves nothing from there on: see `gateway audit verify`."


def _table(counted: Recount) -> Iterator[str]:
    if not counted.differences:
        return
    rows = [_HEADINGS, *map(_row, counted.differences)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if counted.difference_count > SHOWN_MAX:
        yield f"... and {counted.difference_count - SHOWN_MAX} more"


def _row(one: Unlike) -> tuple[str, ...]:
    scope, unit, window = one.place
    return (one.operation or "balance", scope, window, unit, _said(one.ledger), _said(one.records))


def _said(amounts: Hold | Sum | None) -> str:
    if amounts is None:
        return "nothing"
    return ", ".join(f"{name} {value}" for name, value in amounts._asdict().items())


def _told(differences: tuple[Difference, ...], counted: Recount) -> dict[str, object]:
    bad = counted.bad
    return {
        "differences": [{"what": one.what, "problem": one.problem} for one in differences],
        "recount": {
            "records": counted.records,
            "operations": counted.operations,
            "balances": counted.balances,
            "bad": None
            if bad is None
            else {"instance": bad.instance, "boot": bad.boot, "sequence": bad.sequence, "problem": bad.problem},
            "differences": list(map(_told_unlike, counted.differences)),
            "difference_count": counted.difference_count,
            "not_recomputable": list(counted.untold),
            "not_recomputable_count": counted.untold_count,
        },
    }


def _told_unlike(one: Unlike) -> dict[str, object]:
    scope, unit, window = one.place
    return {
        "operation": one.operation,
        "scope": scope,
        "window": window,
        "unit": unit,
        "ledger": None if one.ledger is None else one.ledger._asdict(),
        "records": None if one.records is None else one.records._asdict(),
    }
