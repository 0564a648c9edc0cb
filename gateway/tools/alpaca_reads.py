"""Reading from an exchange account: answers become closed objects, and a read that got no answer has simply failed."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from gateway.terms.asks import ToolAsk
from gateway.terms.clock import Clock
from gateway.terms.ids import ToolName
from gateway.terms.operations import Failed, Failure, Outcome
from gateway.terms.strict_json import JsonValue
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.alpaca_orders import UNREACHABLE, by_client_order_id, by_order_id
from gateway.tools.alpaca_rest import Origin, Reply, Request, Rest
from gateway.tools.alpaca_results import ONE_CALL, Results, has_error_form, order_members, quote_members
from gateway.tools.alpaca_tools import (
    GET_ACCOUNT,
    GET_CLOCK,
    GET_ORDER,
    GET_QUOTE,
    LIST_ORDERS,
    LIST_POSITIONS,
    ORDERS_LISTED_MAX,
)
from gateway.tools.alpaca_wire import (
    Quote,
    WireError,
    read_account,
    read_clock,
    read_holding,
    read_list,
    read_order,
    read_position,
    read_quote,
)
from gateway.tools.cover import NoPosition
from gateway.tools.deadline import Deadline
from gateway.tools.quotes import NoQuote
from gateway.tools.roundtrip import NoAnswer

POSITIONS_MAX: Final = 2_000

NO_ANSWER: Final = Failed(
    failure=Failure(reason="upstream.no_answer", message="The venue did not answer the question; ask again."),
    charges=ONE_CALL,
)
MALFORMED: Final = Failed(
    failure=Failure(reason="upstream.malformed", message="The venue's answer is not in its documented form."),
    charges=ONE_CALL,
)

Reader = Callable[[JsonValue], Mapping[str, object]]


class Reads:
    """The questions of one account."""

    def __init__(self, rest: Rest, config: AlpacaConfig, clock: Clock) -> None:
        self._rest = rest
        self._config = config
        self._clock = clock
        self._results = Results(config)
        self._readers: Final[Mapping[ToolName, Reader]] = {
            GET_ORDER: lambda body: order_members(read_order(body)),
            LIST_ORDERS: _orders,
            LIST_POSITIONS: _positions,
            GET_ACCOUNT: lambda body: {"account": config.account, **read_account(body)},
            GET_CLOCK: read_clock,
        }

    async def answer(self, ask: ToolAsk) -> Outcome:
        """Ask the venue once."""
        deadline = Deadline(self._clock, ask.tool.timeout_ms)
        if ask.tool.name == GET_QUOTE:
            symbol = str(ask.arguments["symbol"])
            reply = await self._rest.call(self._quote_request(symbol), deadline.left_s())
            return self._outcome(reply, lambda body: quote_members(read_quote(body, symbol)))
        reply = await self._rest.call(_request(ask), deadline.left_s())
        return self._outcome(reply, self._readers[ask.tool.name])

    async def quote(self, symbol: str) -> Quote | NoQuote:
        """The latest quote, for the limits: one with a price on both sides that do not cross."""
        reply = await self._rest.call(self._quote_request(symbol), self._config.idle_ms / 1000)
        if isinstance(reply, NoAnswer):
            return NoQuote(why="the venue did not answer")
        if reply.status != 200:
            return NoQuote(why=f"the venue has no quote of this symbol ({reply.status})")
        try:
            quote = read_quote(reply.body, symbol)
        except WireError:
            return NoQuote(why="the venue's quote is not in its documented form")
        if not 0 < quote.bid <= quote.ask:
            return NoQuote(why="the quote is crossed or has a side without a price")
        return quote

    async def position(self, symbol: str) -> Decimal | NoPosition:
        """What the account holds of a symbol, for the limits: never kept, for each order changes it."""
        reply = await self._rest.call(_position_request(symbol), self._config.idle_ms / 1000)
        if isinstance(reply, NoAnswer):
            return NoPosition(why="the venue did not answer")
        if reply.status == 404 and has_error_form(reply):
            return Decimal(0)
        if reply.status != 200:
            return NoPosition(why=f"the venue answered {reply.status}")
        try:
            return read_holding(reply.body, symbol)
        except WireError:
            return NoPosition(why="the venue's answer is not in its documented form")

    def _quote_request(self, symbol: str) -> Request:
        return Request(
            method="GET",
            origin=Origin.DATA,
            segments=("v2", "stocks", symbol, "quotes", "latest"),
            query={"feed": self._config.feed} if self._config.feed else {},
        )

    def _outcome(self, reply: Reply, read: Reader) -> Outcome:
        if isinstance(reply, NoAnswer):
            return NO_ANSWER if reply.sent else UNREACHABLE
        if 400 <= reply.status < 500:
            return self._results.refused(reply)
        if reply.status != 200:
            return NO_ANSWER
        try:
            return self._results.told(read(reply.body))
        except WireError:
            return MALFORMED


def _position_request(symbol: str) -> Request:
    return Request(method="GET", origin=Origin.TRADING, segments=("v2", "positions", symbol))


def _request(ask: ToolAsk) -> Request:
    """The question that a read asks."""
    arguments = {name: str(value) for name, value in ask.arguments.items()}
    match ask.tool.name:
        case "get_order" if "order_id" in arguments:
            return by_order_id(arguments["order_id"])
        case "get_order":
            return by_client_order_id(arguments["client_order_id"])
        case "list_orders":
            return Request(method="GET", origin=Origin.TRADING, segments=("v2", "orders"), query=arguments)
        case "list_positions":
            return Request(method="GET", origin=Origin.TRADING, segments=("v2", "positions"))
        case "get_account":
            return Request(method="GET", origin=Origin.TRADING, segments=("v2", "account"))
        case "get_clock":
            return Request(method="GET", origin=Origin.TRADING, segments=("v2", "clock"))
        case name:
            raise LookupError(f"{name} is no read of this venue")


def _orders(body: JsonValue) -> Mapping[str, object]:
    return {"orders": [order_members(read_order(order)) for order in read_list(body, ORDERS_LISTED_MAX)]}


def _positions(body: JsonValue) -> Mapping[str, object]:
    return {"positions": [read_position(position) for position in read_list(body, POSITIONS_MAX)]}
