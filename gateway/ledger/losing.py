"""The truth about operations on which nobody works any more: unknown, with all that they hold, or charged in full."""

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from gateway.ledger.book import Book
from gateway.ledger.entries import Reads, Search, Stored
from gateway.ledger.journal import Diary
from gateway.ledger.settlement import charged, kept, move
from gateway.ledger.states import OPEN, Event, following
from gateway.terms.ids import OperationId
from gateway.terms.operations import Failure, Loss, State

LOST_AT_ONCE: Final = 256
"""Of those whose lease has ended, in one commit; the next sweep takes the next ones."""

_LOST: Final = Failure(
    reason="operation.lost",
    message="The gateway stopped before the outcome was recorded, so nobody knows whether it happened.",
)
_CHARGED: Final = Failure(
    reason="operation.charged_in_full",
    message="The gateway stopped before the end was recorded, so everything that was held is charged.",
)


@dataclass(frozen=True, slots=True)
class Losing:
    """The unit of work that ends operations on which nobody works, each with a record.

    Whoever orders it knows that: the owner is gone, or the lease has ended. The fences rise all the same, because an
    owner may only have been paused.
    """

    diary: Diary
    lost: Search
    now_unix_us: int

    def reads(self) -> Reads:
        """What is lost."""
        return Reads(searches=(self.lost,))

    def __call__(self, book: Book) -> tuple[OperationId, ...]:
        """Which ones there were."""
        found = book.found(self.lost)
        for before in found:
            self._lose(book, before)
        return tuple(before.operation.id for before in found)

    def _lose(self, book: Book, before: Stored) -> None:
        if before.operation.state is State.RECONCILING:
            # It was unknown and still is: its record stands, and somebody else asks now.
            operation = replace(before.operation, state=following(State.RECONCILING, Event.LOSE))
            look_us = self.now_unix_us
            book.change(before, before._replace(operation=operation, fence=before.fence + 1, look_unix_us=look_us))
        elif before.care.loss is Loss.CHARGE:
            self._charge_in_full(book, before)
        else:
            self._doubt(book, before)

    def _doubt(self, book: Book, before: Stored) -> None:
        state = following(before.operation.state, Event.LOSE)
        receipt = book.append(self.diary.lost(before.operation, state))
        operation = replace(before.operation, state=state, failure=_LOST, outcome=receipt)
        look_us = self.now_unix_us if before.care.loss is Loss.ASK else None
        after = before._replace(operation=operation, fence=before.fence + 1, look_unix_us=look_us)
        book.change(before, after, kept(before.held))

    def _charge_in_full(self, book: Book, before: Stored) -> None:
        """Pessimistic, and flagged by its reason: nothing is ever given back without proof (attack row 25)."""
        state = following(before.operation.state, Event.CHARGE)
        receipt = book.append(self.diary.lost(before.operation, state))
        operation = replace(before.operation, state=state, failure=_CHARGED, outcome=receipt)
        held = before.held
        changed = charged(held, [hold.amount for hold in held])
        move(book, held, changed)
        book.change(before, before._replace(operation=operation, fence=before.fence + 1), changed)


def expired(now_unix_us: int) -> Search:
    """Operations whose owner had its time and did not end them."""
    return Search(states=OPEN, lease_before_unix_us=now_unix_us, limit=LOST_AT_ONCE)
