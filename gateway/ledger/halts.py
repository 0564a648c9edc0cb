"""Halt switches: what an operator sets to stop everything of a scope before it is admitted."""

from dataclasses import dataclass
from typing import Final

from gateway.ledger.book import Book
from gateway.ledger.entries import Reads, Search, Stored
from gateway.ledger.states import UNFINISHED
from gateway.ledger.tables import HALTS
from gateway.terms.operations import Loss, Receipt, State
from gateway.terms.overview import Halt
from gateway.terms.verdict import Kind, Refusal

MARKED_AT_ONCE: Final = 256
"""Operations that one commit marks."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The unit of work that sets a switch: nothing is admitted in its scope after the commit."""

    halt: Halt
    record: bytes
    now_unix_us: int

    def reads(self) -> Reads:
        """The switch itself: no batch that looks at it commits while this one does."""
        return Reads(rows=((HALTS, (self.halt.scope,)),))

    def __call__(self, book: Book) -> Receipt:
        """Set it and append its record."""
        halt = self.halt
        book.put(HALTS, (halt.scope,), (int(halt.engaged), halt.reason, halt.by, self.now_unix_us))
        return book.append(self.record)


@dataclass(frozen=True, slots=True)
class Marking:
    """The unit of work that marks what runs in a halted scope, or goes on, to be withdrawn.

    After the commit that set the switch, never with it: what was admitted while that one was looking for it would be
    overlooked. Lifting the switch does not take the mark back.
    """

    scope: str
    now_unix_us: int

    def reads(self) -> Reads:
        """What of its scope is not at its end, and not marked."""
        return Reads(searches=(self._affected(),))

    def __call__(self, book: Book) -> bool:
        """Whether there may be more: a commit marks a bounded number."""
        found = book.found(self._affected())
        for before in found:
            book.change(before, before._replace(withdraw=True, looks=0, look_unix_us=self._look_us(before)))
        return len(found) == MARKED_AT_ONCE

    def _look_us(self, before: Stored) -> int | None:
        """At once. Also where a person was to decide: an order that nobody could find may be open after all."""
        given_up = before.operation.state is State.UNKNOWN and before.care.loss is Loss.ASK
        if before.look_unix_us is None:
            return self.now_unix_us if given_up else None
        return min(before.look_unix_us, self.now_unix_us)

    def _affected(self) -> Search:
        """One search for all of it: of two, one that runs and ends between them would be in neither."""
        states = (*UNFINISHED, State.SUCCEEDED)
        return Search(states=states, unfinished=True, halted_by=self.scope, marked=False, limit=MARKED_AT_ONCE)


def engaged(book: Book, scopes: tuple[str, ...]) -> tuple[str, str] | None:
    """The first of these scopes that is halted, with the operator's reason."""
    for scope in scopes:
        row = book.get(HALTS, (scope,))
        # Anything but a clear no is a yes: a switch that cannot be read is engaged.
        if row is not None and row[0] != 0:
            return scope, str(row[1])
    return None


def halt_refusal(scope: str, reason: str, policy_hash: str) -> Refusal:
    """What is told to who is stopped."""
    return Refusal(
        kind=Kind.FORBIDDEN,
        reason="halt.engaged",
        sentence=f"The operator has halted {scope}: {reason}. Wait until the operator releases it.",
        policy_hash=policy_hash,
    )
