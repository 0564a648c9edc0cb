"""A conversation in the words of Anthropic's Messages API as Vertex AI takes them, as bytes."""

import base64
from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.llm.history import identified
from gateway.llm.signatures import CLAUDE, CLAUDE_REDACTED
from gateway.llm.thinking import BUDGETS
from gateway.terms.asks import ChatAsk
from gateway.terms.conversation import (
    Choosing,
    Conversation,
    Function,
    FunctionCall,
    FunctionResult,
    Generation,
    JsonSchemaConstraint,
    Part,
    Speaker,
    Text,
    Thinking,
    Thought,
    Turn,
)
from gateway.terms.inputs import InlineData
from gateway.terms.models import Model, ThinkingForm

JsonObject = dict[str, object]

ENFORCED: Final = frozenset({"json_schema"})
"""The response constraints that the Messages API itself enforces."""

VERSION: Final = "vertex-2023-10-16"
_ROLES: Final = {Speaker.USER: "user", Speaker.MODEL: "assistant"}
_EFFORTS: Final = {Thinking.LOW: "low", Thinking.MEDIUM: "medium", Thinking.HIGH: "high"}
_encoder: Final = msgspec.json.Encoder()


def chat_body(model: Model, ask: ChatAsk) -> bytes:
    """The body of streamRawPredict."""
    conversation = ask.conversation
    body = _prompt(conversation)
    body |= {"anthropic_version": VERSION, "stream": True, "max_tokens": ask.max_output_tokens}
    generation = conversation.generation
    chosen: JsonObject = {
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "top_k": generation.top_k,
        "stop_sequences": list(generation.stop_sequences) or None,
    }
    body.update({name: value for name, value in chosen.items() if value is not None})
    if conversation.functions:
        body["tool_choice"] = _choice(conversation)
    body.update(_thinking(model, ask))
    output = _output(model, conversation)
    if output:
        body["output_config"] = output
    return _encoder.encode(body)


def count_body(model: Model, conversation: Conversation) -> bytes:
    """The body of count-tokens."""
    return _encoder.encode(_prompt(conversation) | {"anthropic_version": VERSION, "model": model.upstream_id})


def _prompt(conversation: Conversation) -> JsonObject:
    body: JsonObject = {"messages": [_message(turn) for turn in identified(conversation.turns)]}
    if conversation.system_instruction:
        body["system"] = conversation.system_instruction
    if conversation.functions:
        allowed = conversation.allowed_functions
        # Of several functions that it must choose from, the wire can only say "any": so it is shown no other.
        narrowed = len(allowed) > 1
        body["tools"] = [
            _declaration(function) for function in conversation.functions if not narrowed or function.name in allowed
        ]
    return body


def _message(turn: Turn) -> JsonObject:
    # Results come first in a user's turn (the API's own rule); the other parts keep their order.
    parts = sorted(turn.parts, key=lambda part: not isinstance(part, FunctionResult))
    return {"role": _ROLES[turn.speaker], "content": list(_blocks(parts))}


def _blocks(parts: list[Part]) -> Iterator[JsonObject]:
    """The blocks of a turn. The pieces of a thought are joined again: its signature came with the last of them."""
    thought = ""
    for part in parts:
        if isinstance(part, Thought):
            thought += part.text
            if part.signature.startswith(CLAUDE_REDACTED):
                yield {"type": "redacted_thinking", "data": part.signature[len(CLAUDE_REDACTED) :].decode()}
            elif part.signature.startswith(CLAUDE):
                yield {"type": "thinking", "thinking": thought, "signature": part.signature[len(CLAUDE) :].decode()}
            # Thoughts without Claude's signature are no part of a conversation with Claude: the API takes none.
            thought = "" if part.signature else thought
        elif not isinstance(part, Text) or part.text:
            yield _block(part)


def _block(part: Part) -> JsonObject:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case FunctionCall():
            arguments = msgspec.Raw(part.arguments_json.encode())
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
        case FunctionResult():
            return {"type": "tool_result", "tool_use_id": part.call_id, "content": part.result_json}
        case InlineData():
            return _file(part)
        case _:
            raise ValueError(f"{type(part).__name__} has no words here; this must have been refused before")


def _file(part: InlineData) -> JsonObject:
    if part.mime_type.startswith("text/"):
        source: JsonObject = {"type": "text", "media_type": "text/plain", "data": part.data.decode()}
        return {"type": "document", "source": source}
    encoded = base64.b64encode(part.data).decode()
    source = {"type": "base64", "media_type": part.mime_type, "data": encoded}
    return {"type": "image" if part.mime_type.startswith("image/") else "document", "source": source}


def _declaration(function: Function) -> JsonObject:
    schema = msgspec.Raw(function.parameters_json_schema.encode())
    declared: JsonObject = {"name": function.name, "input_schema": schema}
    if function.description:
        declared["description"] = function.description
    return declared


def _choice(conversation: Conversation) -> JsonObject:
    if conversation.choosing is Choosing.ANY and len(conversation.allowed_functions) == 1:
        return {"type": "tool", "name": conversation.allowed_functions[0]}
    return {"type": conversation.choosing.value}


def thinks(model: Model, generation: Generation) -> bool:
    """Whether it is told to think: by a level, or by the wish to hear thoughts where it then chooses how much."""
    if generation.thinking is Thinking.UNSPECIFIED:
        return generation.include_thoughts and model.thinking is ThinkingForm.LEVEL
    return generation.thinking is not Thinking.MINIMAL


def _thinking(model: Model, ask: ChatAsk) -> JsonObject:
    generation = ask.conversation.generation
    shown = "summarized" if generation.include_thoughts else "omitted"
    if not thinks(model, generation):
        return {} if generation.thinking is Thinking.UNSPECIFIED else {"thinking": {"type": "disabled"}}
    match generation.thinking:
        case level if model.thinking is ThinkingForm.BUDGET:
            tokens = min(BUDGETS[level], ask.max_output_tokens - 1)
            return {"thinking": {"type": "enabled", "budget_tokens": tokens, "display": shown}}
        case _:
            return {"thinking": {"type": "adaptive", "display": shown}}


def _output(model: Model, conversation: Conversation) -> JsonObject:
    output: JsonObject = {}
    level = conversation.generation.thinking
    if model.thinking is ThinkingForm.LEVEL and level in _EFFORTS:
        output["effort"] = _EFFORTS[level]
    constraint = conversation.constraint
    if isinstance(constraint, JsonSchemaConstraint) and "json_schema" in model.constraints:
        output["format"] = {"type": "json_schema", "schema": msgspec.Raw(constraint.schema_json.encode())}
    return output
