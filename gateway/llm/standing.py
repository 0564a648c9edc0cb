"""The targets of a route as they stand now: which may be asked, and which one is asked next."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.llm.aside import Aside
from gateway.llm.breaker import Breaker, BreakerTerms
from gateway.llm.cooling import Cooling
from gateway.llm.upstream import Upstream
from gateway.terms.clock import Chance
from gateway.terms.faults import Fault
from gateway.terms.models import DatedPrice, Model

AILING: Final = frozenset({Fault.UNREACHABLE, Fault.STALLED, Fault.TRUNCATED})
"""What only an upstream in trouble does. All else a caller may cause, or the operator, or a quota: no breaker opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One place where a route's model is served."""

    name: str
    """As callers and records are told; unique in its route."""
    model: Model
    """With what this target's upstream calls it."""
    upstream: Upstream
    prices: tuple[DatedPrice, ...]
    """In the order of their days."""
    tokenizer: str
    """Targets with the same one count the same tokens."""
    weight: int = 1
    """Its share among the targets of its order; 0: only when no other one of its order is left."""
    order: int = 1
    """Targets of a higher order are asked when those before cannot be."""


@dataclass(slots=True)
class Standing:
    """A target with what is known of it. Shared by all calls."""

    target: Target
    breaker: Breaker
    cooling: Cooling = field(default_factory=Cooling)
    aside: Aside = field(default_factory=Aside)
    """For what is asked of it now: answers, or counts."""
    aside_for_counts: Aside = field(default_factory=Aside)

    def counting(self) -> "Standing":
        """The same target as it stands for counts: what does not count may well answer, and the other way round."""
        return replace(self, aside=self.aside_for_counts)


def standings(targets: Sequence[Target], terms: BreakerTerms) -> tuple[Standing, ...]:
    """Every target as new."""
    return tuple(Standing(target, Breaker(terms)) for target in targets)


def next_standing(of: Sequence[Standing], tries: Sequence[int], now_ns: int, chance: Chance) -> Standing | None:
    """The one to be asked next, or None where every breaker is open.

    Those that were asked least go first (`tries`, in the order of `of`), of these the ones that have quota, before
    those that may have it again, those that would not serve and those that said when; of these the ones of the lowest
    order, and among equals chance decides by weight.
    """
    open_to = [
        ((asked, *_ill(one, now_ns), one.target.order), one)
        for one, asked in zip(of, tries, strict=True)
        if one.breaker.closed_for_ns(now_ns) == 0
    ]
    if not open_to:
        return None
    first = min(rank for rank, _ in open_to)
    return _drawn([one for rank, one in open_to if rank == first], chance)


def _ill(one: Standing, now_ns: int) -> tuple[bool, bool, bool]:
    cooling = one.cooling
    return cooling.named_left_ns(now_ns) > 0, one.aside.left_ns(now_ns) > 0, cooling.left_ns(now_ns) > 0


def _drawn(equals: Sequence[Standing], chance: Chance) -> Standing:
    total = sum(one.target.weight for one in equals)
    drawn = chance.below(total) if total and len(equals) > 1 else 0
    for one in equals:
        drawn -= one.target.weight
        if drawn < 0:
            return one
    return equals[0]
