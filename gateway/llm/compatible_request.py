"""A conversation in the words of OpenAI's chat completions, as its many speakers take them, as bytes."""

import base64
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

import msgspec

from gateway.llm.history import identified
from gateway.llm.signatures import for_gemini, written_geminis
from gateway.terms.asks import ChatAsk
from gateway.terms.conversation import (
    ChoiceConstraint,
    Choosing,
    Constraint,
    Conversation,
    Function,
    FunctionCall,
    FunctionResult,
    JsonSchemaConstraint,
    Part,
    RegexConstraint,
    Speaker,
    Text,
    Thinking,
    Turn,
)
from gateway.terms.inputs import FileData, InlineData
from gateway.terms.models import Model, ThinkingForm

JsonObject = dict[str, object]


class Dialect(StrEnum):
    """Whose server it is: what they share is the wire, not what they do with it."""

    OPENAI = "openai"
    """OpenAI's own, and whoever follows it to the letter."""
    VLLM = "vllm"
    """vLLM from 0.12 on."""
    OLLAMA = "ollama"
    GARDEN = "garden"
    """Vertex AI's endpoint for open models (Model Garden)."""


GOOGLES: Final = "google/"
"""How the names of Gemini's models begin at Vertex AI's endpoint."""

ENFORCED: Final = {
    Dialect.OPENAI: frozenset({"json_schema"}),
    Dialect.VLLM: frozenset({"json_schema", "regex", "choice"}),
    Dialect.OLLAMA: frozenset({"json_schema"}),
    Dialect.GARDEN: frozenset({"json_schema"}),
}
"""The response constraints that each can enforce, if its model lets it."""

_CHOOSING: Final = {Choosing.AUTO: "auto", Choosing.ANY: "required", Choosing.NONE: "none"}
_encoder: Final = msgspec.json.Encoder()


def chat_body(model: Model, ask: ChatAsk, dialect: Dialect) -> bytes:
    """The body of chat/completions."""
    conversation, generation = ask.conversation, ask.conversation.generation
    body: JsonObject = {
        "model": model.upstream_id,
        "messages": list(_messages(conversation, _geminis(model, dialect))),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens" if dialect is Dialect.OPENAI else "max_tokens": ask.max_output_tokens,
    }
    chosen: JsonObject = {
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "top_k": generation.top_k,
        "seed": generation.seed,
        "presence_penalty": generation.presence_penalty,
        "frequency_penalty": generation.frequency_penalty,
        "stop": list(generation.stop_sequences) or None,
        "reasoning_effort": None if generation.thinking is Thinking.UNSPECIFIED else generation.thinking.value,
    }
    body.update({name: value for name, value in chosen.items() if value is not None})
    body.update(_functions(conversation, dialect))
    body.update(_constraint(model, conversation.constraint))
    return _encoder.encode(body)


def count_body(model: Model, conversation: Conversation) -> bytes:
    """The body of vLLM's tokenize: the prompt as its own template writes it."""
    body: JsonObject = {"model": model.upstream_id, "messages": list(_messages(conversation, None))}
    if conversation.functions:
        body["tools"] = [_declaration(function) for function in conversation.functions]
    return _encoder.encode(body)


def _geminis(model: Model, dialect: Dialect) -> ThinkingForm | None:
    """How a Gemini at Google's endpoint, which wants the signatures of its calls back, is told to think; or None."""
    return model.thinking if dialect is Dialect.GARDEN and model.upstream_id.startswith(GOOGLES) else None


def _messages(conversation: Conversation, gemini: ThinkingForm | None) -> Iterator[JsonObject]:
    if conversation.system_instruction:
        yield {"role": "system", "content": conversation.system_instruction}
    for turn in identified(conversation.turns):
        if turn.speaker is Speaker.USER:
            yield from _spoken(turn)
        elif gemini is None:
            yield from _answered(turn, _call)
        else:
            yield from _answered(for_gemini(turn, gemini), _signed_call)


def _spoken(turn: Turn) -> Iterator[JsonObject]:
    """A user's turn: a message for each result, which must follow the calls at once, then one with the rest."""
    rest: list[Part] = []
    for part in turn.parts:
        if isinstance(part, FunctionResult):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": part.result_json}
        else:
            rest.append(part)
    if len(rest) == 1 and isinstance(rest[0], Text):
        yield {"role": "user", "content": rest[0].text}
    elif rest:
        yield {"role": "user", "content": [_content(part) for part in rest]}


def _answered(turn: Turn, called: Callable[[FunctionCall], JsonObject]) -> Iterator[JsonObject]:
    """A model's turn. What it thought is left out: the wire takes no thoughts back."""
    message: JsonObject = {"role": "assistant"}
    message["content"] = "".join(part.text for part in turn.parts if isinstance(part, Text)) or None
    calls = [called(part) for part in turn.parts if isinstance(part, FunctionCall)]
    if calls:
        message["tool_calls"] = calls
    if calls or message["content"]:
        yield message


def _content(part: Part) -> JsonObject:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case InlineData() if part.mime_type.startswith("text/"):
            return {"type": "text", "text": part.data.decode()}
        case InlineData():
            encoded = base64.b64encode(part.data).decode()
            return {"type": "image_url", "image_url": {"url": f"data:{part.mime_type};base64,{encoded}"}}
        case FileData():
            return {"type": "image_url", "image_url": {"url": part.uri}}
        case _:
            raise ValueError(f"{type(part).__name__} has no words here; this must have been refused before")


def _call(call: FunctionCall) -> JsonObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}


def _signed_call(call: FunctionCall) -> JsonObject:
    """A call with its signature where Google's endpoint has it (Google, "OpenAI compatibility", thought signatures)."""
    told = _call(call)
    if call.signature:
        told["extra_content"] = {"google": {"thought_signature": written_geminis(call.signature)}}
    return told


def _declaration(function: Function) -> JsonObject:
    declared: JsonObject = {"name": function.name, "parameters": msgspec.Raw(function.parameters_json_schema.encode())}
    if function.description:
        declared["description"] = function.description
    return {"type": "function", "function": declared}


def _functions(conversation: Conversation, dialect: Dialect) -> JsonObject:
    allowed = conversation.allowed_functions
    if not conversation.functions:
        return {}
    if dialect is Dialect.OLLAMA and conversation.choosing is Choosing.NONE:
        # It has no word for "none": a model that is shown no function calls none.
        return {}
    # Of several functions that it must choose from, the wire can only say "required": so it is shown no other.
    shown = [function for function in conversation.functions if len(allowed) < 2 or function.name in allowed]
    told: JsonObject = {"tools": [_declaration(function) for function in shown]}
    if dialect is not Dialect.OLLAMA:
        told["tool_choice"] = _CHOOSING[conversation.choosing]
    if len(allowed) == 1:
        told["tool_choice"] = {"type": "function", "function": {"name": allowed[0]}}
    return told


def _constraint(model: Model, constraint: Constraint | None) -> JsonObject:
    match constraint:
        case JsonSchemaConstraint() if "json_schema" in model.constraints:
            schema: JsonObject = {"name": "answer", "schema": msgspec.Raw(constraint.schema_json.encode())}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case RegexConstraint() if "regex" in model.constraints:
            return {"structured_outputs": {"regex": constraint.pattern}}
        case ChoiceConstraint() if "choice" in model.constraints:
            return {"structured_outputs": {"choice": list(constraint.texts)}}
        case _:
            # Only verified at the end, where the operator allows that.
            return {}
