"""What was used: calls, tokens and money, by whatever an operator groups them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GROUPS_MAX: Final = 10_000
"""Rows of one answer; run ids are chosen by agents, and could be without end."""

RANGE_DAYS_MAX: Final = 400


class Group(StrEnum):
    """By what usage is told apart."""

    AGENT = "agent"
    TEAM = "team"
    MODEL = "model"
    TOOL = "tool"
    RUN = "run"
    DAY = "day"
    """Of UTC, such as `2026-11-23`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """From when on, until before when (microseconds of Unix time), and by what."""

    from_unix_us: int
    to_unix_us: int
    by: tuple[Group, ...]


@dataclass(slots=True, kw_only=True)
class Used:
    """What was used. Calls are counted when they are admitted, everything else when its end is on record."""

    calls: int = 0
    refusals: int = 0
    """Calls of known agents that were not admitted: by policy, limits, budgets, or because they were malformed."""
    failures: int = 0
    unknown: int = 0
    """Nobody knew their end at the end of the time that is asked for; what was found out in it counts no more."""
    input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    """Of the output."""
    cached_tokens: int = 0
    """Of the input."""
    cost_micro_usd: int = 0
    estimated_micro_usd: int = 0
    """Of the cost: that of calls whose tokens no upstream has counted in full, so that a bound was charged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """What was used in all, and in each group, in the order of the groups' names."""

    by: tuple[Group, ...]
    total: Used
    rows: tuple[tuple[tuple[str, ...], Used], ...]
    """The names in the order of `by`; one is empty where a call has none, such as the model of a tool."""


class UsageTooWideError(Exception):
    """There would be more groups than anybody reads; a sentence for the operator."""
