"""Orders at an exchange of ccxt's: sent once, never again, cleared up by our own id, and looked after by it later.

That an exchange said no counts only in its own words and with a status that says so; an error of the library alone says
nothing of what happened. What nobody can say is Unknown, and everything stays held.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from gateway.terms.aftercare import Finding, NotYet, Watched
from gateway.terms.asks import ToolAsk
from gateway.terms.clock import Clock
from gateway.terms.money import MICRO, NANO, Unit, written
from gateway.terms.operations import Failed, Failure, OperationKey, Outcome, Reservation, Succeeded, Unknown
from gateway.tools.alpaca_aftercare import (
    CLOCKS_APART_MS,
    NO_MEMO,
    NO_SUCH_ORDER,
    NOT_CANCELLED,
    OrderMemo,
    finding,
)
from gateway.tools.alpaca_orders import (
    REPLY_LOST,
    SENDING_SHARE,
    UNREACHABLE,
    OrderTerms,
    Placing,
    cancellation,
    held_worth,
    reduces,
    settlement,
)
from gateway.tools.alpaca_wire import VenueOrder, WireError
from gateway.tools.ccxt_config import CcxtConfig
from gateway.tools.ccxt_markets import Markets
from gateway.tools.ccxt_readings import open_under, read_order
from gateway.tools.ccxt_wire import ID_TAKEN, Lost, Refused, Reply, Told, Wire
from gateway.tools.client_order_id import client_order_id
from gateway.tools.deadline import Deadline
from gateway.tools.words import harmless

ONE_CALL: Final = ((Unit.CALLS, 1),)
_ABSENT: Final = "venue.not_found"


class SpotCancelMemo(msgspec.Struct, frozen=True, kw_only=True, tag_field="memo", tag="ccxt-cancel"):
    """What must be known of a cancel to ask whether it happened."""

    symbol: str
    order_id: str


def our_id(config: CcxtConfig, key: OperationKey) -> str:
    """The client order id of an operation, cut to what the exchange takes."""
    return client_order_id(config.client_order_key, key)[: config.verified.client_id_max]


class Results:
    """Writes results in the name of one venue."""

    def __init__(self, config: CcxtConfig) -> None:
        self._venue = config.name
        self._secrets = (config.secret_key, config.key_id)

    def encoded(self, members: Mapping[str, object]) -> bytes:
        """One JSON object that names the venue."""
        return msgspec.json.encode({"venue": self._venue, **members})

    def told(self, members: Mapping[str, object]) -> Succeeded:
        """A call that succeeded and cost nothing but itself."""
        return Succeeded(result=self.encoded(members), charges=ONE_CALL)

    def refused(self, no: Refused) -> Failed:
        """A definite no, with the exchange's own words made harmless."""
        words = harmless(no.words, self._secrets)
        who = "The venue refused" if no.sent else "Nothing was sent: the order is not one for this venue"
        message = f"{who}: {words}" if words else f"{who}."
        return Failed(failure=Failure(reason=no.reason, message=message), charges=ONE_CALL if no.sent else ())


