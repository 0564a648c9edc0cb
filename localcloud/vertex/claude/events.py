"""An answer in Anthropic's words: one message, or the events of its stream."""

from dataclasses import dataclass

import msgspec

from localcloud.vertex.answer import Answer
from localcloud.vertex.jsontypes import JsonObject
from localcloud.vertex.prompt import Call
from localcloud.vertex.tokens import split
from localcloud.vertex.usage import PromptSize

REASONS = {"STOP": "end_turn", "MAX_TOKENS": "max_tokens", "SAFETY": "refusal", "PROHIBITED_CONTENT": "refusal"}
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a message has beside its content. `stop_sequences`: those that were asked for."""

    id: str
    model: str
    size: PromptSize
    thinks: bool
    stopped_by: str | None = None

    def head(self, answer: Answer | None) -> JsonObject:
        """The message; at the beginning of a stream nothing is known of its end."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None if answer is None else reason_of(answer, self.stopped_by),
            "stop_sequence": None if answer is None else self.stopped_by,
            "usage": self.usage(answer),
        }

    def usage(self, answer: Answer | None) -> JsonObject:
        """Cached tokens beside the input, thinking inside of the output."""
        told: JsonObject = {
            "input_tokens": self.size.tokens - self.size.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.size.cached,
            "output_tokens": 1,
        }
        if answer is not None:
            told["output_tokens"] = answer.output_tokens + len(answer.thoughts)
            if answer.thoughts:
                told["output_tokens_details"] = {"thinking_tokens": len(answer.thoughts)}
        return told


def reason_of(answer: Answer, stopped_by: str | None) -> str:
    """Why it ended."""
    if answer.blocked:
        return "refusal"
    if answer.calls:
        return "tool_use"
    if stopped_by is not None and answer.finish == "STOP":
        return "stop_sequence"
    return REASONS.get(answer.finish, answer.finish.lower())


def whole_message(answer: Answer, message: Message) -> bytes:
    """The one document of rawPredict."""
    told = message.head(answer)
    told["content"] = [_filled(block, pieces) for block, pieces in _blocks(answer, message, size=1 << 30)]
    return encode(told)


def stream_events(answer: Answer, message: Message, size: int) -> list[bytes]:
    """The documents of streamRawPredict, `size` tokens a delta."""
    events: list[JsonObject] = [{"type": "message_start", "message": message.head(None)}]
    for index, (block, pieces) in enumerate(_blocks(answer, message, size)):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        if index == 0:
            events.append({"type": "ping"})
        events += [{"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces]
        events.append({"type": "content_block_stop", "index": index})
    delta: JsonObject = {"stop_reason": reason_of(answer, message.stopped_by), "stop_sequence": message.stopped_by}
    events.append({"type": "message_delta", "delta": delta, "usage": message.usage(answer)})
    events.append({"type": "message_stop"})
    return [encode(event) for event in events]


def _blocks(answer: Answer, message: Message, size: int) -> list[tuple[JsonObject, list[JsonObject]]]:
    """Each block as it begins, with the deltas that fill it."""
    blocks: list[tuple[JsonObject, list[JsonObject]]] = []
    if answer.blocked:
        return blocks
    if message.thinks and answer.thoughts:
        shown = _pieces(answer.thoughts, size) if answer.thoughts_shown else []
        deltas: list[JsonObject] = [{"type": "thinking_delta", "thinking": piece} for piece in shown]
        signature = answer.signature or next((call.signature for call in answer.calls), "")
        deltas.append({"type": "signature_delta", "signature": signature})
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if answer.text:
        texts: list[JsonObject] = [{"type": "text_delta", "text": piece} for piece in _pieces(answer.text, size)]
        blocks.append(({"type": "text", "text": ""}, texts))
    blocks += [_call(call, place, message, size) for place, call in enumerate(answer.calls)]
    return blocks


def _call(call: Call, place: int, message: Message, size: int) -> tuple[JsonObject, list[JsonObject]]:
    block: JsonObject = {"type": "tool_use", "id": f"toolu_{message.id}_{place}", "name": call.name, "input": {}}
    pieces = _pieces(tuple(split(encode(call.arguments).decode())), size)
    # The real server begins with an empty piece.
    return block, [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]


def _filled(block: JsonObject, deltas: list[JsonObject]) -> JsonObject:
    """The block as it is once all of its deltas have come."""
    filled = dict(block)
    arguments = ""
    for delta in deltas:
        arguments += str(delta.get("partial_json", ""))
        for name in ("text", "thinking", "signature"):
            if name in delta:
                filled[name] = f"{filled[name]}{delta[name]}"
    if block["type"] == "tool_use":
        filled["input"] = msgspec.json.decode(arguments or "{}")
    return filled


def _pieces(tokens: tuple[str, ...], size: int) -> list[str]:
    return ["".join(tokens[start : start + size]) for start in range(0, len(tokens), size)]
