"""An effect after its call has ended: what was lost is asked for, what goes on is followed to its end."""

from dataclasses import dataclass

from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Failure, Operation, Similar, Succeeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """An operation that was given to one owner to be looked after, until its lease ends."""

    operation: Operation
    memo: bytes
    held: tuple[tuple[Unit, int], ...]
    """What was held at first, the greatest amount of each unit."""
    looks: int
    """How often it was looked for before without finding out."""
    withdraw: bool
    """A halt of its scope was set: what is open of it is to be cancelled."""
    fence: int
    """The proof that it is this owner's."""
    similar: tuple[Similar, ...] = ()
    """What is forgotten if nothing came of it."""

    @property
    def lost(self) -> bool:
        """Whether it is the outcome that is asked for, not how an effect goes on."""
        return not self.operation.state.final


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many more operations of one kind may be taken to be looked after."""

    withdraw: bool
    """Those of which what is open is to be cancelled, or those that are only looked for."""
    most: int
    tools: tuple[str, ...] = ()
    other_tools: bool = True
    """Calls of all tools but `tools`, not of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet:
    """Its service does not say yet what became of it."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknowable:
    """Its service can never say; an operator decides."""

    failure: Failure


Finding = Succeeded | Failed | NotYet | Unknowable
"""What looking came to. A `Succeeded` that is `live` goes on being followed."""
