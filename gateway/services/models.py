"""ModelService: messages of governed model calls to terms and back."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Final

from gateway.call.converse import Closed, Spent, Told, converse
from gateway.call.count import count
from gateway.call.inquire import list_models
from gateway.call.prompted import PromptRequest
from gateway.call.stations import Stations
from gateway.services.decision import decision, receipt
from gateway.services.prompts import chat_prompt, count_prompt
from gateway.terms.conversation import Finish as Finished
from gateway.terms.conversation import FunctionCall, Text, Thought
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
    MediaInput,
    Model,
    TextDelta,
    ThoughtDelta,
    ToolCall,
    ToolCallEvent,
    Usage,
)

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
    Finished.CONSTRAINT_UNMET: FinishReason.CONSTRAINT_UNMET,
}


class ModelService:
    """agentic.gateway.v1.ModelService."""

    def __init__(self, stations: Stations) -> None:
        self._at = stations

    async def chat(self, request: ChatRequest, passage: Passage) -> AsyncGenerator[ChatEvent, None]:
        """See the proto."""
        asked = PromptRequest(model=request.model, read=partial(chat_prompt, request))
        sequence = 0
        async with aclosing(converse(self._at, passage, asked)) as told:
            async for event in told:
                sequence += 1
                yield _event(event, sequence)

    async def count_tokens(self, request: CountTokensRequest, passage: Passage) -> CountTokensResponse:
        """See the proto."""
        asked = PromptRequest(model=request.model, read=partial(count_prompt, request))
        return CountTokensResponse(input_tokens=await count(self._at, passage, asked))

    async def list_models(self, _: ListModelsRequest, passage: Passage) -> ListModelsResponse:
        """See the proto."""
        return ListModelsResponse(models=[_model(model) for model in await list_models(self._at, passage)])


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
        estimated=spent.usage.estimated,
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
        verified_constraints=sorted(model.verified),
        media=[MediaInput(mime_type=kind, tokens_max=most) for kind, most in sorted(model.inputs.media.items())],
        file_prefixes=list(model.inputs.file_prefixes),
        cached_contents=sorted(model.inputs.cached),
    )
