"""Placing and cancelling orders: sent once, never again, and cleared up by our own id when the reply is lost.

A vendor's client sent one order four times on a 504 (measured: governance study, section 0, item 6; attack row 28).
Here an order is posted exactly once. When nobody can say what became of it, one look-up by its client order id may
tell; otherwise the outcome is Unknown, and everything stays held. "Not found" right after a lost reply proves nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from math import ceil, floor
from typing import Final

import msgspec

from gateway.terms.asks import ToolAsk
from gateway.terms.clock import Clock
from gateway.terms.money import MICRO, NANO, MicroUsd, NanoUnits, Unit, scaled, written
from gateway.terms.operations import Failed, Failure, Outcome, Reservation, Succeeded, Unknown
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.alpaca_rest import Answer, Origin, Reply, Request, Rest
from gateway.tools.alpaca_results import ONE_CALL, Results, has_error_form, order_members
from gateway.tools.alpaca_wire import (
    ENDED,
    EXACT,
    ORDER_ID,
    VenueOrder,
    WireError,
    micro_up,
    read_order,
    unix_us,
    within_long,
)
from gateway.tools.client_order_id import client_order_id
from gateway.tools.deadline import Deadline
from gateway.tools.pretrade import Side
from gateway.tools.roundtrip import NoAnswer

SENDING_SHARE: Final = 0.7
"""Of the call's time; the rest is for looking up an order whose reply is lost."""

_REFUSED_AT_ONCE: Final = frozenset({400, 401, 403, 404, 405, 413, 415})
_REFUSED_UNLESS_FOUND: Final = frozenset({409, 422, 429})
"""May stand for an order of ours that is there already: a look-up decides."""

UNREACHABLE: Final = Failed(
    failure=Failure(
        reason="upstream.unreachable", message="The venue cannot be reached; nothing was sent. Try again later."
    )
)
REPLY_LOST: Final = Unknown(
    failure=Failure(
        reason="upstream.reply_lost",
        message="The venue's reply is lost and a look-up did not find out; nobody knows yet whether it happened.",
    )
)
_NONE: Final = Decimal(0)
_WORDS: Final = ("symbol", "side", "type", "time_in_force", "quantity")
ID_TAKEN: Final = "venue.client_order_id_taken"
_ID_TAKEN: Final = Failed(
    failure=Failure(
        reason=ID_TAKEN,
        message="The venue refused this order's id: it has had another order under it since before this call.",
    ),
    charges=ONE_CALL,
)
_NOT_AS_SENT: Final = Unknown(
    failure=Failure(
        reason="venue.order_not_as_sent",
        message=(
            "The venue shows an order under this call's own order id, with other terms than were sent. It may be this "
            "order as the venue took it, for nobody else makes that id; all stays held, and a person must compare them."
        ),
    )
)
LONG_BEFORE_US: Final = 60_000_000
"""An order that the venue had for so long before a call began is not of that call, however its clock runs."""


class OrderTerms(msgspec.Struct, frozen=True, kw_only=True):
    """An order as its checked arguments ask for it."""

    symbol: str
    side: Side
    type: str
    time_in_force: str
    quantity: NanoUnits
    limit_price: MicroUsd
    """0 for a market order."""

    @classmethod
    def of(cls, ask: ToolAsk) -> "OrderTerms":
        """The terms of a `place_order` ask."""
        arguments = ask.arguments
        return _read(tuple(str(arguments[name]) for name in _WORDS), str(arguments.get("limit_price", "0")))

    def body(self, client_id: str) -> dict[str, str]:
        """The order in the venue's words, written anew from what was read (attack row 11)."""
        limit = {"limit_price": written(self.limit_price, MICRO)} if self.limit_price else {}
        return {
            "symbol": self.symbol,
            "qty": written(self.quantity, NANO),
            "side": self.side.value,
            "type": self.type,
            "time_in_force": self.time_in_force,
            "client_order_id": client_id,
            **limit,
        }

    def are_of(self, order: VenueOrder) -> bool:
        """Whether the venue's order is this one."""
        limit = EXACT.divide(self.limit_price, MICRO) if self.limit_price else None
        theirs = (order.symbol, order.side, order.type, order.time_in_force, order.quantity, order.limit_price)
        quantity = EXACT.divide(self.quantity, NANO)
        return theirs == (self.symbol, self.side.value, self.type, self.time_in_force, quantity, limit)


@lru_cache(maxsize=1_024)
def _read(words: tuple[str, ...], limit_price: str) -> OrderTerms:
    """The terms in the words of `_WORDS`; kept, because each step of an order's way reads the same ones."""
    symbol, side, kind, time_in_force, quantity = words
    return OrderTerms(
        symbol=symbol,
        side=Side(side),
        type=kind,
        time_in_force=time_in_force,
        quantity=NanoUnits(scaled(quantity, NANO)),
        limit_price=MicroUsd(scaled(limit_price, MICRO)),
    )


