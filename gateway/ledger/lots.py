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
from gateway.ledger.tables import Row, Value
from gateway.terms.money import BOUGHT, OWN, SOLD, Unit

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


def settled(book: Book, held: Sequence[Hold], plain: list[int], *, live: bool) -> list[int]:
    """What is charged in the place of each hold: `plain`, which charges each unit the same everywhere, without lots.

    `live`: the order may have an open rest, which is what of its exposure is not paid.
    """
    told = _told(held, plain, live=live)
    if told is None:
        return plain
    lots = _lots(book, held, told)
    return [_charged(book, hold, charge, told, lots) for hold, charge in zip(held, plain, strict=True)]


class _Change(msgspec.Struct, frozen=True, kw_only=True):
    """A lot before and after, and what the operation had done to it before."""

    window: Value
    """Of its balances: its account's."""
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


def _told(held: Sequence[Hold], plain: list[int], *, live: bool) -> _Told | None:
    own: dict[Row, tuple[Hold, int]] = {}
    exposed = opens = False
    exposure = position = 0
    for hold, charge in zip(held, plain, strict=True):
        _, unit, window = hold.place
        if window in OWN:
            own[hold.place] = (hold, charge)
        elif unit == _EXPOSURE:
            exposed, opens, exposure = True, opens or hold.amount > 0, max(exposure, charge)
        elif unit == _POSITION:
            position = max(position, charge)
    found = [place for place in own if place[1] == _FILLED]
    if len(found) != 1 or not exposed:
        return None
    [(scope, _, window)] = found
    (filled_hold, filled), (paid_hold, paid) = own[found[0]], own[scope, _PAID, window]
    if not opens:
        exposure = 0
    worth = min(paid if live else exposure, exposure) if filled else 0
    bought = position if window == BOUGHT else 0
    return _Told(
        account=str(scope),
        fill=_Fill(
            way=_WAYS[str(window)],
            opens=opens,
            quantity=filled - filled_hold.charged,
            worth=worth - paid_hold.charged,
        ),
        filled_before=filled_hold.charged,
        paid=worth,
        open_worth=exposure - worth if live else 0,
        open_worth_before=own[scope, _OPEN, window][0].charged,
        open_quantity=max(0, bought - filled),
    )


def _lots(book: Book, held: Sequence[Hold], told: _Told) -> dict[str, _Change]:
    """By scope, what becomes of each lot."""
    quantities = {(hold.place[0], hold.place[2]): hold for hold in held if hold.place[1] == _POSITION}
    lots: dict[str, _Change] = {}
    for hold in held:
        if hold.place[1] != _BOOK:
            continue
        scope, _, window = hold.place
        quantity = quantities[scope, window]
        before = Lot(book.balance(quantity.place).spent, book.balance(hold.place).spent)
        mine = Lot(quantity.charged, hold.charged)
        if told.fill.quantity < 0:
            after = before.without(mine, -told.fill.quantity, told.filled_before)
        else:
            after = before.after(told.fill)
        lots[str(scope)] = _Change(window=window, before=before, after=after, mine=mine)
    return lots


def _charged(book: Book, hold: Hold, plain: int, told: _Told, lots: dict[str, _Change]) -> int:
    scope, unit, window = hold.place
    if unit == _POSITION:
        lot = lots.get(str(scope))
        if lot is not None and lot.window == window:
            return lot.quantity
        return _of(lots, told, str(scope)).quantity + told.open_quantity
    if unit == _EXPOSURE:
        spent = book.balance(hold.place).spent
        added = _of(lots, told, str(scope) + "/").added + told.open_worth - told.open_worth_before
        # A balance below zero is one that an older gateway left, which gave back what was never taken.
        return hold.charged + max(0, max(0, spent) + added) - spent
    if unit == _BOOK:
        return hold.charged + lots[str(scope)].added
    if unit == _PAID:
        return told.paid
    return told.open_worth if unit == _OPEN else plain


def _of(lots: dict[str, _Change], told: _Told, scope: str) -> _Change:
    """The lot of a scope; the account's for one without lots of its own."""
    for place, lot in lots.items():
        if place.startswith(scope):
            return lot
    return lots[told.account]


def _lot(quantity: int, cost: int) -> Lot:
    """What is not there has cost nothing."""
    return Lot(quantity, max(0, cost) if quantity else 0)
