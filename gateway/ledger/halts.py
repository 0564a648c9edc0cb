"""Halt switches: what an operator sets to stop everything of a scope before it is admitted."""

from dataclasses import dataclass
from typing import Final

from gateway.ledger.book import Book
from gateway.ledger.entries import EVER, Reads, Search
from gateway.ledger.tables import HALTS
from gateway.terms.operations import Receipt, State
from gateway.terms.overview import Halt
from gateway.terms.verdict import Kind, Refusal

AFFECTED_MAX: Final = 100_000
"""Operations that one switch marks at once; more than can be open."""

UNFINISHED: Final = (State.CLAIMED, State.DISPATCHED, State.UNKNOWN, State.RECONCILING)


@dataclass(frozen=True, slots=True)
class Setting:
    """The unit of work that sets a switch: nothing is admitted in its scope after the commit.

    What runs in its scope, or goes on, is marked to be withdrawn; lifting the switch does not take that back.
    """

    halt: Halt
    record: bytes
    now_unix_us: int

    def reads(self) -> Reads:
        """The switch itself: no batch that looks at it commits while this one does."""
        return Reads(rows=((HALTS, (self.halt.scope,)),), searches=self._affected())

    def __call__(self, book: Book) -> Receipt:
        """Set it and append its record."""
        halt = self.halt
        book.put(HALTS, (halt.scope,), (int(halt.engaged), halt.reason, halt.by, self.now_unix_us))
        for search in self._affected():
            for before in book.found(search):
                look_us = None if before.look_unix_us is None else min(before.look_unix_us, self.now_unix_us)
                book.change(before, before._replace(withdraw=True, looks=0, look_unix_us=look_us))
        return book.append(self.record)

    def _affected(self) -> tuple[Search, ...]:
        """What of its scope is not at its end: whose outcome is not known yet, and what goes on."""
        if not self.halt.engaged:
            return ()
        scope, most = self.halt.scope, AFFECTED_MAX
        return (
            Search(states=UNFINISHED, halted_by=scope, limit=most),
            Search(states=(State.SUCCEEDED,), due_unix_us=EVER, halted_by=scope, limit=most),
        )


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
