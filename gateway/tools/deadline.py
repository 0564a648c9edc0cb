"""The time that one tool call has, shared by the requests that it makes."""

from gateway.terms.clock import Clock


class Deadline:
    """Ends `timeout_ms` after it was made."""

    __slots__ = ("_clock", "_ends_ns")

    def __init__(self, clock: Clock, timeout_ms: int) -> None:
        self._clock = clock
        self._ends_ns = clock.monotonic_ns() + timeout_ms * 1_000_000

    def left_s(self, share: float = 1.0) -> float:
        """This share of the seconds that are left; never negative."""
        return max(0.0, (self._ends_ns - self._clock.monotonic_ns()) / 1e9) * share
