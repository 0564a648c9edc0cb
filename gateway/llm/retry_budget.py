"""The retries that a route may make: a share of its calls, so that an upstream in trouble is not asked much more."""

from dataclasses import dataclass
from typing import Final

_RETRY: Final = 1_000
"""What one retry costs, in thousandths of a retry: what is earned stays a whole number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryTerms:
    """What a route may retry."""

    attempts: int = 1
    """Of one call, the first one included; 1: none is retried."""
    percent: int = 20
    """So many retries for a hundred calls."""
    burst: int = 10
    """So many retries may come at once, and after the start."""
    wait_ms_max: int = 5_000
    """A retry that has to wait longer is not made."""
    first_delta_ms: int = 0
    """An attempt without any answer for so long is given up for another one; 0: never."""
    hedge_after_ms: int = 0
    """Beside an attempt without any answer for so long, another target is asked, once in a call; 0: never."""
    hedge_same_target: bool = False
    """Of a model with one target, that one is asked again. Else a hedge goes to another target, or nowhere."""

    @property
    def spoilt_max(self) -> int:
        """After so many attempts of a call that may have cost their input, another one may be made: one, if any."""
        return min(self.attempts - 1, 1)


class RetryBudget:
    """Earned by calls, spent by retries and hedges; shared by all calls of a route."""

    __slots__ = ("_left", "_most", "_share")

    def __init__(self, terms: RetryTerms) -> None:
        self._share = terms.percent * _RETRY // 100
        self._left = self._most = terms.burst * _RETRY

    def called(self) -> None:
        """A call came, and earned its share."""
        self._left = min(self._left + self._share, self._most)

    def take(self) -> bool:
        """Whether one more retry may be made; then it is counted."""
        if self._left < _RETRY:
            return False
        self._left -= _RETRY
        return True
