"""The memory of a batch: what one unit did the next one sees, and what a unit did that failed nobody sees."""

import pytest
from made_calls import Desk, StillClock, claim, tool_ask

from gateway.audit.chain import BootChain
from gateway.ledger.admission import Admitting
from gateway.ledger.book import Book, Head, UnreadError
from gateway.ledger.entries import Search
from gateway.ledger.postgres_book import PostgresSource
from gateway.ledger.settlement import Settling
from gateway.ledger.tables import BALANCES
from gateway.terms.operations import Replay, State

PLACE = ("agent:trader", "calls", "day:2026-11-29")


class Nothing:
    """The source of an empty ledger, which counts what it is asked."""

    def __init__(self):
        self.asked = 0

    def row(self, table, key):
        self.asked += 1

    def keyed(self, key):
        self.asked += 1

    def stored(self, operation):
        return None

    def found(self, search):
        return []

    def last_boot(self):
        return None


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "none.db", clock=StillClock())
    desk.make()
    return desk


@pytest.fixture
def book():
    book = Book(Nothing(), BootChain("gateway-1", "boot-1"), Head(0, bytes(32)))
    book.begin_batch()
    return book


def done(book, unit):
    book.begin_unit()
    return unit(book)


def test_what_one_unit_did_the_next_one_of_its_batch_sees(desk, book):
    ask = tool_ask(key="same")
    first = done(book, Admitting(desk.admission(ask=ask, claims=[claim(amount=3)]), 1, desk.records))
    assert book.balance(PLACE) == (3, 0)
    assert done(book, Admitting(desk.admission(ask=ask), 1, desk.records)).operation_id == first.operation
    settled = done(book, Settling(desk.settlement(first)))
    assert done(book, Admitting(desk.admission(ask=ask), 1, desk.records)) == Replay(operation=settled)
    writes = book.writes()
    assert [(stored.operation, [hold.state for hold in stored.holds]) for stored in writes.added] == [
        (settled, ["settled"])
    ]
    assert (writes.changed, len(writes.records)) == ([], 2)
    assert writes.rows == {BALANCES: [(PLACE, (0, 3))]}


def test_what_a_failed_unit_did_is_undone_to_its_last_record(desk, book):
    done(book, Admitting(desk.admission(claims=[claim(amount=3)]), 1, desk.records))
    head, before = book.head, book.writes()
    admission = desk.admission(claims=[claim(amount=2)])
    done(book, Admitting(admission, 1, desk.records))
    book.undo()
    after = book.writes()
    assert book.head == head
    assert (after.added, after.rows, after.records) == (before.added, before.rows, before.records)
    assert book.balance(PLACE) == (3, 0)
    assert book.keyed(admission.key) is None
    assert book.stored(admission.operation) is None


def test_a_search_finds_operations_as_the_batch_left_them(desk, book):
    running = Search(states=(State.DISPATCHED,))
    first, second = (done(book, Admitting(desk.admission(), 1, desk.records)) for _ in range(2))
    assert [one.operation.id for one in book.found(running)] == [first.operation, second.operation]
    done(book, Settling(desk.settlement(first)))
    assert [one.operation.id for one in book.found(running)] == [second.operation]


def test_each_row_is_read_once_a_batch_and_anew_in_the_next(desk, book):
    for _ in range(3):
        book.balance(PLACE)
    assert book._source.asked == 1
    book.begin_batch()
    book.balance(PLACE)
    assert book._source.asked == 2
    assert book.writes().nothing


def test_a_unit_that_looks_at_what_it_did_not_name_is_told():
    source = PostgresSource()
    for look in (
        lambda: source.row(BALANCES, PLACE),
        lambda: source.keyed(None),
        lambda: source.stored("op-1"),
        lambda: source.found(Search(states=(State.DISPATCHED,))),
    ):
        with pytest.raises(UnreadError, match="not among the unit's reads"):
            look()
