"""ModelService: messages of governed model calls to terms and back."""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from gateway.call.converse import ChatRequest as ChatTerms
from gateway.call.converse import Closed, Spent, Told, converse, count
from gateway.call.inquire import list_models
from gateway.call.stations import Stations
from gateway.services.decision import decision, receipt
from gateway.services.form import run_id
from gateway.services.prompts import chat_conversation, count_conversation
from gateway.terms.conversation import Finish as Finished
from gateway.terms.conversation import FunctionCall, Text, Thought
from gateway.terms.ids import ModelName, RunId
from gateway.terms.models import Model as ConfiguredModel
from gateway.terms.passage import Passage
from generated.agentic.gateway.v1 import (
    ChatEvent,
    ChatRequest,
    CountTokensRequest,
    CountTokensResponse,
    Finish,
    FinishReason,
    ListModelsRequest,
    ListModelsResponse,
    Model,
    TextDelta,
    ThoughtDelta,
    ToolCall,
    ToolCallEvent,
    Usage,
)
from generated.agentic.gateway.v1.codec import CODECS

_FINISHES: Final = {
    Finished.STOP: FinishReason.STOP,
    Finished.MAX_TOKENS: FinishReason.MAX_TOKENS,
    Finished.TOOL_CALLS: FinishReason.TOOL_CALLS,
    Finished.SAFETY: FinishReason.SAFETY,
    Finished.PROMPT_BLOCKED: FinishReason.PROMPT_BLOCKED,
    Finished.RECITATION: FinishReason.RECITATION,
    Finished.MALFORMED_TOOL_CALL: FinishReason.MALFORMED_TOOL_CALL,
    Finished.BUDGET_SPENT: FinishReason.BUDGET_SPENT,
    Finished.OTHER: FinishReason.OTHER,
}


class ModelService:
    """agentic.gateway.v1.ModelService."""

    def __init__(self, stations: Stations) -> None:
        self._at = stations

    async def chat(self, request: ChatRequest, passage: Passage) -> AsyncGenerator[ChatEvent, None]:
        """See the proto."""
        asked = ChatTerms(
            model=ModelName(request.model),
            conversation=chat_conversation(request),
            run=run_id(request.run_id),
            digest=_digest(request),
        )
        sequence = 0
        async with aclosing(converse(self._at, passage, asked)) as told:
            async for event in told:
                sequence += 1
                yield _event(event, sequence)

    async def count_tokens(self, request: CountTokensRequest, passage: Passage) -> CountTokensResponse:
        """See the proto."""
        asked = ChatTerms(
            model=ModelName(request.model),
            conversation=count_conversation(request),
            run=RunId(""),
            digest=_digest(request),
        )
        return CountTokensResponse(input_tokens=await count(self._at, passage, asked))

    async def list_models(self, _: ListModelsRequest, passage: Passage) -> ListModelsResponse:
        """See the proto."""
        return ListModelsResponse(models=[_model(model) for model in await list_models(self._at, passage)])


def _digest(request: ChatRequest | CountTokensRequest) -> bytes:
    """SHA-256 over the message as our codec writes it: the same whatever protocol it came by."""
    return hashlib.sha256(CODECS[type(request)].encode(request)).digest()


def _event(told: Told, sequence: int) -> ChatEvent:
    match told:
        case Text():
            return ChatEvent(sequence=sequence, text=TextDelta(text=told.text, signature=told.signature))
        case Thought():
            return ChatEvent(sequence=sequence, thought=ThoughtDelta(text=told.text, signature=told.signature))
        case FunctionCall():
            call = ToolCall(id=told.id, name=told.name, arguments_json=told.arguments_json)
            return ChatEvent(sequence=sequence, tool_call=ToolCallEvent(call=call, signature=told.signature))
        case Spent():
            return ChatEvent(sequence=sequence, usage=_usage(told))
        case Closed():
            return ChatEvent(sequence=sequence, finish=_finish(told))


def _usage(spent: Spent) -> Usage:
    return Usage(
        input_tokens=spent.usage.input_tokens,
        output_tokens=spent.usage.output_tokens,
        thinking_tokens=spent.usage.thinking_tokens,
        cached_tokens=spent.usage.cached_tokens,
        cost_micro_usd=spent.cost,
    )


def _finish(closed: Closed) -> Finish:
    operation = closed.operation
    return Finish(
        reason=_FINISHES[closed.ending.finish],
        upstream_reason=closed.ending.upstream_reason,
        model_version=closed.ending.model_version,
        operation_id=operation.id,
        decision=decision(operation),
        intent=receipt(operation.intent),
        outcome=receipt(operation.outcome),
    )


def _model(model: ConfiguredModel) -> Model:
    return Model(
        name=model.name,
        description=model.description,
        max_output_tokens=model.max_output_tokens,
        constraints=sorted(model.constraints),
        input_price_micro_usd_per_million=model.price.input,
        output_price_micro_usd_per_million=model.price.output,
    )
