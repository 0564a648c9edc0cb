"""OperatorService: messages of those who run the gateway to terms and back."""

from functools import partial

from gateway.call.operate import Switched, lift_halt, set_halt
from gateway.call.stations import Stations
from gateway.call.usage import query_usage
from gateway.services.decision import receipt
from gateway.services.usage import usage_query, usage_response
from gateway.terms.passage import Passage
from generated.agentic.gateway.v1 import (
    Halt,
    LiftHaltRequest,
    LiftHaltResponse,
    QueryUsageRequest,
    QueryUsageResponse,
    SetHaltRequest,
    SetHaltResponse,
)


class OperatorService:
    """agentic.gateway.v1.OperatorService."""

    def __init__(self, stations: Stations) -> None:
        self._at = stations

    async def set_halt(self, request: SetHaltRequest, passage: Passage) -> SetHaltResponse:
        """See the proto."""
        switched = await set_halt(self._at, passage, request.scope, request.reason)
        return SetHaltResponse(halt=_halt(switched), record=receipt(switched.record))

    async def lift_halt(self, request: LiftHaltRequest, passage: Passage) -> LiftHaltResponse:
        """See the proto."""
        switched = await lift_halt(self._at, passage, request.scope, request.reason)
        return LiftHaltResponse(halt=_halt(switched), record=receipt(switched.record))

    async def query_usage(self, request: QueryUsageRequest, passage: Passage) -> QueryUsageResponse:
        """See the proto."""
        return usage_response(await query_usage(self._at, passage, partial(usage_query, request)))


def _halt(switched: Switched) -> Halt:
    halt = switched.halt
    return Halt(scope=halt.scope, engaged=halt.engaged, reason=halt.reason, operator=halt.by)
