"""An answer in the words of chat/completions: one document, or the chunks of its stream."""

from dataclasses import dataclass

import msgspec

from localcloud.compatible.reading import is_gemini
from localcloud.compatible.wire import DONE
from localcloud.vertex.answer import Answer
from localcloud.vertex.jsontypes import Json, JsonObject
from localcloud.vertex.prompt import Call
from localcloud.vertex.tokens import split
from localcloud.vertex.usage import PromptSize

REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "PROHIBITED_CONTENT": "content_filter"}
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What every document of one answer repeats."""

    id: str
    model: str
    created: int
    size: PromptSize
    include_usage: bool

    def envelope(self, kind: str) -> JsonObject:
        """The members beside the choices."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def usage(self, answer: Answer) -> JsonObject:
        """Cached tokens inside of the prompt, thinking inside of the completion."""
        completion = answer.output_tokens + len(answer.thoughts)
        return {
            "prompt_tokens": self.size.tokens,
            "completion_tokens": completion,
            "total_tokens": self.size.tokens + completion,
            "prompt_tokens_details": {"cached_tokens": self.size.cached},
            "completion_tokens_details": {"reasoning_tokens": len(answer.thoughts)},
        }


def reason_of(answer: Answer) -> str:
    """Why it ended."""
    if answer.blocked:
        return "content_filter"
    return "tool_calls" if answer.calls else REASONS.get(answer.finish, answer.finish.lower())


def whole_completion(answer: Answer, completion: Completion) -> bytes:
    """The one document of an answer that does not stream."""
    message: JsonObject = {"role": "assistant", "content": "".join(answer.text) or None}
    if answer.thoughts:
        message["reasoning"] = "".join(answer.thoughts)
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": _call_id(completion, place),
                "type": "function",
                "function": {"name": call.name, "arguments": encode(call.arguments).decode()},
                **_extra(call, completion),
            }
            for place, call in enumerate(answer.calls)
        ]
    choice: JsonObject = {"index": 0, "message": message, "finish_reason": reason_of(answer)}
    told = completion.envelope("chat.completion")
    return encode(told | {"choices": [choice], "usage": completion.usage(answer)})


def stream_chunks(answer: Answer, completion: Completion, size: int) -> list[bytes]:
    """The documents of a stream, `size` tokens a delta; the usage, where it is asked for, in one of its own."""
    deltas: list[JsonObject] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning": piece} for piece in _pieces(answer.thoughts, size)]
    deltas += [{"content": piece} for piece in _pieces(answer.text, size)]
    deltas += _call_deltas(answer, completion, size)
    choices: list[JsonObject] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": reason_of(answer)})
    envelope = completion.envelope("chat.completion.chunk")
    documents = [encode(envelope | {"choices": list[Json]([choice])}) for choice in choices]
    if completion.include_usage:
        documents.append(encode(envelope | {"choices": list[Json](), "usage": completion.usage(answer)}))
    return [*documents, DONE]


def _call_deltas(answer: Answer, completion: Completion, size: int) -> list[JsonObject]:
    """The calls in pieces: the first of each with id and name, the others with arguments alone.

    The pieces of parallel calls take turns, as some servers send them: only their index tells them apart.
    """
    begun: list[JsonObject] = []
    rounds: list[list[JsonObject]] = []
    for place, call in enumerate(answer.calls):
        function: JsonObject = {"name": call.name, "arguments": ""}
        own: JsonObject = {"index": place, "id": _call_id(completion, place), "type": "function", "function": function}
        begun.append(own | _extra(call, completion))
        pieces = _pieces(tuple(split(encode(call.arguments).decode())), size)
        for number, piece in enumerate(pieces):
            if number == len(rounds):
                rounds.append([])
            rounds[number].append({"index": place, "function": {"arguments": piece}})
    ordered = [*begun, *(piece for pieces in rounds for piece in pieces)]
    return [{"tool_calls": list[Json]([piece])} for piece in ordered]


def _extra(call: Call, completion: Completion) -> JsonObject:
    """What Google's endpoint puts beside a call of Gemini's."""
    if not (call.signature and is_gemini(completion.model)):
        return {}
    return {"extra_content": {"google": {"thought_signature": call.signature}}}


def _call_id(completion: Completion, place: int) -> str:
    return f"call_{completion.id[-12:]}_{place}"


def _pieces(tokens: tuple[str, ...], size: int) -> list[str]:
    return ["".join(tokens[start : start + size]) for start in range(0, len(tokens), size)]
