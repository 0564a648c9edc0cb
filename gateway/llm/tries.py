"""The attempts of one call: which target is asked, and whether another one may be asked after a fault.

An attempt is made again only before the first chunk of an answer: what the caller has heard cannot be taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.llm.aside import sets_aside
from gateway.llm.breaker import Entry
from gateway.llm.breaker import Standing as BreakerStanding
from gateway.llm.retry_budget import RetryBudget, RetryTerms
from gateway.llm.standing import AILING, Standing, next_standing
from gateway.llm.vertex_error import RETRY_MS_MAX
from gateway.terms.clock import Chance, Clock, Sleep
from gateway.terms.conversation import Attempt, Conversation
from gateway.terms.faults import UNSPENT, Fault, UpstreamError
from gateway.terms.limits import COMMIT_RESERVE_S, UPSTREAM_RESERVE_S

FINAL: Final = frozenset({Fault.REFUSED, Fault.TOO_LARGE})
"""Of the request itself: any target would say the same."""

ELSEWHERE: Final = frozenset({Fault.DENIED, Fault.MISSING, Fault.CACHE_MISSING, Fault.CREDENTIALS, Fault.MALFORMED})
"""Asking the same target again is of no use."""

BACKOFF_MS: Final = 100
BACKOFF_MS_MAX: Final = 2_000
"""Before the same target is asked again: up to the first, doubled with each time, up to the second (full jitter)."""

_MS: Final = 1_000_000
NEEDED_NS: Final = int((COMMIT_RESERVE_S + UPSTREAM_RESERVE_S) * 1e9)
"""Of a deadline: for the commits and a short answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Time and chance."""

    clock: Clock
    chance: Chance
    sleep: Sleep


class GivenUpError(UpstreamError):
    """An attempt that was slow was given up for another one. That is no fault of its upstream: callers can cause it."""


class Trying:
    """One attempt on its way. Whatever ends it tells the breaker, once."""

    __slots__ = ("_around", "_began_ns", "_conversation", "_entry", "answered", "hedge", "standing")

    def __init__(
        self,
        standing: Standing,
        entry: Entry,
        conversation: Conversation,
        around: Surroundings,
        *,
        hedge: bool = False,
    ) -> None:
        """`conversation` is what it asks with."""
        self.standing = standing
        self._conversation = conversation
        self.hedge = hedge
        self.answered = False
        self._entry: Entry | None = entry
        self._around = around
        self._began_ns = around.clock.monotonic_ns()

    def answer(self) -> Attempt:
        """Its first chunk came."""
        self.answered = True
        if self._entry is not None:
            self.standing.breaker.answered(self._entry, self._around.clock.monotonic_ns())
        self.standing.cooling.answered()
        self.standing.aside.answered()
        return self._attempt(None)

    def fail(self, error: UpstreamError) -> Attempt:
        """It met a fault, before or after its first chunk."""
        entry, self._entry = self._entry, None
        now_ns = self._around.clock.monotonic_ns()
        self._count_down(error)
        if error.fault is Fault.QUOTA:
            self.standing.cooling.refused(now_ns, error.retry_after_ms, self._around.chance)
        elif error.fault is Fault.UNREACHABLE and error.retry_after_ms is not None:
            self.standing.cooling.told(now_ns, error.retry_after_ms, error.fault)
        aside_ms = 0
        if not self.answered and sets_aside(error.fault, self._conversation):
            aside_ms = self.standing.aside.failed(now_ns, error.fault, self._around.chance)
        if entry is not None and isinstance(error, GivenUpError):
            self.standing.breaker.left(entry)
        elif entry is not None and error.fault in AILING:
            self.standing.breaker.failed(entry, now_ns)
        elif entry is not None:
            self.standing.breaker.answered(entry, now_ns)
        return replace(self._attempt(error.fault), aside_ms=aside_ms)

    def leave(self) -> None:
        """Nobody waits for it any more. Without effect on one that has ended."""
        if self._entry is not None and not self.answered:
            self.standing.breaker.left(self._entry)
        self._entry = None

    def lose(self) -> Attempt:
        """Another one answered first, and it is aborted: its breaker learns nothing of that."""
        self.leave()
        return self._attempt(None, lost=True)

    def _count_down(self, error: UpstreamError) -> None:
        """A moment that the upstream named, as the time that is left until then: at most an hour, and none if over."""
        if error.retry_at_us is None:
            return
        left_ms = -(-(error.retry_at_us - self._around.clock.unix_us()) // 1_000)
        left_ms = min(max(left_ms, 0), RETRY_MS_MAX)
        error.retry_after_ms, error.retry_at_us = max(left_ms, error.retry_after_ms or 0), None

    def _attempt(self, fault: Fault | None, *, lost: bool = False) -> Attempt:
        spent_ns = self._around.clock.monotonic_ns() - self._began_ns
        return Attempt(
            target=self.standing.target.name,
            fault=fault,
            milliseconds=spent_ns // _MS,
            hedge=self.hedge,
            lost=lost,
        )


class Tries:
    """The way of one call over the targets that can do what it asks."""

    def __init__(
        self,
        able: Sequence[Standing],
        conversation: Conversation,
        terms: RetryTerms,
        budget: RetryBudget,
        around: Surroundings,
    ) -> None:
        self._able = list(able)
        self._conversation = conversation
        self._asked = [0] * len(able)
        self._terms = terms
        self._budget = budget
        self._around = around
        self._made = 0
        self._hedged = False
        self._spoilt = 0
        """Attempts whose input the upstream may charge although no answer came."""
        budget.called()

    def first(self) -> Trying:
        """The first attempt. Raises `UpstreamError` where no target may be asked now: nothing was sent then."""
        now_ns = self._around.clock.monotonic_ns()
        found = self._next(now_ns)
        if found is None:
            left_ns = min(one.breaker.closed_for_ns(now_ns) for one in self._able)
            raise UpstreamError(Fault.BREAKER, "every breaker is open", retry_after_ms=_ms(left_ns))
        if found.cooling.named_left_ns(now_ns):
            named_ns = min(filter(None, (one.cooling.named_left_ns(now_ns) for one in self._able)))
            told = "the upstream said when to come again"
            raise UpstreamError(found.cooling.fault, told, retry_after_ms=_ms(named_ns))
        return self._trying(found)

    def failed(self, trying: Trying, error: UpstreamError) -> None:
        """Take note of an attempt that met this fault before its first chunk; each once."""
        self._spoilt += error.fault not in UNSPENT
        if error.fault in ELSEWHERE and trying.standing in self._able:
            self._drop(trying.standing)

    def passed(self, trying: Trying) -> bool:
        """Take out a target that has nothing to say to this, at no cost; whether another one is left."""
        self._made -= 1
        self._drop(trying.standing)
        return bool(self._able)

    async def again(self, error: UpstreamError, deadline_ns: int | None) -> Trying:
        """The attempt after those that failed, when its time has come; raises this fault where none is made."""
        now_ns = self._around.clock.monotonic_ns()
        found = self._next(now_ns)
        if error.fault in FINAL or found is None or self._spent():
            raise error
        wait_ns = self._wait_ns(found, now_ns)
        end_ns = now_ns + wait_ns + NEEDED_NS
        too_late = deadline_ns is not None and end_ns > deadline_ns
        if too_late or wait_ns > self._terms.wait_ms_max * _MS or not self._budget.take():
            raise error
        if wait_ns:
            await self._around.sleep(wait_ns / 1e9)
            if found.breaker.closed_for_ns(self._around.clock.monotonic_ns()):
                raise error
        return self._trying(found)

    def may_hedge(self, slow: Trying, deadline_ns: int | None) -> bool:
        """Whether another target could be asked now beside this attempt, the retry budget apart."""
        return self._beside(slow, deadline_ns) is not None

    def hedge(self, slow: Trying, deadline_ns: int | None) -> Trying | None:
        """A second attempt beside this one, once in a call and out of the retry budget; None where none is made."""
        found = self._beside(slow, deadline_ns)
        if found is None or not self._budget.take():
            return None
        self._hedged = True
        return self._trying(found, hedge=True)

    def _beside(self, slow: Trying, deadline_ns: int | None) -> Standing | None:
        """The next one in the route's order that is well, has quota, and was not asked in this call.

        A half-open breaker's one trial is not for an attempt that may be aborted before it has shown anything.
        """
        now_ns = self._around.clock.monotonic_ns()
        if self._hedged or (deadline_ns is not None and now_ns + NEEDED_NS > deadline_ns):
            return None
        same = self._terms.hedge_same_target and self._able == [slow.standing]
        well = [
            one
            for one, asked in zip(self._able, self._asked, strict=True)
            if (same or not asked)
            and one.breaker.standing(now_ns) is BreakerStanding.CLOSED
            and not one.cooling.left_ns(now_ns)
            and not one.aside.left_ns(now_ns)
        ]
        return next_standing(well, [0] * len(well), now_ns, self._around.chance)

    def _drop(self, standing: Standing) -> None:
        place = self._able.index(standing)
        del self._able[place], self._asked[place]

    def _next(self, now_ns: int) -> Standing | None:
        return next_standing(self._able, self._asked, now_ns, self._around.chance)

    def _trying(self, standing: Standing, *, hedge: bool = False) -> Trying:
        self._made += 1
        self._asked[self._able.index(standing)] += 1
        entry = standing.breaker.enter(self._around.clock.monotonic_ns())
        if entry is None:
            raise UpstreamError(Fault.BREAKER, "the breaker is open")
        return Trying(standing, entry, self._conversation, self._around, hedge=hedge)

    def _spent(self) -> bool:
        """Whether the call has had its attempts, or more of them may have cost something than is held for."""
        return self._made >= self._terms.attempts or self._spoilt > self._terms.spoilt_max + self._hedged

    def _wait_ns(self, standing: Standing, now_ns: int) -> int:
        before = self._asked[self._able.index(standing)]
        backoff_ms = 0
        if before:
            backoff_ms = self._around.chance.below(min(BACKOFF_MS << min(before - 1, 8), BACKOFF_MS_MAX) + 1)
        return max(standing.cooling.left_ns(now_ns), backoff_ms * _MS)


def _ms(duration_ns: int) -> int:
    return -(-duration_ns // _MS)
