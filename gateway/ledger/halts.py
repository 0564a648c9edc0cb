"""Halt switches: what an operator sets to stop everything of a scope before it is admitted."""

from dataclasses import dataclass
from typing import Final

from gateway.ledger.book import Book
from gateway.terms.operations import Receipt

_SET: Final = (
    "INSERT INTO halts (scope, engaged, reason, set_by, set_unix_us) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET engaged = excluded.engaged, reason = excluded.reason,"
    " set_by = excluded.set_by, set_unix_us = excluded.set_unix_us"
)


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

    def __call__(self, book: Book) -> Receipt:
        """Set it and append its record."""
        halt = self.halt
        book.change(_SET, (halt.scope, int(halt.engaged), halt.reason, halt.by, self.now_unix_us))
        return book.append(self.record)
