"""The order book against a book so plain that it can be read at a glance, and its rules one by one."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.exchange.book import Book, BookOrder, Execution, Fill, Side, Sweep, TimeInForce

BUY, SELL = Side.BUY, Side.SELL
DAY, IOC, FOK = TimeInForce.DAY, TimeInForce.IOC, TimeInForce.FOK


def order(number, side, price, lots, *, tif=DAY, owner=None):
    return BookOrder(number=number, owner=owner or f"o{number}", side=side, price=price, lots=lots, tif=tif)


def book_of(*orders):
    book = Book()
    for resting in orders:
        assert book.submit(resting).fills == []
    return book


def test_the_best_price_trades_first_and_at_one_price_the_oldest():
    book = book_of(order(1, SELL, 102, 5), order(2, SELL, 101, 5), order(3, SELL, 101, 5))
    assert book.submit(order(4, BUY, 102, 12)).fills == [Fill(2, 4, 101, 5), Fill(3, 4, 101, 5), Fill(1, 4, 102, 2)]
    assert book.best(SELL) == (102, 3)


def test_a_trade_happens_at_the_resting_price():
    book = book_of(order(1, BUY, 105, 5))
    assert book.submit(order(2, SELL, 100, 5)).fills == [Fill(1, 2, 105, 5)]


def test_the_remainder_of_a_limit_order_rests_at_its_own_price():
    book = book_of(order(1, SELL, 100, 3))
    assert book.submit(order(2, BUY, 101, 10)) == Execution([Fill(1, 2, 100, 3)], 7, 0)
    assert (book.best(BUY), book.best(SELL)) == ((101, 7), None)


@pytest.mark.parametrize(
    "price, tif, execution",
    [
        (None, DAY, Execution([Fill(1, 9, 100, 3)], 0, 4)),
        (100, IOC, Execution([Fill(1, 9, 100, 3)], 0, 4)),
        (100, FOK, Execution([], 0, 7)),
        (None, FOK, Execution([], 0, 7)),
    ],
)
def test_orders_that_may_not_rest_leave_nothing_behind(price, tif, execution):
    book = book_of(order(1, SELL, 100, 3))
    assert book.submit(order(9, BUY, price, 7, tif=tif)) == execution
    assert book.best(BUY) is None


def test_fill_or_kill_trades_whole_over_several_levels():
    book = book_of(order(1, SELL, 100, 3), order(2, SELL, 101, 4))
    assert book.submit(order(9, BUY, 101, 7, tif=FOK)).fills == [Fill(1, 9, 100, 3), Fill(2, 9, 101, 4)]


def test_nobody_trades_with_themselves_and_the_newer_order_gives_way():
    book = book_of(order(1, SELL, 100, 3), order(2, SELL, 100, 4, owner="me"), order(3, SELL, 100, 5))
    assert book.submit(order(9, BUY, 100, 10, owner="me")) == Execution([Fill(1, 9, 100, 3)], 0, 7)
    assert [resting.number for resting in book.resting(SELL)] == [2, 3]


def test_fill_or_kill_does_not_count_lots_behind_an_own_order():
    book = book_of(order(1, SELL, 100, 3), order(2, SELL, 100, 4, owner="me"), order(3, SELL, 100, 5))
    assert book.submit(order(9, BUY, 100, 8, tif=FOK, owner="me")) == Execution([], 0, 8)
    assert book.best(SELL) == (100, 12)


def test_a_cancelled_order_is_gone_and_is_cancelled_once():
    book = book_of(order(1, SELL, 100, 3), order(2, SELL, 101, 3))
    cancelled = book.cancel(1)
    assert cancelled is not None
    assert cancelled.lots == 3
    assert book.cancel(1) is None
    assert book.best(SELL) == (101, 3)


def test_a_sweep_tells_the_cost_and_changes_nothing():
    book = book_of(order(1, SELL, 100, 3), order(2, SELL, 101, 4))
    assert book.sweep(order(9, BUY, None, 5)) == Sweep(5, 3 * 100 + 2 * 101)
    assert book.sweep(order(9, BUY, 100, 5)) == Sweep(3, 300)
    assert len(book) == 2


def test_placing_and_cancelling_behind_the_best_price_does_not_grow_the_book():
    book = book_of(order(0, BUY, 100, 1))
    for number in range(1, 5_000):
        book.submit(order(number, BUY, 50 + number % 7, 1))
        book.cancel(number)
    assert len(book._ladders[BUY]._heap) < 200


@dataclass
class PlainBook:
    """Price-time priority by searching one list."""

    orders: list[BookOrder] = field(default_factory=list)

    def submit(self, new):
        candidates = [o for o in self.orders if o.side is not new.side and self._crosses(new, o)]
        candidates.sort(key=lambda o: o.price if new.side is BUY else -o.price)  # The sort is stable: age is kept.
        own = next((i for i, o in enumerate(candidates) if o.owner == new.owner), None)
        reachable = candidates if own is None else candidates[:own]
        if new.tif is FOK and sum(o.lots for o in reachable) < new.lots:
            return Execution([], 0, new.lots)
        fills = []
        for resting in reachable:
            lots = min(new.lots, resting.lots)
            if lots:
                fills.append(Fill(resting.number, new.number, resting.price, lots))
                new.lots -= lots
                resting.lots -= lots
        self.orders = [o for o in self.orders if o.lots]
        may_rest = own is None and new.price is not None and new.tif is DAY
        if new.lots and may_rest:
            self.orders.append(new)
            return Execution(fills, new.lots, 0)
        return Execution(fills, 0, new.lots)

    def cancel(self, number):
        kept = [o for o in self.orders if o.number != number]
        found = len(kept) < len(self.orders)
        self.orders = kept
        return found

    @staticmethod
    def _crosses(new, resting):
        if new.price is None:
            return True
        return new.price >= resting.price if new.side is BUY else new.price <= resting.price


ORDERS = st.tuples(
    st.sampled_from([BUY, SELL]),
    st.one_of(st.none(), st.integers(95, 105)),
    st.integers(1, 9),
    st.sampled_from([DAY, DAY, DAY, IOC, FOK]),
    st.sampled_from("abc"),
)


@settings(deadline=None, max_examples=500)
@given(st.lists(st.one_of(ORDERS, st.integers(0, 30)), max_size=60))
def test_the_book_makes_the_fills_of_a_plain_book_in_the_same_order(steps):
    book, plain = Book(), PlainBook()
    for number, step in enumerate(steps):
        if isinstance(step, int):
            assert (book.cancel(step) is not None) == plain.cancel(step)
            continue
        side, price, lots, tif, owner = step
        mine = order(number, side, price, lots, tif=tif, owner=owner)
        theirs = order(number, side, price, lots, tif=tif, owner=owner)
        swept = book.sweep(mine)
        execution = book.submit(mine)
        assert execution == plain.submit(theirs)
        if tif is not FOK:
            assert swept == (sum(f.lots for f in execution.fills), sum(f.lots * f.price for f in execution.fills))
    best_bid, best_ask = book.best(BUY), book.best(SELL)
    assert best_bid is None or best_ask is None or best_bid[0] < best_ask[0]
    for side, sign in ((BUY, -1), (SELL, 1)):
        expected = sorted((o for o in plain.orders if o.side is side), key=lambda o: sign * o.price)
        assert [(o.number, o.lots) for o in book.resting(side)] == [(o.number, o.lots) for o in expected]
    assert len(book) == len(plain.orders)
