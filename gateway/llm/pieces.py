"""What every reader of answers counts and checks: room for characters, and calls that are whole or nothing."""

import re
from typing import Final

from gateway.terms.conversation import FunctionCall
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.sse import EVENT_BYTES_MAX
from gateway.terms.strict_json import JsonRefusedError, strict_object

CHARACTERS_PER_TOKEN: Final = 32
"""More than any token stands for: SentencePiece joins at most 16 characters, runs of spaces 31."""

CHARACTERS_MORE: Final = 16 * 1024
"""On top of it: names of functions, escapes in their arguments."""

CALLS_MAX: Final = 128
"""Of one answer; more than any request declares functions."""

_FUNCTION_NAME: Final = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]{0,63}")


class Room:
    """How many characters an answer of so many tokens can still have."""

    __slots__ = ("_left", "said_bytes")

    def __init__(self, max_output_tokens: int) -> None:
        self._left = max_output_tokens * CHARACTERS_PER_TOKEN + CHARACTERS_MORE
        self.said_bytes = 0
        """Of everything that came, in UTF-8, shown or not."""

    def take(self, text: str) -> None:
        """This has come; raises `UpstreamError` when it is more than the tokens can stand for."""
        self.said_bytes += len(text.encode("utf-8", "surrogatepass"))
        self._left -= len(text)
        if self._left < 0:
            raise UpstreamError(Fault.TOO_LARGE, "the answer is longer than its tokens can be")


class Calls:
    """The calls of one answer, named in their order."""

    __slots__ = ("_call_ids", "number")

    def __init__(self, call_ids: str) -> None:
        self._call_ids = call_ids
        self.number = 0

    def whole(self, name: str, arguments: str, signature: bytes = b"") -> FunctionCall:
        """A whole call; raises `UpstreamError`. What policy is to decide on must have one reading."""
        if not _FUNCTION_NAME.fullmatch(name):
            raise malformed(f"the name of a function: {name[:80]!r}")
        try:
            strict_object(arguments, size_max=EVENT_BYTES_MAX)
        except JsonRefusedError as error:
            raise malformed(f"arguments of a function: {error}") from None
        if self.number >= CALLS_MAX:
            raise UpstreamError(Fault.TOO_LARGE, f"more than {CALLS_MAX} calls in one answer")
        self.number += 1
        return FunctionCall(
            id=f"{self._call_ids}-{self.number}", name=name, arguments_json=arguments, signature=signature
        )


def malformed(detail: str) -> UpstreamError:
    """An answer that is not in the upstream's own form."""
    return UpstreamError(Fault.MALFORMED, detail)


def text_of(raw: bytes) -> str:
    """Raw JSON of an answer as text: msgspec hands it on without looking at it. Raises `UpstreamError`."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise malformed("bytes that are no UTF-8") from None
