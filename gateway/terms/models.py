"""A model as the operator configured it, and what its tokens cost."""

from dataclasses import dataclass
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
    verified: frozenset[str] = frozenset()
    """Constraints that nothing enforces, and that are verified at the end all the same."""
    inputs: Inputs = NO_INPUTS
    thinking: ThinkingForm = ThinkingForm.LEVEL
