"""The breaker of one target: it stops asking an upstream that fails, and lets one call at a time try it again.

Whoever asks the upstream enters first and tells afterwards how it went. What a caller can cause (a refused request, a
quota, leaving) is never told as a failure, so no caller can open a breaker for the others. Pure: time is an argument,
in nanoseconds on a scale that never goes back.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

_PARTS: Final = 10
"""The window slides in so many steps."""

_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerTerms:
    """When a breaker opens, and for how long."""

    failures: int = 5
    """It opens after so many failures within the window, if they are half of the attempts or more."""
    window_ms: int = 10_000
    open_ms: int = 5_000
    """How long it stays open at first. Doubles with every trial that fails."""
    open_ms_max: int = 120_000


class Standing(Enum):
    """What a breaker lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing."""
    HALF_OPEN = "half_open"
    """One call at a time, which shows whether the upstream is back."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Proof of having entered. What is told of an entry from before the last change of standing counts no more."""

    epoch: int


class Breaker:
    """Counts attempts and failures in a sliding window."""

    __slots__ = ("_epoch", "_open_ms", "_opened_ns", "_parts", "_terms", "_trying")

    def __init__(self, terms: BreakerTerms) -> None:
        self._terms = terms
        self._epoch = 0
        self._open_ms = terms.open_ms
        self._opened_ns: int | None = None
        self._trying = False
        self._parts: dict[int, list[int]] = {}
        """Attempts and failures by the number of the window's part; never more than `_PARTS` of them."""

    def standing(self, now_ns: int) -> Standing:
        """Where it stands now."""
        if self._opened_ns is None:
            return Standing.CLOSED
        return Standing.OPEN if self._open_left_ns(now_ns) > 0 else Standing.HALF_OPEN

    def closed_for_ns(self, now_ns: int) -> int:
        """How long nobody may enter, as far as is known: 0 if one may now, and at least 1 while another one tries."""
        if self._opened_ns is None:
            return 0
        return max(self._open_left_ns(now_ns), int(self._trying))

    def enter(self, now_ns: int) -> Entry | None:
        """The right to ask the upstream once, or None."""
        if self.closed_for_ns(now_ns) > 0:
            return None
        self._trying = self._opened_ns is not None
        return Entry(self._epoch)

    def answered(self, entry: Entry, now_ns: int) -> None:
        """The upstream answered; also if it said no to this request. A trial that is answered closes the breaker."""
        if entry.epoch != self._epoch:
            return
        if self._opened_ns is None:
            self._part(now_ns)[0] += 1
        else:
            self._change(opened_ns=None)
            self._open_ms = self._terms.open_ms

    def failed(self, entry: Entry, now_ns: int) -> None:
        """The upstream could not be reached, broke off or fell silent."""
        if entry.epoch != self._epoch:
            return
        if self._opened_ns is not None:
            self._open_ms = min(self._open_ms * 2, self._terms.open_ms_max)
            self._change(opened_ns=now_ns)
            return
        part = self._part(now_ns)
        part[0] += 1
        part[1] += 1
        attempts, failures = map(sum, zip(*self._parts.values(), strict=True))
        if failures >= self._terms.failures and failures * 2 >= attempts:
            self._change(opened_ns=now_ns)

    def left(self, entry: Entry) -> None:
        """Whoever entered went without knowing; a trial is free for the next."""
        if entry.epoch == self._epoch:
            self._trying = False

    def _open_left_ns(self, now_ns: int) -> int:
        return (self._opened_ns or 0) + self._open_ms * _MS - now_ns

    def _change(self, opened_ns: int | None) -> None:
        self._opened_ns = opened_ns
        self._epoch += 1
        self._trying = False
        self._parts.clear()

    def _part(self, now_ns: int) -> list[int]:
        number = now_ns * _PARTS // (self._terms.window_ms * _MS)
        if number not in self._parts:
            for old in [part for part in self._parts if part <= number - _PARTS]:
                del self._parts[old]
        return self._parts.setdefault(number, [0, 0])
