"""How much an agent's refusals may cost: so many have a record of their own, the others are told in sums.

A refusal of a known caller costs a durable record, and nothing else limits refusals: they spend no budget. Without a
bound, a turned agent could fill the ledger with them (governance study, section 8, row 50).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from gateway.terms.caller import Caller
from gateway.terms.clock import Clock
from gateway.terms.evidence import Denied
from gateway.terms.gcra import Pace
from gateway.terms.ids import AgentName
from gateway.terms.verdict import Kind, Refusal


@dataclass(slots=True)
class _Count:
    """The refusals of one agent."""

    caller: Caller
    due_us: int = 0
    since_us: int = 0
    """When the first of the sum was."""
    reasons: Counter[str] = field(default_factory=Counter)
    told: int = 0
    """How many of the sum are on record."""

    def sum(self, until_us: int) -> Denied:
        """The sum, to be put on record."""
        before, self.told = self.told, self.reasons.total()
        return Denied(
            caller=self.caller,
            since_unix_us=self.since_us,
            until_unix_us=until_us,
            count=self.told,
            added=self.told - before,
            reasons=dict(sorted(self.reasons.items())),
        )

    @property
    def untold(self) -> bool:
        """Whether some of the sum are not on record."""
        return self.told < self.reasons.total()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What becomes of a refusal."""

    answer: Refusal
    """What the caller is told."""
    recorded: bool
    """Whether it has a record of its own."""
    sum: Denied | None = None
    """What must be put on record of others, before its own record."""


class Denials:
    """Counts the refusals of each registered agent in this process; several gateways each count their own."""

    def __init__(self, clock: Clock, per_minute: int) -> None:
        self._clock: Final = clock
        self._per_minute: Final = per_minute
        self._pace: Final = Pace.per_minute(per_minute, per_minute)
        self._counts: Final[dict[AgentName, _Count]] = {}

    def count(self, caller: Caller, refusal: Refusal) -> Counted:
        """Count a refusal. Beyond the pace it is answered with when to come again, and summed.

        A sum is put on record at 1, 2, 4, 8 ... refusals and when the pace allows a record again. So a process that is
        killed loses less than half of what it summed since then, and no flood makes more than a few records.
        """
        now_us = self._clock.unix_us()
        count = self._counts.setdefault(caller.agent, _Count(caller))
        wait_us = self._pace.wait_us(count.due_us, now_us)
        if wait_us == 0:
            count.due_us = self._pace.after(count.due_us, now_us)
            return Counted(answer=refusal, recorded=True, sum=self._finished(count, now_us))
        if not count.reasons:
            count.since_us = now_us
        count.reasons[refusal.reason] += 1
        total = count.reasons.total()
        told = count.sum(now_us) if total & (total - 1) == 0 else None
        # Who is told of its operation must go on hearing it: "refused" would sound as if nothing had happened.
        answer = refusal if refusal.operation_id else self._too_many(wait_us)
        return Counted(answer=answer, recorded=False, sum=told)

    def rest(self) -> tuple[Denied, ...]:
        """What is summed and not on record yet, for the end of the process."""
        now_us = self._clock.unix_us()
        found = (self._finished(count, now_us) for count in self._counts.values())
        return tuple(told for told in found if told is not None)

    def _finished(self, count: _Count, now_us: int) -> Denied | None:
        """End a sum; what of it is not on record yet."""
        told = count.sum(now_us) if count.untold else None
        count.reasons.clear()
        count.told = 0
        return told

    def _too_many(self, wait_us: int) -> Refusal:
        return Refusal(
            kind=Kind.EXHAUSTED,
            reason="denials.too_many",
            sentence=f"This call is refused, as {self._per_minute} others of this agent were within a minute, and its"
            " own reason is not told any more. Correct the calls before you send more of them.",
            retry_after_ms=-(-wait_us // 1_000),
        )
