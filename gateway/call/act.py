"""A governed tool call: who, may they, did a person agree, can they pay, do it exactly once, prove it."""

import asyncio
from dataclasses import dataclass

from gateway.call.governed import Governed, identified
from gateway.call.stations import Stations
from gateway.terms.asks import ReadAsk, ToolRequest
from gateway.terms.evidence import Evidence
from gateway.terms.limits import LEASE_MARGIN_MS
from gateway.terms.operations import (
    Admission,
    Failure,
    Operation,
    Outcome,
    Replay,
    Reservation,
    Unknown,
)
from gateway.terms.passage import Passage
from gateway.terms.verdict import Refusal, RefusedError, granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the caller is told of an operation."""

    operation: Operation
    replayed: bool


async def act(at: Stations, passage: Passage, request: ToolRequest) -> Answer:
    """Execute a tool once for one idempotency key, or raise `RefusedError` before anything was sent.

    A lost reply is an operation in state UNKNOWN, not an error. A repeat of the key gets what is stored.
    """
    caller = await identified(at, passage)
    with passage.stages.stage("form"):
        ask = granted(at.tools.ask(caller, request))
    call = Governed(at=at, passage=passage, caller=caller, ask=ask)
    async with call.recorded():
        earlier = granted(await at.ledger.find(call.key(), ask.digest))
        if earlier is not None:
            return await _replayed(call, earlier)
        with passage.stages.stage("facts"):
            call.facts.update(granted(await at.tools.facts(caller, ask)))
        permit = await call.permit()
        demand = granted(at.tools.demand(caller, ask, call.facts))
        admission = call.admission(permit, demand, ask.tool.timeout_ms + LEASE_MARGIN_MS)
        passage.reply_headers["gateway-operation"] = admission.operation
        # From here on the caller may leave, but admission, effect and settling stay together.
        evidence = call.evidence(admission.operation, permit)
        done = await asyncio.shield(at.effects.start(_effect(call, admission, evidence)))
        if isinstance(done, Replay):
            return await _replayed(call, done)
        return Answer(operation=done, replayed=False)


async def _effect(call: Governed, admission: Admission, evidence: Evidence) -> Operation | Replay:
    with call.passage.stages.stage("admit"):
        verdict = await call.at.ledger.admit(admission)
    if isinstance(verdict, Refusal):
        raise RefusedError(verdict)
    if isinstance(verdict, Replay):
        return verdict
    with call.passage.stages.stage("upstream"):
        outcome = await _executed(call, verdict)
    return await call.settle(verdict, outcome, evidence)


async def _executed(call: Governed, reservation: Reservation) -> Outcome:
    try:
        return await call.at.tools.execute(reservation)
    except Exception as error:  # noqa: BLE001 - after the intent is durable nothing may end without an outcome
        call.tell("tool.failed", operation=reservation.operation, error=repr(error))
        return Unknown(
            failure=Failure(
                reason="gateway.fault",
                message="The gateway failed while the call was under way; nobody knows yet whether it happened.",
            )
        )


async def _replayed(call: Governed, replay: Replay) -> Answer:
    """Answer a repeat. It needs a permit of its own: what was allowed once may have been withdrawn."""
    operation = replay.operation
    reading = Governed(
        at=call.at,
        passage=call.passage,
        caller=call.caller,
        ask=ReadAsk(what="get_operation", operation=operation.id),
    )
    permit = await reading.permit()
    call.passage.reply_headers["gateway-operation"] = operation.id
    record = call.at.recorder.replay(call.evidence(operation.id, permit), operation)
    await asyncio.shield(call.at.effects.start(call.at.ledger.note(record)))
    call.tell("call.replayed", operation=operation.id, state=operation.state.value)
    return Answer(operation=operation, replayed=True)
