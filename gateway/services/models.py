"""ModelService: messages of governed model calls to terms and back."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Final

from gateway.call.converse import converse
from gateway.call.count import count
from gateway.call.inquire import list_models
from gateway.call.lasting import Bounds, LastingStreams
from gateway.call.lasting import Resumable as Mode
from gateway.call.prompted import PromptRequest
from gateway.call.resume import Resuming, converse_lasting, resume
from gateway.call.stations import Stations
from gateway.call.told import Closed, Spent, Told, ToolStep, TurnEnded
from gateway.services.decision import decision, receipt
from gateway.services.prompts import chat_prompt, count_prompt
from gateway.services.tool_running import tool_run
from gateway.terms.conversation import Attempt as Attempted
from gateway.terms.conversation import Finish as Finished
from gateway.terms.conversation import FunctionCall, Text, Thought
from gateway.terms.models import Model as ConfiguredModel
from gateway.terms.passage import Passage
from generated.agentic.gateway.v1 import (
    Attempt,
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
    Resumable,
    ResumeChatRequest,
    TextDelta,
    ThoughtDelta,
    ToolCall,
    ToolCallEvent,
    TurnEnd,
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
    Finished.TURNS_SPENT: FinishReason.TURNS_SPENT,
}

_RESUMABLE: Final = {Resumable.CONNECTION_LOST: Mode.CONNECTION_LOST, Resumable.CANCELLED: Mode.CANCELLED}


class ModelService:
    """agentic.gateway.v1.ModelService."""

    def __init__(self, stations: Stations, lasting: LastingStreams | None = None) -> None:
        """Without `lasting`, no stream can be resumed, and who asks for one that can is refused."""
        self._at = stations
        self._lasting = lasting or LastingStreams(Bounds(streams_max=0))

    async def chat(self, request: ChatRequest, passage: Passage) -> AsyncGenerator[ChatEvent, None]:
        """See the proto."""
        asked = PromptRequest(model=request.model, read=partial(chat_prompt, request))
        mode = _RESUMABLE.get(request.resumable)
        if mode is not None:
            lasting = converse_lasting(self._at, self._lasting, passage, asked, mode)
            async with aclosing(lasting) as numbered:
                async for number, event in numbered:
                    yield _event(event, number)
            return
        sequence = 0
        async with aclosing(converse(self._at, passage, asked)) as told:
            async for event in told:
                sequence += 1
                yield _event(event, sequence)

    async def resume_chat(self, request: ResumeChatRequest, passage: Passage) -> AsyncGenerator[ChatEvent, None]:
        """See the proto."""
        asked = Resuming(operation=request.operation_id, after=request.after_sequence, leave=request.leave)
        async with aclosing(resume(self._at, self._lasting, passage, asked)) as numbered:
            async for number, event in numbered:
                yield _event(event, number)

    async def count_tokens(self, request: CountTokensRequest, passage: Passage) -> CountTokensResponse:
        """See the proto."""
        asked = PromptRequest(model=request.model, read=partial(count_prompt, request))
        counted = await count(self._at, passage, asked)
        return CountTokensResponse(input_tokens=counted.tokens, estimated=counted.estimated, cached=counted.cached)

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
        case ToolStep() | TurnEnded():
            return _loop_event(told, sequence)
        case Closed():
            return ChatEvent(sequence=sequence, finish=_finish(told))


def _loop_event(told: ToolStep | TurnEnded, sequence: int) -> ChatEvent:
    if isinstance(told, ToolStep):
        return ChatEvent(sequence=sequence, tool_run=tool_run(told))
    return ChatEvent(sequence=sequence, turn_end=_turn_end(told))


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
        attempts=[_attempt(attempt) for attempt in closed.attempts],
        turns=closed.turns,
    )


def _turn_end(ended: TurnEnded) -> TurnEnd:
    operation = ended.closed.operation
    return TurnEnd(
        turn=ended.turn,
        reason=_FINISHES[ended.closed.ending.finish],
        usage=_usage(ended.spent),
        operation_id=operation.id,
        decision=decision(operation),
        intent=receipt(operation.intent),
        outcome=receipt(operation.outcome),
        attempts=[_attempt(attempt) for attempt in ended.closed.attempts],
    )


def _attempt(attempt: Attempted) -> Attempt:
    return Attempt(
        target=attempt.target,
        fault=attempt.code,
        milliseconds=attempt.milliseconds,
        hedge=attempt.hedge,
        charged_input_tokens=attempt.charged_tokens,
        charged_cost_micro_usd=attempt.charged_cost,
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
        cached_price_micro_usd_per_million=model.price.cached,
        typical_output_tokens=model.typical_output_tokens or 0,
    )
