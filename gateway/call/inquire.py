"""Questions about the gateway itself: the caller sees what is its own, and nothing else."""

from gateway.call.governed import Governed, identified
from gateway.call.stations import Stations
from gateway.terms.asks import ReadAsk, ToolDeclaration
from gateway.terms.ids import OperationId
from gateway.terms.models import Model
from gateway.terms.operations import Operation
from gateway.terms.passage import Passage
from gateway.terms.verdict import Kind, Refusal, RefusedError


async def list_tools(at: Stations, passage: Passage) -> tuple[ToolDeclaration, ...]:
    """The tools that the caller may ask for."""
    return at.tools.offered((await _asked(at, passage, "list_tools")).caller)


async def list_models(at: Stations, passage: Passage) -> tuple[Model, ...]:
    """The models that the caller may use."""
    return at.models.offered((await _asked(at, passage, "list_models")).caller)


async def get_operation(at: Stations, passage: Passage, operation: OperationId) -> Operation:
    """An operation of the caller. Another caller's is answered as none (attack row 2)."""
    call = await _asked(at, passage, "get_operation", operation)
    found = await at.ledger.get(operation, call.caller)
    if found is None:
        raise RefusedError(
            Refusal(
                kind=Kind.NOT_FOUND,
                reason="operation.unknown",
                sentence="You have no operation with this id; take it from the answer of ExecuteTool.",
            )
        )
    return found


async def _asked(at: Stations, passage: Passage, what: str, operation: OperationId = OperationId("")) -> Governed:  # noqa: B008 - a constant
    caller = await identified(at, passage)
    call = Governed(at=at, passage=passage, caller=caller, ask=ReadAsk(what=what, operation=operation))
    async with call.recorded():
        await call.permit()
    return call
