"""A price-time order book: the resting orders of one instrument, matched in whole ticks and whole lots.

The book knows neither money nor accounts; it is pure, synchronous and deterministic. Whoever submits an order is its
`owner`, and two orders of one owner never trade with each other.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

_STALE_KEYS_ALLOWED: Final = 64


class Side(StrEnum):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> "Side":
        """The side that an order of this side trades against."""
        return Side.SELL if self is Side.BUY else Side.BUY


class TimeInForce(StrEnum):
    """How long an order may work; the words are those of FIX tag 59 in lower case."""

    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


@dataclass(slots=True, kw_only=True, eq=False)
class BookOrder:
    """An order as the book sees it. `price` is in ticks (None = market order); `lots` is what is still open."""

    number: int
    owner: str
    side: Side
    price: int | None
    lots: int
    tif: TimeInForce


class Fill(NamedTuple):
    """One trade: the numbers of both orders, the resting order's price in ticks, and lots."""

    maker: int
    taker: int
    price: int
    lots: int


class Execution(NamedTuple):
    """What became of a submitted order: its fills in order, the lots now resting, the lots that ended unfilled."""

    fills: list[Fill]
    resting: int
    dropped: int


class Sweep(NamedTuple):
    """What an order could trade right now: lots, and the sum over them of price (ticks) times lots."""

    lots: int
    tick_lots: int


class _Ladder:
    """The resting orders of one side; `sign` turns prices into keys of which the smallest is the best."""

    __slots__ = ("_heap", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.levels: dict[int, OrderedDict[int, BookOrder]] = {}
        self._heap: list[int] = []

    def best(self) -> int | None:
        """The key of the best level, or None when the side is empty."""
        heap, levels = self._heap, self.levels
        while heap:
            if heap[0] in levels:
                return heap[0]
            heapq.heappop(heap)
        return None

    def from_best(self) -> Iterator[int]:
        """All keys from the best on; the rest is sorted only when somebody looks past the best."""
        best = self.best()
        if best is not None:
            yield best
            yield from sorted(self.levels)[1:]

    def add(self, order: BookOrder, price: int) -> None:
        key = self.sign * price
        level = self.levels.get(key)
        if level is None:
            level = self.levels[key] = OrderedDict()
            self._push(key)
        level[order.number] = order

    def remove(self, order: BookOrder, price: int) -> None:
        key = self.sign * price
        level = self.levels[key]
        del level[order.number]
        if not level:
            del self.levels[key]

    def _push(self, key: int) -> None:
        heap = self._heap
        heapq.heappush(heap, key)
        # Levels leave the heap lazily. Without this bound, placing and cancelling behind the best price would grow it
        # for ever.
        if len(heap) > 2 * len(self.levels) + _STALE_KEYS_ALLOWED:
            heap[:] = self.levels
            heapq.heapify(heap)


class Book:
    """One instrument's resting orders. Prices are ticks, quantities are lots, both positive integers."""

    def __init__(self) -> None:
        """Start empty."""
        self._orders: dict[int, BookOrder] = {}
        self._ladders = {Side.BUY: _Ladder(-1), Side.SELL: _Ladder(1)}

    def __len__(self) -> int:
        return len(self._orders)

    def submit(self, order: BookOrder) -> Execution:
        """Match an order and let the remainder rest if it is a limit order with day or gtc.

        An order that would meet an order of its own owner stops there and its remainder is dropped (cancel newest), so
        nobody trades with themselves. A fill-or-kill order that cannot trade whole drops whole.
        """
        if order.tif is TimeInForce.FOK and self.sweep(order).lots < order.lots:
            return Execution([], 0, order.lots)
        fills, met_itself = self._match(order)
        if not order.lots:
            return Execution(fills, 0, 0)
        if met_itself or order.price is None or order.tif in (TimeInForce.IOC, TimeInForce.FOK):
            return Execution(fills, 0, order.lots)
        self._ladders[order.side].add(order, order.price)
        self._orders[order.number] = order
        return Execution(fills, order.lots, 0)

    def cancel(self, number: int) -> BookOrder | None:
        """Take a resting order off the book and return it; None when no such order rests."""
        order = self._orders.pop(number, None)
        if order is not None and order.price is not None:
            self._ladders[order.side].remove(order, order.price)
        return order

    def best(self, side: Side) -> tuple[int, int] | None:
        """The best price of a side in ticks, with the lots resting there; None when the side is empty."""
        ladder = self._ladders[side]
        key = ladder.best()
        if key is None:
            return None
        return key * ladder.sign, sum(order.lots for order in ladder.levels[key].values())

    def sweep(self, order: BookOrder) -> Sweep:
        """What the order would trade if it were submitted now; changes nothing."""
        ladder = self._ladders[order.side.opposite]
        limit = None if order.price is None else order.price * ladder.sign
        wanted, tick_lots = order.lots, 0
        for key in ladder.from_best():
            if limit is not None and key > limit:
                break
            for resting in ladder.levels[key].values():
                if not wanted or resting.owner == order.owner:
                    return Sweep(order.lots - wanted, tick_lots)
                lots = min(wanted, resting.lots)
                wanted -= lots
                tick_lots += lots * key * ladder.sign
        return Sweep(order.lots - wanted, tick_lots)

    def resting(self, side: Side) -> list[BookOrder]:
        """All resting orders of a side in the order in which they would trade."""
        ladder = self._ladders[side]
        return [order for key in ladder.from_best() for order in ladder.levels[key].values()]

    def _match(self, order: BookOrder) -> tuple[list[Fill], bool]:
        ladder = self._ladders[order.side.opposite]
        limit = None if order.price is None else order.price * ladder.sign
        fills: list[Fill] = []
        while order.lots:
            key = ladder.best()
            if key is None or (limit is not None and key > limit):
                break
            if self._match_level(order, ladder, key, fills):
                return fills, True
        return fills, False

    def _match_level(self, order: BookOrder, ladder: _Ladder, key: int, fills: list[Fill]) -> bool:
        """Trade with one level, oldest first; true when the order met one of its own owner."""
        level = ladder.levels[key]
        price = key * ladder.sign
        while order.lots and level:
            resting = next(iter(level.values()))
            if resting.owner == order.owner:
                return True
            lots = min(order.lots, resting.lots)
            order.lots -= lots
            resting.lots -= lots
            fills.append(Fill(resting.number, order.number, price, lots))
            if not resting.lots:
                del level[resting.number]
                del self._orders[resting.number]
        if not level:
            del ladder.levels[key]
        return False
