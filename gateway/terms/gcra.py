"""A bounded rate: the generic cell rate algorithm (ITU-T I.371) in whole microseconds."""

from typing import Final

import msgspec

from gateway.terms.clock import CLOCKS_APART_US

MINUTE_US: Final = 60_000_000


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """One event each `interval_us` in the long run, and up to `burst` at once after a quiet time."""

    interval_us: int
    burst: int

    @classmethod
    def per_minute(cls, events: int, burst: int) -> "Pace":
        """So many a minute; the interval is rounded up, so that never more pass."""
        return cls(interval_us=-(-MINUTE_US // events), burst=burst)

    def wait_us(self, due_us: int, now_us: int) -> int:
        """How long the next event must still wait; 0 if it may come now.

        `due_us` is the one number that is kept: when the next event would come if all came at the long run's distance.
        """
        return max(0, due_us - now_us - self.interval_us * (self.burst - 1))

    def credible(self, due_us: int, now_us: int, burst_max: int) -> int:
        """`due_us`, or where no burst can have led to it, what lets one event pass now and no second.

        A clock that was far ahead for a moment leaves such a number, and nothing else would ever take it away: a
        refused event writes nothing. `burst_max` is the largest burst of those who share the number.
        """
        if due_us <= now_us + self.interval_us * burst_max + CLOCKS_APART_US:
            return due_us
        return now_us + self.interval_us * (self.burst - 1)

    def after(self, due_us: int, now_us: int) -> int:
        """What `due_us` becomes with an event at `now_us`."""
        return max(due_us, now_us) + self.interval_us
