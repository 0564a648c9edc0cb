"""ToolService: messages of governed tool calls to terms and back."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from gateway.call.act import act
from gateway.call.dry_run import Rehearsed, dry_run
from gateway.call.inquire import get_operation, list_tools, watch_operation
from gateway.call.stations import Stations
from gateway.services.decision import decision, receipt, rehearsal_decision
from gateway.terms.asks import Effect as ToolEffect
from gateway.terms.asks import ToolDeclaration, ToolRequest
from gateway.terms.operations import Operation as StoredOperation
from gateway.terms.operations import State
from gateway.terms.passage import Passage
from generated.agentic.gateway.v1 import (
    DryRun,
    DryRunHold,
    Effect,
    ExecuteToolRequest,
    GetOperationRequest,
    ListToolsRequest,
    ListToolsResponse,
    Operation,
    OperationState,
    Tool,
    ToolError,
    WatchOperationRequest,
)

_EFFECTS: Final = {
    ToolEffect.READ: Effect.READ,
    ToolEffect.REVERSIBLE: Effect.REVERSIBLE,
    ToolEffect.IRREVERSIBLE: Effect.IRREVERSIBLE,
}

STATES: Final = {
    State.CLAIMED: OperationState.CLAIMED,
    State.DISPATCHED: OperationState.DISPATCHED,
    State.SUCCEEDED: OperationState.SUCCEEDED,
    State.FAILED: OperationState.FAILED,
    State.UNKNOWN: OperationState.UNKNOWN,
    State.RECONCILING: OperationState.RECONCILING,
}


class ToolService:
    """agentic.gateway.v1.ToolService."""

    def __init__(self, stations: Stations) -> None:
        self._at = stations

    async def list_tools(self, _: ListToolsRequest, passage: Passage) -> ListToolsResponse:
        """See the proto."""
        return ListToolsResponse(tools=[_tool(tool) for tool in await list_tools(self._at, passage)])

    async def execute_tool(self, request: ExecuteToolRequest, passage: Passage) -> Operation:
        """See the proto."""
        answer = await act(self._at, passage, _asked(request))
        return operation(answer.operation, replayed=answer.replayed)

    async def dry_run_tool(self, request: ExecuteToolRequest, passage: Passage) -> DryRun:
        """See the proto."""
        rehearsed = await dry_run(self._at, passage, _asked(request))
        return _dry_run(rehearsed)

    async def get_operation(self, request: GetOperationRequest, passage: Passage) -> Operation:
        """See the proto."""
        return operation(await get_operation(self._at, passage, request.operation_id), replayed=False)

    async def watch_operation(
        self, request: WatchOperationRequest, passage: Passage
    ) -> AsyncGenerator[Operation, None]:
        """See the proto."""
        async with aclosing(watch_operation(self._at, passage, request.operation_id)) as changes:
            async for stored in changes:
                yield operation(stored, replayed=False)


def _asked(request: ExecuteToolRequest) -> ToolRequest:
    return ToolRequest(
        tool=request.tool,
        version=request.version,
        arguments_json=request.arguments_json,
        idempotency_key=request.idempotency_key,
        run_id=request.run_id,
    )


def _dry_run(rehearsed: Rehearsed) -> DryRun:
    refusal = rehearsed.rehearsal.refusal
    return DryRun(
        decision=rehearsal_decision(rehearsed.rehearsal),
        message=refusal.sentence if refusal else "",
        holds=[
            DryRunHold(
                scope=claim.scope, unit=claim.unit.value, window=claim.window, limit=claim.limit, amount=claim.amount
            )
            for claim in rehearsed.rehearsal.claims
        ],
        receipt=receipt(rehearsed.receipt),
    )


def _tool(declared: ToolDeclaration) -> Tool:
    return Tool(
        name=declared.name,
        version=declared.version,
        description=declared.description,
        arguments_json_schema=declared.arguments_schema,
        effect=_EFFECTS[declared.effect],
        declaration_hash=declared.hash,
    )


def operation(stored: StoredOperation, *, replayed: bool) -> Operation:
    """An operation as its caller is told of it."""
    failure = stored.failure
    return Operation(
        id=stored.id,
        state=STATES[stored.state],
        tool=stored.key.tool,
        version=stored.version,
        result_json=stored.result.decode() if stored.state is State.SUCCEEDED else "",
        error=ToolError(reason=failure.reason, message=failure.message) if failure else None,
        decision=decision(stored),
        intent=receipt(stored.intent),
        outcome=receipt(stored.outcome),
        replayed=replayed,
        created_unix_us=stored.created_unix_us,
    )
