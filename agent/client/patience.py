"""How long and how often a call is tried."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import Final

_RANDOM: Final = SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Bounds of a call. Seconds. Raises `ValueError` for bounds that bound nothing."""

    timeout_s: float = 60.0
    """For a unary call with all of its attempts."""
    stream_timeout_s: float = 3300.0
    """For a streamed answer: the longest that the gateway lets one run, below Cloud Run's limit of an hour."""
    attempts: int = 5
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0
    """A gateway that asks for more than this is not waited for: its error goes to the caller, and says how long."""
    silence_s: float = 30.0
    """A connection with running calls on which nothing comes for so long is asked for a sign of life, and given up
    when nothing comes for as long again."""
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    chance: Callable[[], float] = _RANDOM.random
    """A number from 0 to below 1."""

    def __post_init__(self) -> None:
        for name in ("timeout_s", "stream_timeout_s", "longest_pause_s", "silence_s"):
            if not 0 < getattr(self, name) <= 86_400:
                raise ValueError(f"{name}: a number of seconds above 0, up to a day")
        if not 0 <= self.first_pause_s <= self.longest_pause_s:
            raise ValueError("first_pause_s: from 0 to longest_pause_s")
        if self.attempts < 1:
            raise ValueError("attempts: 1 or more")

    def pause_s(self, attempts: int, asked_s: float | None) -> float | None:
        """The pause after so many attempts, exponential with full jitter and at least what the gateway asks for.

        None when no attempt is left, or the gateway asks for longer than anyone here waits.
        """
        if attempts >= self.attempts or (asked_s or 0.0) > self.longest_pause_s:
            return None
        most = min(self.first_pause_s * 2.0**attempts, self.longest_pause_s)
        return max(self.chance() * most, asked_s or 0.0)
