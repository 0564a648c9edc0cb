"""Questions about the gateway itself: the caller sees what is its own, and nothing else."""

from typing import Final

from gateway.call.governed import NO_OPERATION, Governed, arrived
from gateway.call.stations import Stations
from gateway.terms.asks import ReadAsk, ToolDeclaration, Unformed
from gateway.terms.ids import OPERATION_ID, OperationId
from gateway.terms.models import Model
from gateway.terms.operations import Operation
from gateway.terms.passage import Passage
from gateway.terms.verdict import Kind, Refusal, RefusedError, malformed

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
    call = await arrived(at, passage, Unformed(what="get_operation", about=named))
    async with call.recorded():
        if OPERATION_ID.fullmatch(named) is None:
            raise RefusedError(malformed("operation_id", "take it from the answer of ExecuteTool"))
        call.ask = ask = ReadAsk(what="get_operation", operation=OperationId(named))
        await call.permit(ask)
        found = await at.ledger.get(ask.operation, call.caller)
        if found is None:
            raise RefusedError(_UNKNOWN)
    return found


async def _permitted(at: Stations, passage: Passage, what: str) -> Governed:
    ask = ReadAsk(what=what, operation=NO_OPERATION)
    call = await arrived(at, passage, ask)
    async with call.recorded():
        await call.permit(ask)
    return call