class Orders:
    """The effects of one account."""

    def __init__(self, wire: Wire, markets: Markets, config: CcxtConfig, clock: Clock) -> None:
        self._wire = wire
        self._library = wire.library
        self._markets = markets
        self._config = config
        self._clock = clock
        self._results = Results(config)

    async def place(self, ask: ToolAsk, reservation: Reservation) -> Outcome:
        """Send the order once, and say truthfully what is known of it."""
        placing = Placing(
            begun_unix_us=self._clock.unix_us(),
            terms=OrderTerms.of(ask),
            client_id=our_id(self._config, reservation.key),
            held=held_worth(reservation),
            reduces=reduces((claim.unit, claim.amount) for claim in reservation.claims),
        )
        deadline = Deadline(self._clock, ask.tool.timeout_ms)
        if not await self._markets.ready(deadline.left_s(0.3)) or self._markets.fault(placing.terms) is not None:
            # Both were so when the limits were checked; nothing has left since.
            return UNREACHABLE
        reply = await self._wire.call(self._placing(placing), deadline.left_s(SENDING_SHARE))
        if isinstance(reply, Lost) and not reply.sent:
            return UNREACHABLE
        order = _order(reply, placing.terms.symbol)
        if order is not None and order.client_order_id == placing.client_id and placing.terms.are_of(order):
            return settlement(placing, order, self._results.encoded)
        if isinstance(reply, Refused) and reply.at_once:
            return self._results.refused(reply)
        return await self._cleared_up(placing, reply, deadline)

    def _placing(self, placing: Placing) -> Callable[[], Awaitable[object]]:
        terms = placing.terms
        limit = written(terms.limit_price, MICRO) if terms.limit_price else None
        extra = {self._config.verified.place_parameter: placing.client_id}
        if limit is not None:
            extra["timeInForce"] = terms.time_in_force.upper()
        quantity = written(terms.quantity, NANO)
        return lambda: self._library.create_order(terms.symbol, terms.type, terms.side.value, quantity, limit, extra)

    async def _cleared_up(self, placing: Placing, reply: Reply, deadline: Deadline) -> Outcome:
        """Look the order up by our id: once, for a look-up has no effect, but time has."""
        look_up = await self._found(placing.client_id, placing.terms.symbol, deadline.left_s())
        order = _order(look_up, placing.terms.symbol)
        if order is not None and order.client_order_id == placing.client_id:
            duplicate = isinstance(reply, Refused) and reply.reason == ID_TAKEN
            return settlement(placing, order, self._results.encoded, duplicate=duplicate)
        if _absent(look_up) and isinstance(reply, Refused):
            return self._results.refused(reply)
        return REPLY_LOST

    async def cancel(self, ask: ToolAsk) -> Outcome:
        """Ask the exchange to cancel; an order that is cancelled already counts as cancelled (a cancel is natural)."""
        symbol, order_id = str(ask.arguments["symbol"]), str(ask.arguments["order_id"])
        deadline = Deadline(self._clock, ask.tool.timeout_ms)
        if not await self._markets.ready(deadline.left_s(0.3)):
            return UNREACHABLE
        reply = await self._wire.call(
            lambda: self._library.cancel_order(order_id, symbol), deadline.left_s(SENDING_SHARE)
        )
        if isinstance(reply, Lost) and not reply.sent:
            return UNREACHABLE
        if isinstance(reply, Refused) and reply.at_once:
            return self._results.refused(reply)
        look_up = await self._shown(order_id, symbol, deadline.left_s())
        order = _order(look_up, symbol)
        outcome = None if order is None else cancellation(order_id, order, self._results.told)
        if outcome is not None:
            return outcome
        # A refusal may be of a second sending: it stands where the look-up shows that nothing was cancelled.
        shown = _absent(look_up) or (order is not None and order.id == order_id)
        return self._results.refused(reply) if shown and isinstance(reply, Refused) else REPLY_LOST

    async def look(self, watched: Watched) -> Finding:
        """See `gateway.tools.backend.Backend.look`."""
        try:
            memo = msgspec.json.decode(watched.memo, type=OrderMemo | SpotCancelMemo)
            placing = memo.placing(watched) if isinstance(memo, OrderMemo) else None
        except ValueError:
            return NO_MEMO
        deadline = Deadline(self._clock, self._config.timeout_ms)
        if not await self._markets.ready(deadline.left_s(0.3)):
            return _not_yet(Lost(sent=False))
        if isinstance(memo, SpotCancelMemo):
            return await self._look_at_cancel(watched, memo, deadline)
        return NO_MEMO if placing is None else await self._look_at_order(watched, placing, deadline)

    async def _look_at_order(self, watched: Watched, placing: Placing, deadline: Deadline) -> Finding:
        symbol = placing.terms.symbol
        reply = await self._found(placing.client_id, symbol, deadline.left_s(0.3))
        open_id = open_under(reply.value, placing.client_id) if isinstance(reply, Told) else ""
        if watched.withdraw and open_id:
            # Under our id it is ours, also with other terms. Whatever this answers, the order tells what came of it.
            await self._wire.call(lambda: self._library.cancel_order(open_id, symbol), deadline.left_s(0.5))
            reply = await self._found(placing.client_id, symbol, deadline.left_s())
        order = _order(reply, symbol)
        if order is not None and order.client_order_id == placing.client_id:
            return finding(watched, order, settlement(placing, order, self._results.encoded))
        if watched.lost and _absent(reply) and self._too_late(watched):
            return NO_SUCH_ORDER
        return _not_yet(reply)

    async def _look_at_cancel(self, watched: Watched, memo: SpotCancelMemo, deadline: Deadline) -> Finding:
        reply = await self._shown(memo.order_id, memo.symbol, deadline.left_s())
        order = _order(reply, memo.symbol)
        outcome = None if order is None else cancellation(memo.order_id, order, self._results.told)
        if outcome is not None and not isinstance(outcome, Unknown):
            return outcome
        if order is not None and order.id == memo.order_id and self._too_late(watched):
            return NOT_CANCELLED
        return _not_yet(reply)

    async def _found(self, client_id: str, symbol: str, timeout_s: float) -> Reply:
        """The order of our id."""
        extra = {self._config.verified.look_up_parameter: client_id}
        return await self._wire.call(lambda: self._library.fetch_order("", symbol, extra), timeout_s)

    async def _shown(self, order_id: str, symbol: str, timeout_s: float) -> Reply:
        """The order of the exchange's id."""
        return await self._wire.call(lambda: self._library.fetch_order(order_id, symbol, {}), timeout_s)

    def _too_late(self, watched: Watched) -> bool:
        """Whether nothing that was sent then can take effect any more."""
        window_ms = self._config.timeout_ms + self._config.acceptance_ms + CLOCKS_APART_MS
        return self._clock.unix_us() - watched.operation.created_unix_us > window_ms * 1_000


def _order(reply: Reply, symbol: str) -> VenueOrder | None:
    """The order that a reply shows, if it is a good one."""
    if not isinstance(reply, Told):
        return None
    try:
        return read_order(reply.value, symbol)
    except WireError:
        return None


def _absent(reply: Reply) -> bool:
    """Whether the exchange itself says that it has no such order."""
    return isinstance(reply, Refused) and reply.sent and reply.reason == _ABSENT


def _not_yet(reply: Reply) -> NotYet:
    if _absent(reply):
        message = "The venue does not know it yet; it may still accept it."
        return NotYet(failure=Failure(reason="venue.not_found_yet", message=message))
    said = f"refused ({reply.reason})" if isinstance(reply, Refused) else "did not answer as documented"
    return NotYet(failure=Failure(reason="venue.no_look_up", message=f"The venue {said} when it was asked."))
