"""How long an upstream is spared that said "too many", or when to come again; apart from its breaker.

Who says "too many" is well and only busy.

Vertex names a delay only sometimes: without one, the delay is drawn between nothing and a bound that doubles with every
refusal in a row (full jitter), so that callers do not come back together. Pure: time and chance are arguments.
"""

from typing import Final

from gateway.terms.clock import Chance
from gateway.terms.faults import Fault

FIRST_MS: Final = 500
DRAWN_MS_MAX: Final = 30_000
NAMED_MS_MAX: Final = 300_000
"""Who is told to stay away for longer asks once after this all the same."""

_MS: Final = 1_000_000


class Cooling:
    """When one target may be asked again, as far as its upstream told."""

    __slots__ = ("_named", "_refusals", "_until_ns", "fault")

    def __init__(self) -> None:
        self._until_ns: int | None = None
        self._refusals = 0
        self._named = False
        self.fault = Fault.QUOTA
        """Why it is spared."""

    def refused(self, now_ns: int, retry_after_ms: int | None, chance: Chance) -> None:
        """The upstream said "too many", and perhaps when to come again. A wait that was named is never shortened."""
        self._refusals += 1
        if retry_after_ms is not None:
            self.told(now_ns, retry_after_ms, Fault.QUOTA)
            return
        bound = min(FIRST_MS << min(self._refusals - 1, 16), DRAWN_MS_MAX)
        self._spare(now_ns, chance.below(bound + 1), Fault.QUOTA, named=False)

    def told(self, now_ns: int, retry_after_ms: int, fault: Fault) -> None:
        """The upstream said when to come again, with this fault."""
        self._spare(now_ns, min(retry_after_ms, NAMED_MS_MAX), fault, named=True)

    def answered(self) -> None:
        """The upstream took a request: the next delay that has to be drawn is short again."""
        self._refusals = 0

    def _spare(self, now_ns: int, delay_ms: int, fault: Fault, *, named: bool) -> None:
        if self.left_ns(now_ns) < delay_ms * _MS:
            self._until_ns, self._named, self.fault = now_ns + delay_ms * _MS, named, fault

    def left_ns(self, now_ns: int) -> int:
        """How long it should be spared yet."""
        return 0 if self._until_ns is None else max(self._until_ns - now_ns, 0)

    def named_left_ns(self, now_ns: int) -> int:
        """The same, if the upstream itself named the time; 0 where it was drawn."""
        return self.left_ns(now_ns) if self._named else 0
