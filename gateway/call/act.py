"""A governed tool call: who, may they, did a person agree, can they pay, do it exactly once, prove it."""

from typing import Final

import msgspec

from gateway.call.governed import Governed, arrived
from gateway.call.stations import Stations
from gateway.terms.asks import Effect, ReadAsk, ToolAsk, ToolRequest, Unformed
from gateway.terms.limits import LEASE_MARGIN_MS
from gateway.terms.operations import Admission, Failed, Failure, Operation, Outcome, Replay, Reservation, Unknown
from gateway.terms.passage import Passage
from gateway.terms.verdict import granted

_UNREAD: Final = Failed(
    failure=Failure(reason="gateway.fault", message="The gateway failed while it read; nothing was changed.")
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller is told of an operation."""

    operation: Operation
    replayed: bool


async def act(at: Stations, passage: Passage, request: ToolRequest) -> Answer:
    """Execute a tool once for one idempotency key, or raise `RefusedError` before anything was sent.

    A lost reply is an operation in state UNKNOWN, not an error. A repeat of the key gets what is stored. Only
    `ledger.outcome_unrecorded` is refused after something was sent: nothing durable says what.
    """
    call = await arrived(at, passage, Unformed(what="execute_tool", about=request.tool))
    return await done(call, await decided(call, request))


async def decided(call: Governed, request: ToolRequest) -> Admission | Replay:
    """Everything before the first commit: only reads. Raises `RefusedError`, with the refusal on record."""
    at, passage = call.at, call.passage
    async with call.recorded():
        with passage.stages.stage("form"):
            call.ask = ask = granted(at.tools.ask(call.caller, request))
        with passage.stages.stage("find"):
            earlier = granted(await at.ledger.find(call.key(ask), ask.digest))
        if earlier is not None:
            return earlier
        with passage.stages.stage("facts"):
            call.facts = granted(await at.tools.facts(call.caller, ask, at.ledger.tally))
        permit = await call.permit(ask, call.facts)
        with passage.stages.stage("intent"):
            demand = granted(at.tools.demand(call.caller, ask, call.facts))
            return call.admission(permit, demand, ask.tool.timeout_ms + LEASE_MARGIN_MS)


async def done(call: Governed, decision: Admission | Replay) -> Answer:
    """Do it once, or give what was done.

    From here on the caller may leave, but admission, effect and settling stay together.
    """
    if isinstance(decision, Admission):
        ended = await call.at.effects.start(_effect(call, decision))
        if isinstance(ended, Operation):
            return Answer(operation=ended, replayed=False)
        decision = ended
    async with call.recorded():
        return await _replayed(call, decision)


async def _effect(call: Governed, admission: Admission) -> Operation | Replay:
    reserved = await call.admit(admission)
    if isinstance(reserved, Replay):
        return reserved
    stopped = await call.stopped(reserved, admission)
    if stopped is None:
        with call.passage.stages.stage("upstream"):
            outcome = await _executed(call, reserved)
    else:
        outcome = Failed(failure=Failure(reason=stopped.reason, message=stopped.sentence))
    return await call.settle(reserved, outcome)


async def _executed(call: Governed, reservation: Reservation) -> Outcome:
    try:
        return await call.at.tools.execute(reservation)
    except Exception as error:  # noqa: BLE001 - after the intent is durable nothing may end without an outcome
        call.tell("tool.failed", operation=reservation.operation, error=repr(error))
        ask = reservation.permit.ask
        if isinstance(ask, ToolAsk) and ask.tool.effect is Effect.READ:
            return _UNREAD
        return Unknown(
            failure=Failure(
                reason="gateway.fault",
                message="The gateway failed while the call was under way; nobody knows yet whether it happened.",
            )
        )


async def _replayed(call: Governed, replay: Replay) -> Answer:
    """Answer a repeat. It needs a permit of its own: what was allowed once may have been withdrawn."""
    operation = replay.operation
    permit = await call.permit(ReadAsk(what="get_operation", operation=operation.id))
    record = call.at.recorder.replay(call.evidence(operation.id, permit.rules), operation)
    await call.at.effects.start(call.at.ledger.note(record))
    call.passage.reply_headers["gateway-operation"] = operation.id
    call.tell("call.replayed", operation=operation.id, state=operation.state.value)
    return Answer(operation=operation, replayed=True)
