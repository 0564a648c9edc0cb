"""`gateway operations`: what a running gateway did, what nobody knows, and an operator's decision about it."""

import json
import sys
from typing import Final, cast

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.commands.record import record_lines, shown_time
from gateway.commands.remote import Json, remote_of, remote_options
from gateway.terms.visible import visible

STATES: Final = ("claimed", "dispatched", "succeeded", "failed", "unknown", "reconciling")
PAGE_SIZE_MAX: Final = 500


@click.group()
def operations() -> None:
    """See the operations of every agent, and decide about those that nobody knows the end of.

    Needs the token of one of the gateway's [[operators]]. Exit codes: 0 done; 1 refused, or there is none; 2 nothing
    was asked, or no answer came.
    """


@operations.command(name="list")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only these; may be repeated.")
@click.option("--needs-person", is_flag=True, help="Only those that wait for a decision.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, PAGE_SIZE_MAX))
@click.option("--before", "token", metavar="TOKEN", help="Go on where an earlier list ended.")
@remote_options
def list_(
    states: tuple[str, ...], limit: int, token: str | None, *, needs_person: bool, as_json: bool, **where: str | None
) -> None:
    """List operations, the newest first."""
    asked: dict[str, object] = {"pageSize": limit, "needsPerson": needs_person}
    asked |= {"states": [f"OPERATION_STATE_{state.upper()}" for state in states], "pageToken": token or ""}
    answer = remote_of(where).call("ListOperations", asked)
    if as_json:
        click.echo(json.dumps(answer))
        return
    table = Table("operation", "state", "tool", "began", "owner", "key", "note")
    for seen in cast("list[Json]", answer.get("operations", [])):
        one = _operation(seen)
        began = shown_time(int(str(one.get("createdUnixUs", 0))))
        told = (one.get("id"), _state(one), one.get("tool"), began, seen.get("owner"), seen.get("idempotencyKey"))
        table.add_row(*(Text(visible(str(value or ""))) for value in (*told, _note(seen))))
    Console().print(table)
    if answer.get("nextPageToken"):
        click.echo(f"more: --before {answer['nextPageToken']}")


@operations.command()
@click.argument("operation")
@remote_options
def show(operation: str, *, as_json: bool, **where: str | None) -> None:
    """Show OPERATION: its state, what it holds, and its records in their order."""
    answer = remote_of(where).call("ShowOperation", {"operationId": operation})
    if as_json:
        click.echo(json.dumps(answer))
        return
    _tell(answer)


@operations.command()
@click.argument("operation")
@click.argument("outcome", type=click.Choice(["succeeded", "failed"]))
@click.option("--reason", required=True, help="How you know. It is kept with your name.")
@click.option(
    "--charge",
    "charges",
    multiple=True,
    metavar="UNIT=AMOUNT",
    help="Charge this instead, such as exposure_micro_usd=0. Else: what is held if it succeeded, nothing if it failed.",
)
@remote_options
def resolve(
    operation: str, outcome: str, reason: str, charges: tuple[str, ...], *, as_json: bool, **where: str | None
) -> None:
    """Say how OPERATION ended, which is UNKNOWN and which the gateway cannot find out. Done once, and kept."""
    asked = {
        "operationId": operation,
        "outcome": f"OPERATION_STATE_{outcome.upper()}",
        "reason": reason,
        "charges": [_charge(text) for text in charges],
    }
    answer = remote_of(where).call("ResolveOperation", asked)
    if as_json:
        click.echo(json.dumps(answer))
        return
    click.echo(visible(f"{operation} is {_state(_operation(cast('Json', answer.get('overview', {}))))}"))
    sys.exit(0)


def _charge(text: str) -> Json:
    unit, _, amount = text.partition("=")
    if not unit or not amount.lstrip("-").isdecimal() or not amount.isascii():
        raise click.BadParameter("write UNIT=AMOUNT, a whole number in the unit's own measure", param_hint="--charge")
    return {"unit": unit, "amount": amount}


def _operation(seen: Json) -> Json:
    return cast("Json", seen.get("operation", {}))


def _state(one: Json) -> str:
    return str(one.get("state", "")).removeprefix("OPERATION_STATE_").lower()


def _note(seen: Json) -> str:
    """What an operator should know at a glance."""
    if seen.get("needsPerson"):
        return "NEEDS A PERSON"
    if seen.get("open"):
        return "open"
    looks = int(str(seen.get("looks", 0)))
    return f"asked for {looks} times" if looks else ""


def _tell(answer: Json) -> None:
    seen = cast("Json", answer.get("overview", {}))
    one = _operation(seen)
    error = cast("Json", one.get("error", {}))
    for name, value in (
        ("operation", one.get("id")),
        ("state", _state(one)),
        ("note", _note(seen)),
        ("tool", f"{one.get('tool', '')} {one.get('version', '')}"),
        ("key", seen.get("idempotencyKey")),
        ("tenant", seen.get("tenant")),
        ("principal", seen.get("principal")),
        ("run", seen.get("runId")),
        ("owner", seen.get("owner")),
        ("halted by", ", ".join(cast("list[str]", seen.get("haltScopes", [])))),
        ("result", one.get("resultJson")),
        ("error", f"{error.get('reason')}: {error.get('message')}" if error else ""),
    ):
        if value:
            click.echo(visible(f"{name:<12}{value}"))
    for held in cast("list[Json]", answer.get("held", [])):
        amounts = f"held {held.get('amount', 0)}, charged {held.get('charged', 0)}"
        where = f"{held.get('scope')} {held.get('unit')} {held.get('window')}"
        click.echo(visible(f"{held.get('state', ''):<12}{where}: {amounts}"))
    for record in cast("list[Json]", answer.get("records", [])):
        click.echo()
        for line in record_lines(str(record.get("recordJson", "")).encode()):
            click.echo(visible(line))
