"""`gateway usage`: calls, tokens and cost by the record, as a table for people or as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click
from click.core import ParameterSource

from gateway.audit.sources import Entry, Place, UnreadableAuditError, opened
from gateway.audit.usage import UsageSum
from gateway.commands.places import database_option, place_of
from gateway.commands.remote import remote_of, remote_options_or_none
from gateway.commands.shown import CannotError
from gateway.commands.usage_asked import asked
from gateway.terms.clock import SystemClock
from gateway.terms.money import MICRO, written
from gateway.terms.usage import Group, UsageQuery, UsageReport, UsageTooWideError, Used
from gateway.terms.visible import visible

_DAY_US: Final = 86_400_000_000
_WIDTH_MAX: Final = 1_000
_REMOTE: Final = ("url", "audience", "account", "token_command")
"""Options that only a running gateway needs."""

_EPOCH: Final = date(1970, 1, 1)

_COLUMNS: Final = (
    *("calls", "refusals", "failures", "unknown"),
    *("input_tokens", "output_tokens", "thinking_tokens", "cached_tokens"),
)
_HEADS: Final = ("calls", "refused", "failed", "unknown", "in", "out", "thinking", "cached", "USD", "estimated")


class Day(click.ParamType[int]):
    """A day, as microseconds of Unix time at its midnight in UTC."""

    name = "day"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Refuses anything but YYYY-MM-DD."""
        if isinstance(value, int):
            return value
        try:
            return _midnight_us(date.fromisoformat(str(value)))
        except ValueError:
            self.fail(f"{value!r} is no day: write it as 2026-11-23", param, ctx)


class Options(TypedDict):
    """What may be written behind the command."""

    file: Path | None
    url: str | None
    audience: str | None
    account: str | None
    token_command: str | None
    first: int | None
    last: int | None
    by: tuple[str, ...]
    in_database: bool
    as_json: bool


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@database_option
@click.option("--from", "first", type=Day(), metavar="DAY", help="The first day, in UTC; else the first of this month.")
@click.option("--to", "last", type=Day(), metavar="DAY", help="The last day, in UTC; else today.")
@click.option(
    "--by",
    "by",
    type=click.Choice([group.value for group in Group]),
    multiple=True,
    help="A row for each of these; several may be given. Else agent and model.",
)
@remote_options_or_none
def usage(**options: Unpack[Options]) -> None:
    """Add up what was used, by the records of FILE (a ledger, also one in use, or an export), a database or a gateway.

    Of the cost in US dollars, "estimated" is what was charged for calls whose tokens no upstream has counted in full.

    Without FILE and --database a running gateway is asked, which needs the token of one of its [[operators]].

    A call counts on the day on which it was admitted, its tokens and its cost on the day of its end. Nothing is
    verified: `audit verify` does that. Exit code 0: told. 1: the gateway refuses. 2: it cannot be told.
    """
    query = _query(options["first"], options["last"], options["by"] or (Group.AGENT, Group.MODEL))
    report = _report(options, query)
    if options["as_json"]:
        click.echo(json.dumps(_told(query, report)))
    else:
        _print(query, report)


def _report(options: Options, query: UsageQuery) -> UsageReport:
    recorded = options["file"] is not None or options["in_database"]
    if recorded and any(map(_written, _REMOTE)):
        raise CannotError(
            "a running gateway is asked without a FILE and without --database: leave out one or the other"
        )
    if recorded or not options["url"]:
        return _added(_place(options), query)
    where = {"url": options["url"], "audience": options["audience"]}
    where |= {"account": options["account"], "token_command": options["token_command"]}
    return asked(remote_of(where), query)


def _written(option: str) -> bool:
    """Whether it stands in the command line itself: $GATEWAY_URL is for every command, and says nothing of this one."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE


def _place(options: Options) -> Place:
    if options["file"] is None and not options["in_database"]:
        raise CannotError("name a FILE, or give --database, or --url (or $GATEWAY_URL) for a running gateway")
    return place_of(options["file"], in_database=options["in_database"])


def _query(first: int | None, last: int | None, by: tuple[str, ...]) -> UsageQuery:
    today = datetime.fromtimestamp(SystemClock().unix_us() // MICRO, UTC).date()
    begin = _midnight_us(today.replace(day=1)) if first is None else first
    end = (_midnight_us(today) if last is None else last) + _DAY_US
    if end <= begin:
        raise CannotError("--to is before --from: write the later day as --to")
    return UsageQuery(from_unix_us=begin, to_unix_us=end, by=tuple(dict.fromkeys(map(Group, by))))


def _added(where: Place, query: UsageQuery) -> UsageReport:
    found = UsageSum(query)
    try:
        with opened(where) as source:
            for entry in source.entries():
                _add(found, entry)
    except (UnreadableAuditError, UsageTooWideError) as error:
        raise CannotError(str(error)) from error
    return found.report()


def _add(found: UsageSum, entry: Entry) -> None:
    try:
        found.add(entry.record)
    except ValueError as error:
        place = f"record {entry.sequence} of {entry.instance}/{entry.boot}"
        raise CannotError(f"{place} is none: {error}. Run `gateway audit verify`") from error


def _told(query: UsageQuery, report: UsageReport) -> dict[str, object]:
    rows = [dict(zip(query.by, names, strict=True)) | asdict(used) for names, used in report.rows]
    times = {"from_unix_us": query.from_unix_us, "to_unix_us": query.to_unix_us}
    return {**times, "by": list(query.by), "rows": rows, "total": asdict(report.total)}


def _print(query: UsageQuery, report: UsageReport) -> None:
    from rich.box import SIMPLE  # noqa: PLC0415 - only where a table is printed
    from rich.console import Console  # noqa: PLC0415 - only where a table is printed
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    last = query.to_unix_us - _DAY_US
    table = Table(
        title=f"{_day(query.from_unix_us)} to {_day(last)}", title_justify="left", show_footer=True, box=SIMPLE
    )
    for place, group in enumerate(query.by):
        table.add_column(group.value, footer="" if place else "all", overflow="fold")
    totals = list(_numbers(report.total))
    for head, total in zip(_HEADS, totals, strict=True):
        table.add_column(head, justify="right", footer=total, no_wrap=True)
    for names, used in report.rows:
        # Text, so that no name of a run can be read as markup.
        table.add_row(*(Text(visible(name) or "-") for name in names), *_numbers(used))
    console = Console()
    # A line that is longer than the terminal is better than a number without its end.
    whole = console.measure(table, options=console.options.update(max_width=_WIDTH_MAX)).maximum
    Console(width=max(console.width, whole)).print(table)


def _numbers(used: Used) -> Iterator[str]:
    for name in _COLUMNS:
        yield str(getattr(used, name))
    yield written(used.cost_micro_usd, MICRO)
    yield written(used.estimated_micro_usd, MICRO) if used.estimated_micro_usd else "-"


def _midnight_us(day: date) -> int:
    return (day - _EPOCH).days * _DAY_US


def _day(time_us: int) -> str:
    return datetime.fromtimestamp(time_us // MICRO, UTC).strftime("%Y-%m-%d")
