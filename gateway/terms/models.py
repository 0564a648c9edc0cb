"""A model as the operator configured it, and what its tokens cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.terms.conversation import Usage
from gateway.terms.ids import ModelName
from gateway.terms.inputs import NO_INPUTS, Inputs
from gateway.terms.money import MicroUsd

MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What tokens cost, in micro-dollars for a million."""

    input: MicroUsd
    output: MicroUsd
    cached: MicroUsd
    """For input tokens served from the upstream's cache."""

    def cost(self, usage: Usage) -> MicroUsd:
        """What so many tokens cost, rounded up."""
        fresh = usage.input_tokens - usage.cached_tokens
        total = fresh * self.input + usage.cached_tokens * self.cached + usage.output_tokens * self.output
        return MicroUsd(-(-total // MILLION))


class ThinkingForm(StrEnum):
    """How a model is told how much to think."""

    LEVEL = "level"
    BUDGET = "budget"
    """In tokens: the generations before levels."""
    NONE = "none"
    """Not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedPrice:
    """A price and the day from which it holds."""

    valid_from: str
    """Such as `2026-11-23`, a day that begins at midnight UTC; empty: always."""
    from_unix_us: int
    price: Price


def valid_price(prices: Sequence[DatedPrice], now_us: int) -> DatedPrice | None:
    """The price that holds now, of a list in the order of its days; None before the first."""
    valid = [dated for dated in prices if dated.from_unix_us <= now_us]
    return valid[-1] if valid else None


def dearest(prices: Iterable[Price]) -> Price:
    """A price that none of these exceeds, whatever the usage; there must be one at least."""
    inputs, outputs, cached = zip(*((price.input, price.output, price.cached) for price in prices), strict=True)
    return Price(input=max(inputs), output=max(outputs), cached=max(cached))


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of the configuration."""

    name: ModelName
    """What callers call it."""
    description: str
    upstream_id: str
    """What its upstream calls it."""
    max_output_tokens: int
    constraints: frozenset[str]
    """Of `json_schema`, `regex`, `choice`: what the upstream can enforce."""
    price: Price
    """Of the dearest target, if it has several: what is held is held at this price."""
    verified: frozenset[str] = frozenset()
    """Constraints that nothing enforces, and that are verified at the end all the same."""
    inputs: Inputs = NO_INPUTS
    thinking: ThinkingForm = ThinkingForm.LEVEL
    targets: tuple[tuple[str, DatedPrice], ...] = ()
    """The targets that may answer, with their prices at the time of the call. Empty: one, at `price`."""
    spoilt_max: int = 0
    """After so many attempts that may have cost their input another one is made; the hold covers them."""
    hedges: bool = False
    """A second request may go out beside a slow one, where the hold covers its prompt too."""
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    """By target: those with the same one count the same tokens."""
    typical_output_tokens: int | None = None
    """Of twenty answers, nineteen have no more than about so many output tokens; None while too few are known."""
    holds_typical: bool = False
    """Hold no more output than answers typically have, and end an answer there."""

    @property
    def one_tokenizer(self) -> bool:
        """Whether all targets count alike, so that what one of them told of a prompt holds for whichever is next."""
        return len(set(self.tokenizers.values())) == 1

    def dated_price(self, target: str) -> DatedPrice:
        """What tokens of this target cost in this call."""
        return dict(self.targets).get(target) or DatedPrice(valid_from="", from_unix_us=0, price=self.price)
