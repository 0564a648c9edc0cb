"""Latches: what stands after too many executions of one kind, until a named person resets it."""

from dataclasses import dataclass

from gateway.terms.ids import OperationId


@dataclass(frozen=True, slots=True, kw_only=True)
class Latched:
    """A latch that is engaged."""

    scope: str
    """An agent's tool: `agent:NAME/TOOL`."""
    operation: OperationId
    """The last execution that it let pass."""
    at_unix_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """What a person says to reset a latch."""

    scope: str
    reason: str
    by: str
    """The operator's name."""
