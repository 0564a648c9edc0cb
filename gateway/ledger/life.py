"""How a boot of the ledger begins and ends: with a truth about every operation that nobody works on any more."""

from typing import Final

from gateway.ledger import rows
from gateway.ledger.book import Book, Head
from gateway.ledger.journal import Chain, Diary
from gateway.ledger.settlement import Ending, Standing, conclude, keep_holds
from gateway.ledger.states import Event, following
from gateway.terms.ids import BootId
from gateway.terms.operations import Failure, Receipt, State, Unknown

NOTHING_BEFORE: Final = bytes(32)
"""The link before the first record of an instance."""

_LAST_BOOT: Final = "SELECT boot FROM boots WHERE instance = ? ORDER BY number DESC LIMIT 1"
_LAST_RECORD: Final = (
    "SELECT sequence, leaf, link FROM audit WHERE instance = ? AND boot = ? ORDER BY sequence DESC LIMIT 1"
)
_BEGIN: Final = "INSERT INTO boots (instance, boot) VALUES (?, ?)"
_UNOWNED: Final = f"SELECT {rows.COLUMNS}, number, fence FROM operations WHERE state = 'dispatched' ORDER BY number"  # noqa: S608 - constants

_LOST: Final = Unknown(
    failure=Failure(
        reason="operation.lost",
        message="The gateway stopped before the outcome was recorded, so nobody knows whether it happened.",
    )
)


class BootRepeatedError(Exception):
    """The boot id was used before: every start needs one of its own."""


def begin(book: Book, diary: Diary) -> Receipt:
    """Open this boot's chain after the instance's boot before, and tell what that one left unfinished."""
    chain = book.chain
    known = book.all("SELECT 1 FROM boots WHERE instance = ? AND boot = ?", (chain.instance, chain.boot))
    if known:
        raise BootRepeatedError(f"the boot id {chain.boot} of {chain.instance} was used before: start with a new one")
    last, link = _end_before(book, chain)
    book.change(_BEGIN, (chain.instance, chain.boot))
    book.head = Head(0, link)
    receipt = book.append(diary.boot(last, link))
    lose(book, diary)
    return receipt


def end(book: Book, diary: Diary) -> Receipt:
    """Close this boot's chain. What still runs is lost first: nobody will record its outcome."""
    lose(book, diary)
    return book.append(diary.close())


def lose(book: Book, diary: Diary) -> int:
    """Make every dispatched operation unknown, with a record, its holds kept; how many there were.

    Only one process has the ledger, so nobody else can be working on them. Their fences rise all the same.
    """
    unowned = book.all(_UNOWNED)
    for row in unowned:
        *columns, number, fence = row
        operation = rows.operation(tuple(columns))
        record = diary.lost(operation)
        standing = Standing(int(number or 0), operation.state, int(fence or 0))
        after = following(State.DISPATCHED, Event.LOSE)
        conclude(book, standing, Ending(state=after, outcome=_LOST, receipt=book.append(record), fences_out=True))
        keep_holds(book, standing.number)
    return len(unowned)


def _end_before(book: Book, chain: Chain) -> tuple[Receipt | None, bytes]:
    for (boot,) in book.all(_LAST_BOOT, (chain.instance,)):
        for sequence, leaf, link in book.all(_LAST_RECORD, (chain.instance, boot)):
            last = Receipt(
                instance=chain.instance,
                boot=BootId(str(boot)),
                sequence=int(sequence or 0),
                leaf_hash=_bytes(leaf),
            )
            return last, _bytes(link)
    return None, NOTHING_BEFORE


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a hash of the audit table is no bytes")
    return value
