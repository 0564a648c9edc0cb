"""The configured models and the upstream that serves each."""

from collections.abc import AsyncGenerator, Mapping

from gateway.llm.history import history_faults
from gateway.llm.upstream import Upstream
from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.caller import Caller
from gateway.terms.conversation import Chunk, Conversation
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.ids import ModelName
from gateway.terms.models import Model
from gateway.terms.operations import Reservation
from gateway.terms.verdict import Kind, Refusal


class ModelCatalogue:
    """The models by name; see `gateway.call.stations.Models`."""

    def __init__(self, models: Mapping[ModelName, tuple[Model, Upstream]]) -> None:
        self._models = dict(models)

    def find(self, caller: Caller, name: ModelName) -> Model | Refusal:
        """A model that this caller may use; the same answer for one that is not configured and one not granted."""
        known = self._models.get(name)
        if known is None or name not in caller.models:
            return Refusal(
                kind=Kind.NOT_FOUND,
                reason="model.unknown",
                sentence="You have no model of this name; ListModels names yours.",
            )
        return known[0]

    def offered(self, caller: Caller) -> tuple[Model, ...]:
        """All models of this caller."""
        return tuple(model for name, (model, _) in sorted(self._models.items()) if name in caller.models)

    def check(self, model: Model, conversation: Conversation) -> Refusal | None:
        """Refuse results that belong to no call, and what the upstream cannot do."""
        faults = history_faults(conversation)
        if faults:
            return Refusal(
                kind=Kind.MALFORMED,
                reason="request.malformed",
                sentence=f"{faults[0].field}: {faults[0].description}",
                violations=faults,
            )
        _, upstream = self._models[model.name]
        return upstream.check(model, conversation)

    def stream(self, reservation: Reservation) -> AsyncGenerator[Chunk, None]:
        """The upstream's own generator, so that closing it aborts at once; see `gateway.call.stations.Models`."""
        ask = reservation.permit.ask
        if not isinstance(ask, ChatAsk):
            raise TypeError("a stream needs the reservation of a chat")
        model, upstream = self._models[ask.model]
        return upstream.stream(model, ask, f"call-{reservation.operation[-8:]}")

    async def count(self, reservation: Reservation) -> int:
        """See `gateway.call.stations.Models`."""
        ask = reservation.permit.ask
        if not isinstance(ask, CountAsk):
            raise TypeError("a count needs the reservation of a count")
        model, upstream = self._models[ask.model]
        counted = await upstream.count(model, ask)
        if counted is None:
            raise UpstreamError(Fault.REFUSED, f"{upstream.name} counts no tokens")
        return counted
