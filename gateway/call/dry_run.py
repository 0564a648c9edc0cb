"""A dry run: the verdict that a tool call would get now, and nothing else.

It passes the very steps of `gateway.call.act`, up to the first commit: there everything is checked and nothing taken.
It is a method of its own and needs a rule of its own; nothing in arguments or metadata can ask for one or turn a call
into one (invariant 3, attack row 20).
"""

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from gateway.call.governed import NO_OPERATION, Governed, arrived
from gateway.call.stations import Stations
from gateway.terms.asks import DryRunAsk, ToolAsk, ToolRequest, Unformed
from gateway.terms.gcra import Pace
from gateway.terms.limits import LEASE_MARGIN_MS
from gateway.terms.operations import Rate, Receipt, Rehearsal
from gateway.terms.passage import Passage
from gateway.terms.verdict import RefusedError, granted

KEY_PREFIX: Final = "dry-run"
"""Begins the keys that stand in for a caller's: a dry run takes none, and meets none that a call took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """What a dry run came to."""

    rehearsal: Rehearsal
    receipt: Receipt


async def dry_run(at: Stations, passage: Passage, request: ToolRequest) -> Rehearsed:
    """Say what `act` would answer to this request, its idempotency key aside, or raise `RefusedError`.

    Refused is what has not the tool's form, what no rule lets this caller rehearse, and what is beyond the quota of dry
    runs. What the call itself would be refused for is the answer.
    """
    call = await arrived(at, passage, Unformed(what="dry_run", about=request.tool))
    async with call.recorded():
        keyed = replace(request, idempotency_key=at.ids.new(KEY_PREFIX))
        with passage.stages.stage("form"):
            ask = granted(at.tools.ask(call.caller, keyed))
        call.ask = DryRunAsk(rehearsed=ask)
        allowed = await call.permit(call.ask)
        granted(await at.ledger.meter(_quota(call)))
        rehearsal = await _rehearsed(call, ask)
        record = at.recorder.dry_run(call.evidence(NO_OPERATION, allowed.rules), rehearsal)
        receipt = await at.effects.start(at.ledger.note(record))
    call.tell("tool.rehearsed", tool=ask.name, refused=rehearsal.refusal.reason if rehearsal.refusal else "")
    return Rehearsed(rehearsal=rehearsal, receipt=receipt)


async def _rehearsed(call: Governed, ask: ToolAsk) -> Rehearsal:
    """The steps of a real call, in their order; the first that refuses ends them."""
    try:
        with call.passage.stages.stage("facts"):
            call.facts = granted(await call.at.tools.facts(call.caller, ask, call.at.ledger.tally))
        permit = await call.permit(ask, call.facts)
        with call.passage.stages.stage("intent"):
            demand = granted(call.at.tools.demand(call.caller, ask, call.facts))
            admission = call.admission(permit, demand, ask.tool.timeout_ms + LEASE_MARGIN_MS)
        with call.passage.stages.stage("admit"):
            granted(await call.at.ledger.weigh(admission))
    except RefusedError as error:
        return Rehearsal(refusal=error.refusal)
    return Rehearsal(rules=permit.rules, policy_hash=permit.policy_hash, claims=admission.claims)


def _quota(call: Governed) -> Rate:
    per_minute = call.at.dry_runs_per_minute
    return Rate(
        scope=f"dry-run:agent:{call.caller.agent}",
        pace=Pace.per_minute(per_minute, per_minute),
        reason="quota.dry_runs",
    )
