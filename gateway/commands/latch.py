"""`gateway latch`: which agents' tools are stopped after too many executions of one kind, and letting them go on."""

import json
from typing import cast

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.commands.record import shown_time
from gateway.commands.remote import Json, remote_of, remote_options
from gateway.terms.visible import visible


@click.group()
def latch() -> None:
    """Show latches of a running gateway, and reset them.

    An agent's tool is latched after too many executions of one kind: it is refused until a person has looked at it.
    Needs the token of one of the gateway's [[operators]]. Exit codes: 0 done; 1 refused; 2 nothing was asked, or no
    answer came.
    """


@latch.command(name="list")
@remote_options
def list_(*, as_json: bool, **where: str | None) -> None:
    """Show every latch that stands, and the last execution that it let pass."""
    answer = remote_of(where).call("ListLatches", {})
    if as_json:
        click.echo(json.dumps(answer))
        return
    table = Table("scope", "since", "last operation")
    for one in cast("list[Json]", answer.get("latches", [])):
        since = shown_time(int(str(one.get("latchedUnixUs", 0))))
        told = (one.get("scope"), since, one.get("operationId"))
        table.add_row(*(Text(visible(str(value))) for value in told))
    Console().print(table)


@latch.command()
@click.argument("scope")
@click.option("--reason", required=True, help="Why it may go on. It is kept with your name.")
@remote_options
def reset(scope: str, reason: str, *, as_json: bool, **where: str | None) -> None:
    """Let the agent's tool SCOPE (agent:NAME/TOOL, as `list` shows it) be executed again; its count begins anew."""
    answer = remote_of(where).call("ResetLatch", {"scope": scope, "reason": reason})
    click.echo(json.dumps(answer) if as_json else visible(f"{scope} goes on"))