class Orders:
    """The effects of one account."""

    def __init__(self, rest: Rest, config: AlpacaConfig, clock: Clock) -> None:
        self._rest = rest
        self._config = config
        self._clock = clock
        self._results = Results(config)

    async def place(self, ask: ToolAsk, reservation: Reservation) -> Outcome:
        """Send the order once, and say truthfully what is known of it."""
        placing = Placing(
            begun_unix_us=self._clock.unix_us(),
            terms=OrderTerms.of(ask),
            client_id=client_order_id(self._config.client_order_key, reservation.key),
            held=held_worth(reservation),
            reduces=reduces((claim.unit, claim.amount) for claim in reservation.claims),
        )
        deadline = Deadline(self._clock, ask.tool.timeout_ms)
        request = Request(
            method="POST",
            origin=Origin.TRADING,
            segments=("v2", "orders"),
            body=placing.terms.body(placing.client_id),
        )
        reply = await self._rest.call(request, deadline.left_s(SENDING_SHARE))
        if isinstance(reply, NoAnswer) and not reply.sent:
            return UNREACHABLE
        order = accepted(reply)
        if order is not None and order.client_order_id == placing.client_id and placing.terms.are_of(order):
            return self.settled(placing, order)
        if isinstance(reply, Answer) and _refused_at_once(reply):
            return self._results.refused(reply)
        return await self._cleared_up(placing, reply, deadline)

    async def _cleared_up(self, placing: "Placing", reply: Reply, deadline: Deadline) -> Outcome:
        """Look the order up by our id: once, for a look-up has no effect, but time has."""
        lookup = await self._rest.call(by_client_order_id(placing.client_id), deadline.left_s())
        order = accepted(lookup)
        if order is not None and order.client_order_id == placing.client_id:
            duplicate = isinstance(reply, Answer) and self._results.refused(reply).failure.reason == ID_TAKEN
            return settlement(placing, order, self._results.encoded, duplicate=duplicate)
        if (
            absent(lookup)
            and isinstance(reply, Answer)
            and reply.status in _REFUSED_UNLESS_FOUND
            and has_error_form(reply)
        ):
            return self._results.refused(reply)
        return REPLY_LOST

    def settled(self, placing: "Placing", order: VenueOrder) -> Outcome:
        """See `settlement`."""
        return settlement(placing, order, self._results.encoded)

    async def cancel(self, ask: ToolAsk) -> Outcome:
        """Ask the venue to cancel; an order that is cancelled already counts as cancelled (a cancel is natural)."""
        order_id = str(ask.arguments["order_id"])
        deadline = Deadline(self._clock, ask.tool.timeout_ms)
        reply = await self._rest.call(by_cancel(order_id), deadline.left_s(SENDING_SHARE))
        if isinstance(reply, NoAnswer) and not reply.sent:
            return UNREACHABLE
        if isinstance(reply, Answer) and reply.status in {200, 204}:
            return self._results.told({"order_id": order_id, "status": "cancel_accepted"})
        if isinstance(reply, Answer) and _refused_at_once(reply):
            return self._results.refused(reply)
        lookup = await self._rest.call(by_order_id(order_id), deadline.left_s())
        return self._cancel_cleared_up(order_id, reply, lookup)

    def _cancel_cleared_up(self, order_id: str, reply: Reply, lookup: Reply) -> Outcome:
        """A refusal stands where the look-up shows that nothing was cancelled: it may be of a second sending."""
        order = accepted(lookup)
        outcome = None if order is None else self.cancelled(order_id, order)
        if outcome is not None:
            return outcome
        shown = absent(lookup) or (order is not None and order.id == order_id)
        if shown and isinstance(reply, Answer) and reply.status in _REFUSED_UNLESS_FOUND and has_error_form(reply):
            return self._results.refused(reply)
        return REPLY_LOST

    def cancelled(self, order_id: str, order: VenueOrder) -> Outcome | None:
        """See `cancellation`."""
        return cancellation(order_id, order, self._results.told)


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """One order on its way."""

    terms: OrderTerms
    client_id: str
    held: MicroUsd
    """Notional that is held for the whole order; 0 where nothing counts it."""
    reduces: bool
    """Whether it was admitted as one that gives exposure back."""
    begun_unix_us: int
    """When the call was begun that places it, or a moment later."""

    def long_after(self, order: VenueOrder) -> bool:
        """Whether it was begun so long after the venue took that order that it cannot be this one."""
        return unix_us(order.submitted_at) < self.begun_unix_us - LONG_BEFORE_US

    def charges(self, order: VenueOrder) -> tuple[tuple[Unit, int], ...]:
        """What the order costs as it stands: what is filled at its price, what is open at its limit or as held.

        Rounded against the caller. What closes a position is no exposure: what it gives back, the ledger knows.
        """
        terms = self.terms
        units = EXACT.multiply(order.filled, NANO)
        remainder = _NONE if order.ended else EXACT.subtract(terms.quantity, units)
        paid = EXACT.multiply(order.filled, order.average_price or _NONE)
        price, per = (terms.limit_price, NANO) if terms.limit_price else (self.held, terms.quantity)
        # Rounding up what is divided, and then the quotient, is rounding up once.
        divided = EXACT.fma(paid, MICRO * per, EXACT.multiply(remainder, price))
        worth = within_long(-(-ceil(divided) // per))
        bought = terms.side is Side.BUY
        return (
            (Unit.CALLS, 1),
            (Unit.NOTIONAL, worth),
            (Unit.EXPOSURE, 0 if self.reduces else worth),
            (Unit.POSITION, ceil(EXACT.add(units, remainder)) if bought else -floor(units)),
            (Unit.TRADED, ceil(units) + ceil(remainder)),
            (Unit.FILLED, ceil(units)),
            (Unit.PAID, 0 if self.reduces else micro_up(paid)),
        )


def settlement(
    placing: Placing, order: VenueOrder, encoded: Callable[[Mapping[str, object]], bytes], *, duplicate: bool = False
) -> Outcome:
    """What an order of our client order id means for the call that placed it, as it stands at the venue.

    The id is derived from a secret key, so with other terms it is still most likely this call's order, which the venue
    changed: only one that ended with nothing filled is certainly nothing. Another's it is where the venue refused this
    call's sending as a `duplicate` of one that it had long before.
    """
    if not placing.terms.are_of(order):
        if placing.long_after(order):
            return _ID_TAKEN if duplicate else _NOT_AS_SENT
        if order.filled or not order.ended:
            return _NOT_AS_SENT
    if order.ended and not order.filled:
        message = f"The order ended as {order.status} and nothing of it was filled."
        failure = Failure(reason=f"venue.order_{order.status}", message=message)
        return Failed(failure=failure, charges=ONE_CALL)
    try:
        charges = placing.charges(order)
    except WireError:
        return REPLY_LOST
    return Succeeded(result=encoded(order_members(order)), charges=charges, live=not order.ended)


def cancellation(order_id: str, order: VenueOrder, told: Callable[[Mapping[str, object]], Succeeded]) -> Outcome | None:
    """What an order as it stands now means for the call that cancels it; None while it says nothing."""
    if order.id != order_id:
        return None
    if order.status in {"canceled", "pending_cancel"}:
        return told({"order_id": order_id, "status": "cancel_accepted"})
    if order.ended:
        message = f"The order ended as {order.status}; there is nothing left to cancel."
        return Failed(failure=Failure(reason="venue.not_cancelable", message=message), charges=ONE_CALL)
    return None


def by_order_id(order_id: str) -> Request:
    """Shows an order by the venue's id."""
    return Request(method="GET", origin=Origin.TRADING, segments=("v2", "orders", order_id))


def by_client_order_id(client_id: str) -> Request:
    """Shows an order by our id."""
    return Request(
        method="GET",
        origin=Origin.TRADING,
        segments=("v2", "orders:by_client_order_id"),
        query={"client_order_id": client_id},
    )


def by_cancel(order_id: str) -> Request:
    """Cancels an order by the venue's id."""
    return Request(method="DELETE", origin=Origin.TRADING, segments=("v2", "orders", order_id))


def accepted(reply: Reply) -> VenueOrder | None:
    """The order that a reply shows, if it is a good one."""
    if not isinstance(reply, Answer) or reply.status not in {200, 201}:
        return None
    try:
        return read_order(reply.body)
    except WireError:
        return None


def absent(reply: Reply) -> bool:
    """Whether the venue itself says that it has no such order."""
    return isinstance(reply, Answer) and reply.status == 404 and has_error_form(reply)


def open_under(reply: Reply, client_id: str) -> str:
    """The venue's id of what is not known to have ended under our id, whatever else is said of it; or nothing."""
    if not isinstance(reply, Answer) or reply.status not in {200, 201} or not isinstance(reply.body, dict):
        return ""
    order_id, ours = reply.body.get("id"), reply.body.get("client_order_id") == client_id
    if not ours or reply.body.get("status") in ENDED or not isinstance(order_id, str):
        return ""
    return order_id if ORDER_ID.fullmatch(order_id) else ""


def _refused_at_once(reply: Answer) -> bool:
    """Whether the venue itself said a no that cannot stand for anything else."""
    return reply.status in _REFUSED_AT_ONCE and has_error_form(reply)


def held_worth(reservation: Reservation) -> MicroUsd:
    """What is held for the whole order, in millionths of a dollar; 0 where nothing counts it."""
    counted = {Unit.NOTIONAL, Unit.EXPOSURE}
    worths = [claim.amount for claim in reservation.claims if claim.unit in counted]
    return MicroUsd(max(worths, default=0))


def reduces(held: Iterable[tuple[Unit, int]]) -> bool:
    """Whether an order was admitted as one that reduces: it held no exposure, though exposure counts it."""
    exposure = Unit.EXPOSURE
    exposures = [amount for unit, amount in held if unit is exposure]
    return bool(exposures) and not any(exposures)
