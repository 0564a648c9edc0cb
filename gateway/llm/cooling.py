"""How long an upstream that said "too many" is spared; apart from its breaker, because it is well and only busy.

Vertex names a delay only sometimes: without one, the delay is drawn between nothing and a bound that doubles with every
refusal in a row (full jitter), so that callers do not come back together. Pure: time and chance are arguments.
"""

from typing import Final

from gateway.terms.clock import Chance

FIRST_MS: Final = 500
DRAWN_MS_MAX: Final = 30_000
NAMED_MS_MAX: Final = 300_000
"""Who is told to stay away for longer asks once after this all the same."""

_MS: Final = 1_000_000


class Cooling:
    """The quota of one target, as far as its upstream told."""

    __slots__ = ("_named", "_refusals", "_until_ns")

    def __init__(self) -> None:
        self._until_ns: int | None = None
        self._refusals = 0
        self._named = False

    def refused(self, now_ns: int, retry_after_ms: int | None, chance: Chance) -> None:
        """The upstream said "too many", and perhaps when to come again. A wait that was named is never shortened."""
        self._refusals += 1
        if retry_after_ms is None:
            bound = min(FIRST_MS << min(self._refusals - 1, 16), DRAWN_MS_MAX)
            delay_ms = chance.below(bound + 1)
        else:
            delay_ms = min(retry_after_ms, NAMED_MS_MAX)
        until_ns = now_ns + delay_ms * _MS
        if self.left_ns(now_ns) < until_ns - now_ns:
            self._until_ns, self._named = until_ns, retry_after_ms is not None

    def answered(self) -> None:
        """The upstream took a request: the next delay that has to be drawn is short again."""
        self._refusals = 0

    def left_ns(self, now_ns: int) -> int:
        """How long it should be spared yet."""
        return 0 if self._until_ns is None else max(self._until_ns - now_ns, 0)

    def named_left_ns(self, now_ns: int) -> int:
        """The same, if the upstream itself named the time; 0 where it was drawn."""
        return self.left_ns(now_ns) if self._named else 0
