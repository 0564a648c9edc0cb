"""How long a target that would not serve at all is asked after the others: a preference, never a refusal.

A retired model, refused credentials or a reply that is none: no breaker opens for them (a caller may be behind some),
and no quota passes with time. Without this, each call would ask such a target first, and need a retry for the next one.
Pure: time and chance are arguments.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.llm.cooling import DRAWN_MS_MAX
from gateway.terms.clock import Chance
from gateway.terms.conversation import Conversation
from gateway.terms.faults import Fault
from gateway.terms.inputs import FileData

FIRST_MS: Final = 1_000
OPERATORS_MS_MAX: Final = 300_000
"""What an operator has to mend is still looked at so often."""

ASIDE_MS_MAX: Final[Mapping[Fault, int]] = MappingProxyType(
    {
        Fault.MISSING: OPERATORS_MS_MAX,
        Fault.DENIED: OPERATORS_MS_MAX,
        Fault.CREDENTIALS: DRAWN_MS_MAX,
        Fault.MALFORMED: DRAWN_MS_MAX,
    }
)
"""The faults before an answer after which a target is set aside, and the longest time for each: short where what is
wrong mends itself, or where a prompt may be behind it."""

_OF_A_REFERENCE: Final = frozenset({Fault.MISSING, Fault.DENIED})
"""What an upstream also says of a file that a prompt names, or of its cached beginning."""

_MS: Final = 1_000_000


def sets_aside(fault: Fault, conversation: Conversation) -> bool:
    """Whether this fault is its target's own: a caller that names a file nobody may read moves no other caller."""
    return fault in ASIDE_MS_MAX and not (fault in _OF_A_REFERENCE and _refers(conversation))


def _refers(conversation: Conversation) -> bool:
    parts = (part for turn in conversation.turns for part in turn.parts)
    return bool(conversation.cached_content) or any(isinstance(part, FileData) for part in parts)


class Aside:
    """Whether one target is asked after the others, as its own last answers told."""

    __slots__ = ("_faults", "_until_ns")

    def __init__(self) -> None:
        self._until_ns: int | None = None
        self._faults = 0

    def failed(self, now_ns: int, fault: Fault, chance: Chance) -> int:
        """It would not serve: for how many milliseconds the others are asked first.

        Twice as long with each fault in a row, up to the most for this one; the second half of it is drawn, so that
        instances do not come back together.
        """
        bound_ms = min(FIRST_MS << min(self._faults, 16), ASIDE_MS_MAX[fault])
        self._faults += 1
        delay_ms = bound_ms // 2 + chance.below(bound_ms // 2 + 1)
        self._until_ns = max(now_ns + delay_ms * _MS, self._until_ns or 0)
        return delay_ms

    def answered(self) -> None:
        """It serves: it has its place again."""
        self._faults, self._until_ns = 0, None

    def left_ns(self, now_ns: int) -> int:
        """How long the others are asked first yet."""
        return 0 if self._until_ns is None else max(self._until_ns - now_ns, 0)
