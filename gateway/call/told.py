"""What a caller hears of a model stream."""

from dataclasses import dataclass

from gateway.call.act import Answer
from gateway.terms.conversation import Attempt, Ending, FunctionCall, Text, Thought, Usage
from gateway.terms.ids import RuleId
from gateway.terms.money import MicroUsd
from gateway.terms.operations import Operation
from gateway.terms.verdict import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the answer took by now, and its price; told at the end of each turn."""

    usage: Usage
    cost: MicroUsd


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The end of a stream whose outcome is durable."""

    ending: Ending
    operation: Operation
    attempts: tuple[Attempt, ...] = ()
    """What was tried, in its order; the last one answered."""
    turns: int = 0
    """Of a stream in which the gateway runs tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnded:
    """A turn that is not the last one is over, and its outcome is durable."""

    turn: int
    spent: Spent
    """Of this turn alone."""
    closed: Closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted:
    """The rules permit a tool call; it may still be refused."""

    rules: tuple[RuleId, ...]
    policy_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A person must agree to a tool call first."""

    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A tool call came to its end: it was executed, or it was refused."""

    answer: Answer | Refusal
    told: str
    """What the model is told: one JSON object."""
    timing: str
    """The stages of this call alone, in the syntax of Server-Timing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStep:
    """A step of a tool call that the gateway runs; the last one is `Ran`."""

    call_id: str
    tool: str
    turn: int
    place: int
    """Among the calls of its turn, from 1."""
    step: Permitted | Pending | Ran


Told = Text | Thought | FunctionCall | Spent | ToolStep | TurnEnded | Closed
"""What a caller hears of a stream: the parts as they come, what they cost, and one `Closed`, last."""
