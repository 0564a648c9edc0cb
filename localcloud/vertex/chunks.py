"""An answer as the JSON documents of a response: one for generateContent, a sequence for streamGenerateContent.

The bytes are made before the first of them is sent, so that a paced stream costs one write a chunk and nothing else.
"""

from dataclasses import dataclass

import msgspec

from localcloud.vertex.answer import WITH_CONTENT, Answer
from localcloud.vertex.jsontypes import JsonObject
from localcloud.vertex.prompt import Call
from localcloud.vertex.spelling import Spelling

encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What every document of one response repeats, and the usage that only the last one tells whole."""

    model: str
    response_id: str
    create_time: str
    usage: JsonObject
    spell: Spelling

    def closing(self, *, last: bool) -> dict[str, object]:
        """The members after the candidates; all documents but the last tell only the usage's traffic type."""
        return {
            "usageMetadata": self.usage if last else {"trafficType": self.usage["trafficType"]},
            "modelVersion": self.model,
            "createTime": self.create_time,
            "responseId": self.response_id,
        }


def whole_document(answer: Answer, envelope: Envelope) -> bytes:
    """The one document of generateContent."""
    if answer.blocked:
        return _blocked(answer, envelope)
    parts = [
        *([_text("".join(answer.thoughts), thought=True)] if _shown(answer) else []),
        *([_text("".join(answer.text), signature=answer.signature)] if answer.text else []),
        *map(_call, answer.calls),
    ]
    return _last(answer, envelope, parts)


def stream_documents(answer: Answer, envelope: Envelope, size: int) -> list[bytes]:
    """The documents of streamGenerateContent: `size` tokens of thought or text each, one for each call.

    The finish reason and the whole usage are in the last one, which has no content where the reason allows none.
    """
    if answer.blocked:
        return [_blocked(answer, envelope)]
    parts = [_text(piece, thought=True) for piece in _pieces(answer.thoughts, size)] if _shown(answer) else []
    texts = _pieces(answer.text, size)
    parts += [_text(piece) for piece in texts[:-1]]
    parts += [_text(piece, signature=answer.signature) for piece in texts[-1:]]
    parts += map(_call, answer.calls)
    final = [parts.pop()] if parts and answer.finish in WITH_CONTENT else []
    tail = b"]}}]," + encode(envelope.closing(last=False))[1:]
    middle = [b'{"candidates":[{"content":{"role":"model","parts":[' + part + tail for part in parts]
    return [*middle, _last(answer, envelope, final)]


def _shown(answer: Answer) -> bool:
    return answer.thoughts_shown and bool(answer.thoughts)


def _pieces(tokens: tuple[str, ...], size: int) -> list[str]:
    return ["".join(tokens[start : start + size]) for start in range(0, len(tokens), size)]


def _text(text: str, *, thought: bool = False, signature: str = "") -> bytes:
    part: dict[str, object] = {"text": text}
    if thought:
        part["thought"] = True
    if signature:
        part["thoughtSignature"] = signature
    return encode(part)


def _call(call: Call) -> bytes:
    part: dict[str, object] = {"functionCall": {"name": call.name, "args": call.arguments}}
    if call.signature:
        part["thoughtSignature"] = call.signature
    return encode(part)


def _last(answer: Answer, envelope: Envelope, parts: list[bytes]) -> bytes:
    candidate: dict[str, object] = {}
    if parts:
        candidate["content"] = {"role": "model", "parts": [msgspec.Raw(part) for part in parts]}
    elif answer.finish in WITH_CONTENT:
        candidate["content"] = {"role": "model"}
    candidate["finishReason"] = envelope.spell("FinishReason", answer.finish)
    if answer.finish_message:
        candidate["finishMessage"] = answer.finish_message
    if answer.finish == "SAFETY":
        candidate["safetyRatings"] = [_rating(envelope.spell)]
    return encode({"candidates": [candidate], **envelope.closing(last=True)})


def _blocked(answer: Answer, envelope: Envelope) -> bytes:
    feedback = {
        "blockReason": envelope.spell("BlockedReason", answer.blocked),
        "blockReasonMessage": f"The prompt was blocked: {answer.blocked}.",
        "safetyRatings": [_rating(envelope.spell)],
    }
    return encode({"promptFeedback": feedback, **envelope.closing(last=True)})


def _rating(spell: Spelling) -> dict[str, object]:
    return {
        "category": spell("HarmCategory", "HARM_CATEGORY_DANGEROUS_CONTENT"),
        "probability": spell("HarmProbability", "HIGH"),
        "blocked": True,
    }
