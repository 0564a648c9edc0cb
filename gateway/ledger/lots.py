"""What a scope has open of one symbol at one account, and what it cost: purchases add to it, and sales give back.

An order that opens adds what is filled of it to the lot of every scope that it counts in; one that closes takes away,
and gives back the part of the lot's cost that it closes, at average cost. So a lot of nothing has cost nothing, no
matter what was gained or lost, and who sells what another agent bought has nothing to give back. Exposure is the cost
of a scope's lots and what the open rest of its orders may cost; it is never below zero.

A lot is two balances in the window of its account: its quantity (`POSITION`, below zero for one that is short) and its
cost (`BOOK`). Account and agent have lots; what its accounts' lots do, the firm's exposure does. Each order also counts
for itself what it filled (`FILLED`), paid (`PAID`) and has open (`OPEN`), so that what is told of it again is counted
once. What an order does to a lot depends on what is there: it is found in the transaction that writes it, and told in
its record.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.ledger.book import Book
from gateway.ledger.entries import Hold
from gateway.ledger.tables import Row
from gateway.terms.money import BOUGHT, SOLD, Unit

_WAYS: Final = {BOUGHT: 1, SOLD: -1}

_BOOK, _EXPOSURE, _FILLED = Unit.BOOK.value, Unit.EXPOSURE.value, Unit.FILLED.value
_OPEN, _PAID, _POSITION = Unit.OPEN.value, Unit.PAID.value, Unit.POSITION.value
"""As the places of holds have them."""


class Lot(msgspec.Struct, frozen=True):
    """What is open, below zero if it is owed, and what it cost."""

    quantity: int
    cost: int

    def after(self, fill: "_Fill") -> "Lot":
        """The lot with one more fill: it closes what is open the other way, and the rest of it opens, if it may."""
        if fill.quantity == 0:
            return self._priced(fill)
        closed = min(fill.quantity, max(0, -fill.way * self.quantity))
        cost = self.cost - (self.cost * closed // abs(self.quantity) if closed else 0)
        opened = fill.quantity - closed if fill.opens else 0
        # What is opened is rounded up, what is given back was rounded down.
        cost += -(-fill.worth * opened // fill.quantity)
        return _lot(self.quantity + fill.way * (closed + opened), cost)

    def without(self, mine: "Lot", part: int, whole: int) -> "Lot":
        """The lot without a part of what one operation had done to it."""
        return _lot(self.quantity - mine.quantity * part // whole, self.cost - mine.cost * part // whole)

    def _priced(self, fill: "_Fill") -> "Lot":
        """The price of what was filled before is another one now."""
        return _lot(self.quantity, self.cost + fill.worth) if fill.opens and fill.way * self.quantity > 0 else self


class _Fill(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an order now and was not before."""

    way: int
    """1 for a purchase, -1 for a sale."""
    opens: bool
    """Whether it was admitted as one that may open; otherwise it only closes."""
    quantity: int
    worth: int


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """What an outcome tells of an order, each with the hold that says what was told before."""

    fill: _Fill
    account: str
    """The scope of the account's lot."""
    filled_before: int
    paid: int
    open_worth: int
    open_worth_before: int
    open_quantity: int


def settled(book: Book, held: Sequence[Hold], plain: tuple[Hold, ...], *, live: bool) -> tuple[Hold, ...]:
    """`plain`, which charges each unit the same everywhere, with what the lots make of it; as it is without lots.

    `live`: the order may have an open rest, which is what of its exposure is not paid.
    """
    told = _told(held, plain, live=live)
    if told is None:
        return plain
    lots = _lots(book, held, told)
    return tuple(_charged(book, hold, after, told, lots) for hold, after in zip(held, plain, strict=True))


class _Change(msgspec.Struct, frozen=True, kw_only=True):
    """A lot before and after, and what the operation had done to it before."""

    before: Lot
    after: Lot
    mine: Lot

    @property
    def quantity(self) -> int:
        """What the operation has done to it by now."""
        return self.mine.quantity + self.after.quantity - self.before.quantity

    @property
    def added(self) -> int:
        """To its cost, now."""
        return self.after.cost - self.before.cost


