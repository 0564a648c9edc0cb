"""`gateway halt`: stop a running gateway by scope, see what is still open, and let it go on."""

import json
import sys
import time
from typing import Final, cast

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.commands.record import shown_time
from gateway.commands.remote import Json, Remote, remote_of, remote_options
from gateway.terms.halts import scope_fault
from gateway.terms.visible import visible

POLL_S: Final = 0.5

_scope = click.argument("scope")
_reason = click.option("--reason", required=True, help="Why. It is told to those who are refused, and kept.")


@click.group()
def halt() -> None:
    """Stop new effects of a scope, and let them go on.

    SCOPE is all, tenant:NAME, team:NAME, agent:NAME, tool:NAME, model:NAME, symbol:NAME or venue:NAME. Needs the token
    of one of the gateway's [[operators]]. Exit codes: 0 done; 1 refused, or not at its end; 2 nothing was asked, or no
    answer came.
    """


@halt.command(name="set")
@_scope
@_reason
@click.option("--unknown", is_flag=True, help="Set it also if the gateway knows nothing that is called so.")
@click.option("--wait", default=10.0, show_default=True, help="Seconds to wait until nothing of the scope is open.")
@remote_options
def set_(scope: str, reason: str, wait: float, *, unknown: bool, as_json: bool, **where: str | None) -> None:
    """Stop new effects of SCOPE, and cancel its open orders.

    When this has answered, nothing of SCOPE is sent any more, on any instance; what only reads or cancels goes on. Then
    it waits until the exchange says that no order of SCOPE is open. Exit code 1: some still are; the gateway goes on
    cancelling. A SCOPE in which the gateway knows nothing is refused, for it would stop nothing, unless with --unknown.
    """
    remote = _remote(scope, where)
    remote.call("SetHalt", {"scope": scope, "reason": reason, "unknown": unknown})
    _say(f"{scope} is halted", quiet=as_json)
    ends = time.monotonic() + wait
    standing = _standing(remote, scope)
    while _open(standing) and time.monotonic() < ends:
        _say(_progress(standing), quiet=as_json)
        time.sleep(POLL_S)
        standing = _standing(remote, scope)
    _say(_progress(standing), quiet=as_json)
    if as_json:
        click.echo(json.dumps(standing))
    sys.exit(1 if _open(standing) else 0)


@halt.command()
@_scope
@_reason
@remote_options
def lift(scope: str, reason: str, *, as_json: bool, **where: str | None) -> None:
    """Let effects of SCOPE happen again, unless another switch stops them."""
    answer = _remote(scope, where).call("LiftHalt", {"scope": scope, "reason": reason})
    _say(f"{scope} goes on", quiet=as_json)
    if as_json:
        click.echo(json.dumps(answer))


@halt.command(name="list")
@remote_options
def list_(*, as_json: bool, **where: str | None) -> None:
    """Show every switch that was ever set, and what of its scope is not at its end."""
    answer = remote_of(where).call("ListHalts", {})
    if as_json:
        click.echo(json.dumps(answer))
        return
    table = Table("scope", "set", "open", "running", "needs a person", "by", "since", "reason")
    for standing in cast("list[Json]", answer.get("halts", [])):
        one = cast("Json", standing.get("halt", {}))
        counts = [str(standing.get(name, 0)) for name in ("open", "running", "needsPerson")]
        told = (one.get("scope"), "yes" if one.get("engaged") else "no", *counts, one.get("operator"))
        since = shown_time(int(str(one.get("setUnixUs", 0))))
        table.add_row(*(Text(visible(str(value))) for value in (*told, since, one.get("reason"))))
    Console().print(table)


def _remote(scope: str, where: dict[str, str | None]) -> Remote:
    fault = scope_fault(scope)
    if fault:
        raise click.BadParameter(fault, param_hint="SCOPE")
    return remote_of(where)


def _standing(remote: Remote, scope: str) -> Json:
    halts = cast("list[Json]", remote.call("ListHalts", {}).get("halts", []))
    return next((one for one in halts if cast("Json", one.get("halt", {})).get("scope") == scope), {})


def _open(standing: Json) -> int:
    return int(str(standing.get("open", 0))) + int(str(standing.get("running", 0)))


def _progress(standing: Json) -> str:
    person = int(str(standing.get("needsPerson", 0)))
    after = f", {person} need a person (gateway operations list --needs-person)" if person else ""
    return f"open {standing.get('open', 0)}, running {standing.get('running', 0)}{after}"


def _say(line: str, *, quiet: bool) -> None:
    if not quiet:
        click.echo(visible(line))
