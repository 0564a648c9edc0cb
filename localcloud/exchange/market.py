"""One instrument's market: its book, the orders working in it, and the settlement of every trade on both sides."""

from collections.abc import Callable
from typing import Final

from localcloud.exchange import clearing
from localcloud.exchange.book import Book, BookOrder, Fill, Side
from localcloud.exchange.instruments import Instrument
from localcloud.exchange.orders import Order, OrderType, Status, Trade


class Market:
    """Where orders in one instrument meet. Every trade settles before the next one happens."""

    def __init__(self, instrument: Instrument, fee_ppm: int, on_trade: Callable[[Trade], None], now: int) -> None:
        """Open an empty market; `on_trade` hears of each fill once for each side."""
        self.instrument: Final = instrument
        self.fee_ppm: Final = fee_ppm
        self.book: Final = Book()
        self.fees_micros = 0
        self.mark_ticks = instrument.reference_ticks
        self.quoted_us = now
        self._working: dict[int, Order] = {}
        self._trades = 0
        self._on_trade = on_trade

    def working(self) -> list[Order]:
        """The open orders of everybody, the oldest first."""
        return list(self._working.values())

    def place(self, order: Order, now: int) -> None:
        """Reserve what the order needs, match it, and let it rest, fill or end.

        Raises OrderRefusedError, with nothing changed, when the account cannot bear the order. A market order that
        meets an empty side is rejected; other remainders that may not rest are canceled.
        """
        entry = self._entry(order)
        clearing.reserve(order, self._market_cost(entry, order), self.fee_ppm)
        self._working[order.number] = order
        self.quoted_us = now
        execution = self.book.submit(entry)
        for fill in execution.fills:
            self._settle(fill, now)
        if execution.dropped:
            nothing_there = order.terms.type is OrderType.MARKET and not self.book.best(order.terms.side.opposite)
            unmatched = nothing_there and not order.filled_lots
            self._end(order, Status.REJECTED if unmatched else Status.CANCELED, now)

    def withdraw(self, order: Order, status: Status, now: int) -> None:
        """Take an open order off the book and end it as canceled or expired."""
        self.book.cancel(order.number)
        self.quoted_us = now
        self._end(order, status, now)

    def _entry(self, order: Order) -> BookOrder:
        terms = order.terms
        return BookOrder(
            number=order.number,
            owner=order.account.id,
            side=terms.side,
            price=terms.limit_ticks,
            lots=terms.lots,
            tif=terms.tif,
        )

    def _market_cost(self, entry: BookOrder, order: Order) -> int:
        if entry.price is not None or entry.side is Side.SELL:
            return 0
        return order.instrument.value(self.book.sweep(entry).tick_lots)

    def _settle(self, fill: Fill, now: int) -> None:
        self._trades += 1
        self.mark_ticks = fill.price
        for number in (fill.maker, fill.taker):
            order = self._working[number]
            self.fees_micros += clearing.settle(order, fill.price, fill.lots, self.fee_ppm)
            order.status, order.updated_us = Status.PARTIALLY_FILLED, now
            self._on_trade(
                Trade(
                    number=self._trades,
                    order=order,
                    ticks=fill.price,
                    lots=fill.lots,
                    cumulative_lots=order.filled_lots,
                    at_us=now,
                )
            )
            if not order.open_lots:
                self._end(order, Status.FILLED, now)

    def _end(self, order: Order, status: Status, now: int) -> None:
        order.end(status, now)
        clearing.release(order)
        del self._working[order.number]