def _told(held: Sequence[Hold], plain: tuple[Hold, ...], *, live: bool) -> _Told | None:
    places = {hold.place: (hold, after) for hold, after in zip(held, plain, strict=True)}
    exposures = [after for (_, unit, _), (_, after) in places.items() if unit == _EXPOSURE]
    found = [place for place in places if place[1] == _FILLED and place[2] in _WAYS]
    if len(found) != 1 or not exposures:
        return None
    [(scope, _, window)] = found
    (filled_hold, filled), (paid_hold, paid) = places[found[0]], places[scope, _PAID, window]
    opens = any(hold.amount for hold in exposures)
    exposure = max(0, *(hold.charged for hold in exposures)) if opens else 0
    worth = min(paid.charged if live else exposure, exposure) if filled.charged else 0
    positions = (after.charged for (_, unit, _), (_, after) in places.items() if unit == _POSITION)
    bought = max(positions, default=0) if window == BOUGHT else 0
    return _Told(
        account=str(scope),
        fill=_Fill(
            way=_WAYS[str(window)],
            opens=opens,
            quantity=filled.charged - filled_hold.charged,
            worth=worth - paid_hold.charged,
        ),
        filled_before=filled_hold.charged,
        paid=worth,
        open_worth=exposure - worth if live else 0,
        open_worth_before=places[scope, _OPEN, window][0].charged,
        open_quantity=max(0, bought - filled.charged),
    )


def _lots(book: Book, held: Sequence[Hold], told: _Told) -> dict[Row, _Change]:
    """By scope and window, what becomes of each lot."""
    quantities = {(hold.place[0], hold.place[2]): hold for hold in held if hold.place[1] == _POSITION}
    lots: dict[Row, _Change] = {}
    for hold in held:
        if hold.place[1] != _BOOK:
            continue
        quantity = quantities[hold.place[0], hold.place[2]]
        before = Lot(book.balance(quantity.place).spent, book.balance(hold.place).spent)
        mine = Lot(quantity.charged, hold.charged)
        if told.fill.quantity < 0:
            after = before.without(mine, -told.fill.quantity, told.filled_before)
        else:
            after = before.after(told.fill)
        lots[hold.place[0], hold.place[2]] = _Change(before=before, after=after, mine=mine)
    return lots


def _charged(book: Book, hold: Hold, plain: Hold, told: _Told, lots: dict[Row, _Change]) -> Hold:
    scope, unit, window = hold.place
    if unit == _BOOK:
        charged = hold.charged + lots[scope, window].added
    elif unit == _PAID:
        charged = told.paid
    elif unit == _OPEN:
        charged = told.open_worth
    elif unit == _POSITION:
        lot = lots.get((scope, window))
        charged = _of(lots, told, str(scope)).quantity + told.open_quantity if lot is None else lot.quantity
    elif unit == _EXPOSURE:
        spent = book.balance(hold.place).spent
        added = _of(lots, told, str(scope) + "/").added + told.open_worth - told.open_worth_before
        # A balance below zero is one that an older gateway left, which gave back what was never taken.
        charged = hold.charged + max(0, max(0, spent) + added) - spent
    else:
        return plain
    return Hold(hold.place, hold.amount, charged, "settled" if charged else "released")


def _of(lots: dict[Row, _Change], told: _Told, scope: str) -> _Change:
    """The lot of a scope; the account's for one without lots of its own."""
    by_scope = {str(place): lot for (place, _), lot in lots.items()}
    return next((lot for place, lot in by_scope.items() if place.startswith(scope)), by_scope[told.account])


def _lot(quantity: int, cost: int) -> Lot:
    """What is not there has cost nothing."""
    return Lot(quantity, max(0, cost) if quantity else 0)
