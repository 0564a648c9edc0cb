"""Faults: what is made to go wrong, for which calls, how often; and what each does to a response.

    kind                   params (defaults)                      what happens
    status                 code (503), retry_after_s, message     an error answer instead of the call
    reset_before                                                  the connection is reset before any answer
    slow_first_byte        ms (1000)                              nothing at all for so long, then the usual answer
    reset_after_n          n (1)                                  reset after n chunks
    truncate_after_n       n (1)                                  a clean end of the body after n chunks
    stall_after_n          n (1)                                  silence after n chunks, until the client leaves
    malformed_sse          n (1)                                  chunk n is cut in the middle of its JSON
    wrong_json             n (1)                                  chunk n is valid JSON of the wrong shape
    error_event_after_n    n (1), code (503), message             an error document after n chunks, then the end
    gigantic_delta         n (1), bytes (8 MiB)                   chunk n carries a text of so many bytes
    endless                ms (the stream's interval, or 1)       chunks without end, until the client leaves
    duplicate_finish                                              the last chunk comes twice

A call that does not stream has one chunk. `endless` and `duplicate_finish` apply to streams only, truncation of a
single answer ends it in the middle of its announced length.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from localcloud.vertex.errors import ApiError, retry_info

Kind = Literal[
    "status",
    "reset_before",
    "slow_first_byte",
    "reset_after_n",
    "truncate_after_n",
    "stall_after_n",
    "malformed_sse",
    "wrong_json",
    "error_event_after_n",
    "gigantic_delta",
    "endless",
    "duplicate_finish",
]
Method = Literal[
    "",
    "generateContent",
    "streamGenerateContent",
    "countTokens",
    "rawPredict",
    "streamRawPredict",
    "chatCompletions",
    "tokenize",
]
"""Gemini's, Claude's, and those of an OpenAI-compatible server."""

STREAMS = frozenset({"streamGenerateContent", "streamRawPredict", "chatCompletions"})
STREAMS_ONLY = frozenset({"endless", "duplicate_finish", "error_event_after_n"})
MAX_FAULTS = 256


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which calls a fault is for; empty members match everything."""

    method: Method = ""
    model: str = ""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of a fault; see the module's table for which kind reads which."""

    n: int = 1
    ms: int | None = None
    code: int = 503
    message: str = ""
    retry_after_s: float | None = None
    bytes: int = 8 * 1024 * 1024


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fault; `count` calls are hit, None means every one until the fault is taken away."""

    kind: Kind
    match: Match = Match()
    count: int | None = 1
    params: Params = Params()

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.count is not None and self.count < 1:
            raise ValueError("count must be at least 1, or null for every call")
        if self.params.n < 0 or (self.params.ms or 0) < 0 or self.params.bytes < 0:
            raise ValueError("n, ms and bytes must not be negative")
        if not 400 <= self.params.code <= 599:
            raise ValueError("code must be an HTTP error status, 400 to 599")

    def hits(self, method: str, model: str) -> bool:
        """Whether the fault is for such a call and can be shown by it."""
        if self.kind in STREAMS_ONLY and method not in STREAMS:
            return False
        return self.match.method in ("", method) and self.match.model in ("", model)

    def error(self) -> ApiError:
        """The error answer of `status`, or the error document of `error_event_after_n`."""
        messages = {429: "Resource exhausted. Please try again later.", 503: "The service is currently unavailable."}
        message = self.params.message or messages.get(self.params.code, "Internal error encountered.")
        delay = self.params.retry_after_s
        return ApiError(self.params.code, message, [] if delay is None else [retry_info(delay)])


class FaultPlan:
    """The faults that wait to be claimed, in the order in which they were added."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: list[tuple[Fault, int | None]] = []
        self.claimed = 0

    @property
    def waiting(self) -> list[Fault]:
        """The faults with what is left of their counts."""
        return [msgspec.structs.replace(fault, count=left) for fault, left in self._waiting]

    def add(self, faults: Sequence[Fault]) -> None:
        """Append faults; ValueError where there are too many."""
        if len(self._waiting) + len(faults) > MAX_FAULTS:
            raise ValueError(f"at most {MAX_FAULTS} faults can wait")
        self._waiting += [(fault, fault.count) for fault in faults]

    def clear(self) -> None:
        """Take all faults away."""
        self._waiting.clear()

    def claim(self, method: str, model: str) -> Fault | None:
        """The first fault that is for this call, counted down; None if there is none."""
        for place, (fault, left) in enumerate(self._waiting):
            if fault.hits(method, model):
                self.claimed += 1
                if left == 1:
                    del self._waiting[place]
                elif left is not None:
                    self._waiting[place] = (fault, left - 1)
                return fault
        return None
