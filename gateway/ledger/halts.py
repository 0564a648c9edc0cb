"""Halt switches: what an operator sets to stop everything of a scope before it is admitted."""

from dataclasses import dataclass

from gateway.ledger.book import Book
from gateway.ledger.entries import Reads
from gateway.ledger.tables import HALTS
from gateway.terms.operations import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """One switch."""

    scope: str
    """`all`, `tenant:NAME`, `team:NAME`, `agent:NAME`, `tool:NAME` or `model:NAME`."""
    engaged: bool
    reason: str
    """Told to who is refused."""
    by: str
    """The operator."""


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


def engaged(book: Book, scopes: tuple[str, ...]) -> tuple[str, str] | None:
    """The first of these scopes that is halted, with the operator's reason."""
    for scope in scopes:
        row = book.get(HALTS, (scope,))
        # Anything but a clear no is a yes: a switch that cannot be read is engaged.
        if row is not None and row[0] != 0:
            return scope, str(row[1])
    return None
