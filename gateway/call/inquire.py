"""Questions about the gateway itself: the caller sees what is its own, and nothing else."""

from collections.abc import AsyncGenerator
from typing import Final

from gateway.call.governed import NO_OPERATION, Governed, arrived
from gateway.call.stations import Stations
from gateway.terms.asks import ReadAsk, ToolDeclaration, Unformed
from gateway.terms.caller import Caller
from gateway.terms.ids import OPERATION_ID, OperationId
from gateway.terms.limits import CHAT_LEASE_MS
from gateway.terms.models import Model
from gateway.terms.operations import Operation
from gateway.terms.passage import Passage
from gateway.terms.verdict import Kind, Refusal, RefusedError, malformed

WATCH_FIRST_S: Final = 0.05
WATCH_LAST_S: Final = 2.0
"""Between two looks into the ledger for a change that another instance may have made."""

WATCH_MS_MAX: Final = CHAT_LEASE_MS

_UNKNOWN: Final = Refusal(
    kind=Kind.NOT_FOUND,
    reason="operation.unknown",
    sentence="You have no operation with this id; take it from the answer of ExecuteTool.",
)


async def list_tools(at: Stations, passage: Passage) -> tuple[ToolDeclaration, ...]:
    """The tools that the caller may ask for."""
    return at.tools.offered((await _permitted(at, passage, "list_tools")).caller)


async def list_models(at: Stations, passage: Passage) -> tuple[Model, ...]:
    """The models that the caller may use."""
    return at.models.offered((await _permitted(at, passage, "list_models")).caller)


async def get_operation(at: Stations, passage: Passage, named: str) -> Operation:
    """An operation of the caller, by its id as received. Another caller's is answered as none (attack row 2)."""
    _, found = await _own(at, passage, named)
    return found


async def watch_operation(at: Stations, passage: Passage, named: str) -> AsyncGenerator[Operation, None]:
    """The operation now and at every change, whoever makes it, until it is final or the time is up.

    A change in this process is told at once; for one of another instance the ledger is asked, ever more rarely.
    """
    caller, told = await _own(at, passage, named)
    ends_ns = at.clock.monotonic_ns() + WATCH_MS_MAX * 1_000_000
    pause_s = WATCH_FIRST_S
    yield told
    while not told.state.final and at.clock.monotonic_ns() < ends_ns:
        await at.changes.wait(told.id, pause_s)
        found = await at.ledger.get(told.id, caller)
        if found is not None and found != told:
            told, pause_s = found, WATCH_FIRST_S
            yield told
        else:
            pause_s = min(2 * pause_s, WATCH_LAST_S)


async def _own(at: Stations, passage: Passage, named: str) -> tuple[Caller, Operation]:
    call = await arrived(at, passage, Unformed(what="get_operation", about=named))
    async with call.recorded():
        if OPERATION_ID.fullmatch(named) is None:
            raise RefusedError(malformed("operation_id", "take it from the answer of ExecuteTool"))
        call.ask = ask = ReadAsk(what="get_operation", operation=OperationId(named))
        await call.permit(ask)
        found = await at.ledger.get(ask.operation, call.caller)
        if found is None:
            raise RefusedError(_UNKNOWN)
    return call.caller, found


async def _permitted(at: Stations, passage: Passage, what: str) -> Governed:
    ask = ReadAsk(what=what, operation=NO_OPERATION)
    call = await arrived(at, passage, ask)
    async with call.recorded():
        await call.permit(ask)
    return call
