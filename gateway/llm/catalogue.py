"""The configured models and the upstream that serves each."""

from collections.abc import AsyncGenerator, Mapping

from gateway.llm.history import history_faults
from gateway.llm.route import MayHedge, Route
from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.caller import Caller
from gateway.terms.clock import Clock
from gateway.terms.conversation import Conversation, Routed, TokenCount
from gateway.terms.ids import ModelName
from gateway.terms.models import Model
from gateway.terms.operations import Reservation
from gateway.terms.verdict import Kind, Refusal, malformed


class ModelCatalogue:
    """The routes by the names of their models; see `gateway.call.stations.Models`."""

    def __init__(self, routes: Mapping[ModelName, Route], clock: Clock) -> None:
        self._routes = dict(routes)
        self._clock = clock

    def find(self, caller: Caller, name: ModelName) -> Model | Refusal:
        """A model that this caller may use; the same answer for one that is not configured and one not granted."""
        route = self._routes.get(name)
        if route is None or name not in caller.models:
            return Refusal(
                kind=Kind.NOT_FOUND,
                reason="model.unknown",
                sentence="You have no model of this name; ListModels names yours.",
            )
        return route.model_at(self._clock.unix_us())

    def offered(self, caller: Caller) -> tuple[Model, ...]:
        """All models of this caller that have a price now."""
        now_us = self._clock.unix_us()
        models = [route.model_at(now_us) for name, route in sorted(self._routes.items()) if name in caller.models]
        return tuple(model for model in models if isinstance(model, Model))

    def check(self, model: Model, conversation: Conversation) -> Refusal | None:
        """Refuse results that belong to no call, cached beginnings that no target has, and what no target can do."""
        faults = history_faults(conversation)
        if faults:
            return Refusal(
                kind=Kind.MALFORMED,
                reason="request.malformed",
                sentence=f"{faults[0].field}: {faults[0].description}",
                violations=faults,
            )
        cached = model.inputs.cached
        if conversation.cached_content and conversation.cached_content not in cached:
            return malformed("cached_content", f"{model.name} has: {', '.join(sorted(cached)) or 'none'}")
        return self._routes[model.name].check(conversation)

    def counted(self, model: Model, conversation: Conversation) -> int | None:
        """See `gateway.call.stations.Models`."""
        return self._routes[model.name].counted(conversation)

    def stream(
        self, reservation: Reservation, deadline_ns: int | None, may_hedge: MayHedge | None = None
    ) -> AsyncGenerator[Routed, None]:
        """The route's own generator, so that closing it aborts at once; see `gateway.call.stations.Models`."""
        ask = reservation.permit.ask
        if not isinstance(ask, ChatAsk):
            raise TypeError("a stream needs the reservation of a chat")
        return self._routes[ask.model].stream(ask, f"call-{reservation.operation[-8:]}", deadline_ns, may_hedge)

    async def count(self, reservation: Reservation, deadline_ns: int | None) -> TokenCount:
        """See `gateway.call.stations.Models`."""
        ask = reservation.permit.ask
        if not isinstance(ask, CountAsk):
            raise TypeError("a count needs the reservation of a count")
        return await self._routes[ask.model].count(ask, deadline_ns)
