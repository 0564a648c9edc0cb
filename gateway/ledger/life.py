"""How a boot of the ledger begins and ends: with a record that joins it to the boot before."""

from dataclasses import dataclass
from typing import Final

from gateway.ledger.book import Book
from gateway.ledger.entries import Reads
from gateway.ledger.journal import Diary
from gateway.terms.operations import Receipt

NOTHING_BEFORE: Final = bytes(32)
"""The link before the first record of an instance."""


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
class Noting:
    """The unit of work that appends a record of something that belongs to no operation."""

    record: bytes

    def reads(self) -> Reads:
        """Nothing."""
        return Reads()

    def __call__(self, book: Book) -> Receipt:
        """Append it."""
        return book.append(self.record)
