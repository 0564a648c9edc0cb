"""OperatorService: messages of those who run the gateway to terms and back."""

import re
from functools import partial
from typing import Final

from gateway.call.decide import Resolution, Told, list_operations, resolve_operation, show_operation
from gateway.call.operate import Switched, lift_halt, list_halts, list_latches, reset_latch, set_halt
from gateway.call.stations import Stations
from gateway.call.usage import query_usage
from gateway.services.decision import receipt
from gateway.services.form import malformed
from gateway.services.tools import STATES, operation
from gateway.services.usage import usage_query, usage_response
from gateway.terms.latches import Latched
from gateway.terms.operations import State
from gateway.terms.overview import Halt as StoredHalt
from gateway.terms.overview import HaltStanding as StoredStanding
from gateway.terms.overview import Held, Overview, Page
from gateway.terms.passage import Passage
from generated.agentic.gateway.v1 import (
    Halt,
    HaltStanding,
    HeldAmount,
    Latch,
    LiftHaltRequest,
    LiftHaltResponse,
    ListHaltsRequest,
    ListHaltsResponse,
    ListLatchesRequest,
    ListLatchesResponse,
    ListOperationsRequest,
    ListOperationsResponse,
    OperationOverview,
    OperationRecord,
    OperationState,
    QueryUsageRequest,
    QueryUsageResponse,
    ResetLatchRequest,
    ResetLatchResponse,
    ResolveOperationRequest,
    ResolveOperationResponse,
    SetHaltRequest,
    SetHaltResponse,
    ShowOperationRequest,
    ShowOperationResponse,
)

PAGE_SIZE: Final = 50
PAGE_SIZE_MAX: Final = 500

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
_STORED_STATES: Final = {shown: stored for stored, shown in STATES.items()}


class OperatorService:
    """agentic.gateway.v1.OperatorService."""

    def __init__(self, stations: Stations) -> None:
        self._at = stations

    async def set_halt(self, request: SetHaltRequest, passage: Passage) -> SetHaltResponse:
        """See the proto."""
        switched = await set_halt(self._at, passage, request.scope, request.reason, unknown=request.unknown)
        return SetHaltResponse(halt=_switched(switched), record=receipt(switched.record))

    async def lift_halt(self, request: LiftHaltRequest, passage: Passage) -> LiftHaltResponse:
        """See the proto."""
        switched = await lift_halt(self._at, passage, request.scope, request.reason)
        return LiftHaltResponse(halt=_switched(switched), record=receipt(switched.record))

    async def list_halts(self, _: ListHaltsRequest, passage: Passage) -> ListHaltsResponse:
        """See the proto."""
        return ListHaltsResponse(halts=[_standing(one) for one in await list_halts(self._at, passage)])

    async def list_operations(self, request: ListOperationsRequest, passage: Passage) -> ListOperationsResponse:
        """See the proto."""
        page = _page(request)
        found = await list_operations(self._at, passage, page)
        more = str(found[-1].number) if len(found) == page.size else ""
        return ListOperationsResponse(operations=[_overview(one) for one in found], next_page_token=more)

    async def show_operation(self, request: ShowOperationRequest, passage: Passage) -> ShowOperationResponse:
        """See the proto."""
        shown = await show_operation(self._at, passage, request.operation_id)
        return ShowOperationResponse(
            overview=_overview(shown.overview),
            held=[_held(one) for one in shown.overview.held],
            records=[_record(one) for one in shown.records],
        )

    async def resolve_operation(self, request: ResolveOperationRequest, passage: Passage) -> ResolveOperationResponse:
        """See the proto."""
        decided = Resolution(
            operation=request.operation_id,
            # What says nothing decides nothing: CLAIMED is refused like any other state that is no outcome.
            outcome=_STORED_STATES.get(request.outcome, State.CLAIMED),
            reason=request.reason,
            charges=tuple((charge.unit, charge.amount) for charge in request.charges),
        )
        return ResolveOperationResponse(overview=_overview(await resolve_operation(self._at, passage, decided)))

    async def query_usage(self, request: QueryUsageRequest, passage: Passage) -> QueryUsageResponse:
        """See the proto."""
        return usage_response(await query_usage(self._at, passage, partial(usage_query, request)))

    async def list_latches(self, _: ListLatchesRequest, passage: Passage) -> ListLatchesResponse:
        """See the proto."""
        return ListLatchesResponse(latches=[_latch(latched) for latched in await list_latches(self._at, passage)])

    async def reset_latch(self, request: ResetLatchRequest, passage: Passage) -> ResetLatchResponse:
        """See the proto."""
        return ResetLatchResponse(record=receipt(await reset_latch(self._at, passage, request.scope, request.reason)))


def _latch(latched: Latched) -> Latch:
    return Latch(scope=latched.scope, operation_id=latched.operation, latched_unix_us=latched.at_unix_us)


def _page(request: ListOperationsRequest) -> Page:
    """The page that is asked for; a state that nobody knows would find nothing, and is refused."""
    if not 0 <= request.page_size <= PAGE_SIZE_MAX:
        raise malformed("page_size", f"write 1 to {PAGE_SIZE_MAX}, or nothing for {PAGE_SIZE}")
    if request.page_token and _NUMBER.fullmatch(request.page_token) is None:
        raise malformed("page_token", "take it from the answer before")
    if any(state not in _STORED_STATES for state in request.states):
        raise malformed("states", f"write some of {', '.join(str(OperationState(one).name) for one in _STORED_STATES)}")
    return Page(
        states=tuple(_STORED_STATES[state] for state in request.states),
        needs_person=request.needs_person,
        before=int(request.page_token or 0),
        size=request.page_size or PAGE_SIZE,
    )


def _switched(switched: Switched) -> Halt:
    return _halt(switched.halt)


def _halt(halt: StoredHalt) -> Halt:
    return Halt(
        scope=halt.scope, engaged=halt.engaged, reason=halt.reason, operator=halt.by, set_unix_us=halt.set_unix_us
    )


def _standing(one: StoredStanding) -> HaltStanding:
    return HaltStanding(halt=_halt(one.halt), running=one.running, open=one.open, needs_person=one.needs_person)


def _overview(seen: Overview) -> OperationOverview:
    key = seen.operation.key
    return OperationOverview(
        operation=operation(seen.operation, replayed=False),
        tenant=key.tenant,
        principal=key.principal,
        kind=seen.kind,
        run_id=seen.run,
        idempotency_key=key.key,
        owner=seen.owner,
        halt_scopes=list(seen.halts),
        open=seen.live,
        needs_person=seen.needs_person,
        looks=seen.looks,
        next_look_unix_us=seen.look_unix_us or 0,
    )


def _held(held: Held) -> HeldAmount:
    return HeldAmount(
        scope=held.scope,
        unit=held.unit.value,
        window=held.window,
        amount=held.amount,
        charged=held.charged,
        state=held.state,
    )


def _record(told: Told) -> OperationRecord:
    return OperationRecord(receipt=receipt(told.receipt), record_json=told.record.decode())
