"""Finding out later, by our own id, what became of an order or of a cancel; and withdrawing what is still open.

A look-up has no effect, so it may be made as often as one likes. That the venue does not know an order is proof only
after the time in which it may still accept one: counted from the intent, with the time that sending may take and with
what the clocks of two gateways may differ (governance study, section 3.2).
"""

from typing import Final

import msgspec

from gateway.terms.aftercare import Finding, NotYet, Unknowable, Watched
from gateway.terms.clock import CLOCKS_APART_US, Clock
from gateway.terms.money import MicroUsd, NanoUnits, Unit
from gateway.terms.operations import Failed, Failure, Outcome, Unknown
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.alpaca_orders import (
    Orders,
    OrderTerms,
    Placing,
    absent,
    accepted,
    by_cancel,
    by_client_order_id,
    by_order_id,
    open_under,
    reduces,
)
from gateway.tools.alpaca_rest import Answer, Reply, Rest
from gateway.tools.alpaca_results import ONE_CALL
from gateway.tools.alpaca_wire import VenueOrder
from gateway.tools.deadline import Deadline
from gateway.tools.pretrade import Side

CLOCKS_APART_MS: Final = CLOCKS_APART_US // 1_000
"""How far the clocks of two instances, or of one before and after a correction, may be apart."""

NO_SUCH_ORDER: Final = Failed(
    failure=Failure(
        reason="venue.order_never_arrived",
        message="The venue has no such order, and accepts none so late: it was never placed.",
    ),
    charges=ONE_CALL,
)
NOT_CANCELLED: Final = Failed(
    failure=Failure(
        reason="venue.cancel_never_arrived",
        message="The order is still open, and the venue accepts no cancel so late: it was never cancelled.",
    ),
    charges=ONE_CALL,
)
NO_MEMO: Final = Unknowable(
    failure=Failure(reason="venue.unreadable_memo", message="It is not known what to ask the venue for.")
)


class OrderMemo(msgspec.Struct, frozen=True, kw_only=True, tag_field="memo", tag="order", forbid_unknown_fields=True):
    """What must be known of an order to ask for it and to charge it."""

    client_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    quantity: int
    """In billionths."""
    limit_price: int
    """In millionths of a dollar."""

    def placing(self, watched: Watched) -> Placing:
        """The order as it was placed. Raises ValueError for a memo that is none."""
        terms = OrderTerms(
            symbol=self.symbol,
            side=Side(self.side),
            type=self.type,
            time_in_force=self.time_in_force,
            quantity=NanoUnits(self.quantity),
            limit_price=MicroUsd(self.limit_price),
        )
        return Placing(
            terms=terms,
            client_id=self.client_id,
            held=_held_at_first(watched),
            reduces=reduces(watched.held),
            begun_unix_us=watched.operation.created_unix_us,
        )


class CancelMemo(msgspec.Struct, frozen=True, kw_only=True, tag_field="memo", tag="cancel", forbid_unknown_fields=True):
    """What must be known of a cancel to ask whether it happened."""

    order_id: str


def order_memo(terms: OrderTerms, client_id: str) -> bytes:
    """The memo of an order."""
    return msgspec.json.encode(
        OrderMemo(
            client_id=client_id,
            symbol=terms.symbol,
            side=terms.side.value,
            type=terms.type,
            time_in_force=terms.time_in_force,
            quantity=terms.quantity,
            limit_price=terms.limit_price,
        )
    )


def cancel_memo(order_id: str) -> bytes:
    """The memo of a cancel."""
    return msgspec.json.encode(CancelMemo(order_id=order_id))


class Aftercarer:
    """Looks after the effects of one account."""

    def __init__(self, rest: Rest, config: AlpacaConfig, clock: Clock, orders: Orders) -> None:
        self._rest = rest
        self._config = config
        self._clock = clock
        self._orders = orders

    async def look(self, watched: Watched) -> Finding:
        """See `gateway.tools.backend.Backend.look`."""
        try:
            memo = msgspec.json.decode(watched.memo, type=OrderMemo | CancelMemo)
            deadline = Deadline(self._clock, self._config.timeout_ms)
            if isinstance(memo, CancelMemo):
                return await self._cancel(watched, memo, deadline)
            placing = memo.placing(watched)
        except ValueError:
            return NO_MEMO
        return await self._order(watched, placing, deadline)

    async def _order(self, watched: Watched, placing: Placing, deadline: Deadline) -> Finding:
        request = by_client_order_id(placing.client_id)
        reply = await self._rest.call(request, deadline.left_s(0.3))
        if watched.withdraw and (open_id := open_under(reply, placing.client_id)):
            # Under our id it is ours, also with other terms. Whatever this answers, the order tells what came of it.
            await self._rest.call(by_cancel(open_id), deadline.left_s(0.5))
            reply = await self._rest.call(request, deadline.left_s())
        order = accepted(reply)
        if order is not None and order.client_order_id == placing.client_id:
            return finding(watched, order, self._orders.settled(placing, order))
        if watched.lost and absent(reply) and self._too_late(watched):
            return NO_SUCH_ORDER
        return _not_yet(reply)

    async def _cancel(self, watched: Watched, memo: CancelMemo, deadline: Deadline) -> Finding:
        reply = await self._rest.call(by_order_id(memo.order_id), deadline.left_s())
        order = accepted(reply)
        outcome = None if order is None else self._orders.cancelled(memo.order_id, order)
        if outcome is not None and not isinstance(outcome, Unknown):
            return outcome
        if order is not None and order.id == memo.order_id and self._too_late(watched):
            return NOT_CANCELLED
        return _not_yet(reply)

    def _too_late(self, watched: Watched) -> bool:
        """Whether nothing that was sent then can take effect any more."""
        window_ms = self._config.timeout_ms + self._config.acceptance_ms + CLOCKS_APART_MS
        return self._clock.unix_us() - watched.operation.created_unix_us > window_ms * 1_000


def finding(watched: Watched, order: VenueOrder, outcome: Outcome) -> Finding:
    """What an order under our id came to; where that cannot be said of one that has ended, asking again is no use."""
    if not isinstance(outcome, Unknown):
        return outcome
    if watched.lost and order.ended:
        return Unknowable(failure=outcome.failure)
    return NotYet(failure=outcome.failure)


def _not_yet(reply: Reply) -> NotYet:
    if absent(reply):
        message = "The venue does not know it yet; it may still accept it."
        return NotYet(failure=Failure(reason="venue.not_found_yet", message=message))
    said = f"answered {reply.status}" if isinstance(reply, Answer) else "did not answer"
    return NotYet(failure=Failure(reason="venue.no_look_up", message=f"The venue {said} when it was asked."))


def _held_at_first(watched: Watched) -> MicroUsd:
    """What was held for the whole order, in millionths of a dollar; 0 where nothing counted it."""
    worths = [amount for unit, amount in watched.held if unit in {Unit.NOTIONAL, Unit.EXPOSURE}]
    return MicroUsd(max(worths, default=0))
