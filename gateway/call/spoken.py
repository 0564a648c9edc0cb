"""What a model said in one turn, collected while it streams, as the next turn's history has it."""

import hashlib
import json
from collections.abc import Iterable

from gateway.terms.conversation import FunctionCall, FunctionResult, Part, Speaker, Text, Thought, Turn


class Spoken:
    """Parts in their order, neighbouring deltas of one kind joined."""

    def __init__(self) -> None:
        self.calls: list[FunctionCall] = []
        self._parts: list[Part] = []
        self._words: list[str] = []
        self._kind: type[Text | Thought] = Text

    def take(self, part: Text | Thought | FunctionCall) -> None:
        """Take in one part of the stream.

        A signature belongs to the delta that it came with and joins nothing: its provider wants it back unchanged.
        """
        if isinstance(part, FunctionCall):
            self._join(b"")
            self._parts.append(part)
            self.calls.append(part)
            return
        if type(part) is not self._kind or part.signature:
            self._join(b"")
        self._kind = type(part)
        self._words.append(part.text)
        if part.signature:
            self._join(part.signature)

    def turn(self) -> Turn:
        """The model's turn."""
        self._join(b"")
        return Turn(speaker=Speaker.MODEL, parts=tuple(self._parts))

    def _join(self, signature: bytes) -> None:
        text = "".join(self._words)
        self._words.clear()
        if text or signature:
            self._parts.append(self._kind(text=text, signature=signature))


def extended(digest: bytes, turns: Iterable[Turn]) -> bytes:
    """SHA-256 over a prompt's digest and the turns that were added to it, as JSON of a fixed form."""
    added = [[turn.speaker.value, [_fields(part) for part in turn.parts]] for turn in turns]
    return hashlib.sha256(digest + json.dumps(added, separators=(",", ":")).encode()).digest()


def _fields(part: Part) -> list[str]:
    match part:
        case Text() | Thought():
            return [type(part).__name__, part.text, part.signature.hex()]
        case FunctionCall():
            return ["FunctionCall", part.id, part.name, part.arguments_json, part.signature.hex()]
        case FunctionResult():
            return ["FunctionResult", part.call_id, part.name, part.result_json]
        case _:
            raise TypeError("nobody adds a file to a stream that runs")
