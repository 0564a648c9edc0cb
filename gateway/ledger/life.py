"""How a boot of the ledger begins and ends: with a truth about every operation that nobody works on any more."""

from dataclasses import dataclass, replace
from typing import Final

from gateway.ledger.book import Book
from gateway.ledger.entries import Reads, Search
from gateway.ledger.journal import Diary
from gateway.ledger.settlement import kept
from gateway.ledger.states import Event, following
from gateway.terms.operations import Failure, Receipt

NOTHING_BEFORE: Final = bytes(32)
"""The link before the first record of an instance."""

_LOST: Final = Failure(
    reason="operation.lost",
    message="The gateway stopped before the outcome was recorded, so nobody knows whether it happened.",
)


class BootRepeatedError(Exception):
    """The boot id was used before: every start needs one of its own."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The unit of work that opens this boot's chain after the instance's boot before."""

    diary: Diary

    def reads(self) -> Reads:
        """Nothing but the boot before, which the book knows."""
        return Reads()

    def __call__(self, book: Book) -> Receipt:
        """Append the boot record. Raises `BootRepeatedError`."""
        before = book.last_boot()
        last, link = (None, NOTHING_BEFORE) if before is None else before
        book.begin_boot(link)
        return book.append(self.diary.boot(last, link))


@dataclass(frozen=True, slots=True)
class Ending:
    """The unit of work that closes this boot's chain."""

    diary: Diary

    def reads(self) -> Reads:
        """Nothing."""
        return Reads()

    def __call__(self, book: Book) -> Receipt:
        """Append the closing record."""
        return book.append(self.diary.close())


@dataclass(frozen=True, slots=True)
class Losing:
    """The unit of work that makes operations unknown on which nobody works, each with a record, its holds kept.

    Whoever orders it knows that: the owner is gone, or the lease has ended. The fences rise all the same, because an
    owner may only have been paused.
    """

    diary: Diary
    lost: Search

    def reads(self) -> Reads:
        """What is lost."""
        return Reads(searches=(self.lost,))

    def __call__(self, book: Book) -> int:
        """How many there were."""
        lost = book.found(self.lost)
        for before in lost:
            receipt = book.append(self.diary.lost(before.operation))
            operation = replace(
                before.operation,
                state=following(before.operation.state, Event.LOSE),
                failure=_LOST,
                outcome=receipt,
            )
            after = before._replace(operation=operation, fence=before.fence + 1)
            book.change(before, after, kept(book.holds(before)))
        return len(lost)


@dataclass(frozen=True, slots=True)
class Noting:
    """The unit of work that appends a record of something that belongs to no operation."""

    record: bytes

    def reads(self) -> Reads:
        """Nothing."""
        return Reads()

    def __call__(self, book: Book) -> Receipt:
        """Append it."""
        return book.append(self.record)
