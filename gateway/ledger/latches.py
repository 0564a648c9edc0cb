"""Latches as operators see them: which stand, and the unit of work that resets one."""

from dataclasses import dataclass
from typing import Final

from gateway.ledger.book import Book
from gateway.ledger.entries import Reads
from gateway.ledger.tables import LATCHES
from gateway.terms.ids import OperationId
from gateway.terms.latches import Latched, Reset
from gateway.terms.operations import Receipt

ENGAGED: Final = "SELECT scope, operation, set_unix_us FROM latches WHERE engaged <> 0 ORDER BY scope LIMIT 1000"


@dataclass(frozen=True, slots=True)
class Resetting:
    """The unit of work that resets a latch: what was executed before it counts no more."""

    reset: Reset
    record: bytes
    now_unix_us: int

    def reads(self) -> Reads:
        """The latch."""
        return Reads(rows=((LATCHES, (self.reset.scope,)),))

    def __call__(self, book: Book) -> Receipt | None:
        """See `Ledger.reset_latch`."""
        reset, row = self.reset, book.get(LATCHES, (self.reset.scope,))
        if row is None or row[0] == 0:
            return None
        _, operation, set_us, *_ = row
        released = (0, operation, set_us, reset.by, reset.reason, self.now_unix_us)
        book.put(LATCHES, (reset.scope,), released)
        return book.append(self.record)


def latched(row: tuple[str, str, int]) -> Latched:
    """A row of `ENGAGED`."""
    scope, operation, set_us = row
    return Latched(scope=scope, operation=OperationId(operation), at_unix_us=set_us)
