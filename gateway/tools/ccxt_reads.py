"""Reading from an account at an exchange of ccxt's: closed objects, and a read that got no answer has simply failed."""

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Final

from gateway.terms.asks import ToolAsk
from gateway.terms.clock import Clock
from gateway.terms.operations import Outcome
from gateway.tools.alpaca_orders import UNREACHABLE
from gateway.tools.alpaca_reads import MALFORMED, NO_ANSWER
from gateway.tools.alpaca_results import order_members, quote_members
from gateway.tools.alpaca_tools import GET_ACCOUNT, GET_ORDER, GET_QUOTE, LIST_ORDERS, LIST_POSITIONS
from gateway.tools.alpaca_wire import Quote, WireError, plain
from gateway.tools.ccxt_config import CcxtConfig
from gateway.tools.ccxt_markets import Markets
from gateway.tools.ccxt_orders import Results
from gateway.tools.ccxt_readings import read_balances, read_order, read_orders, read_ticker
from gateway.tools.ccxt_wire import Lost, Refused, Wire
from gateway.tools.deadline import Deadline
from gateway.tools.quotes import NoQuote

CURRENCIES_MAX: Final = 1_000

Work = Callable[[], Awaitable[object]]
Reader = Callable[[object], Mapping[str, object]]


class Reads:
    """The questions of one account."""

    def __init__(self, wire: Wire, markets: Markets, config: CcxtConfig, clock: Clock) -> None:
        self._wire = wire
        self._library = wire.library
        self._markets = markets
        self._config = config
        self._clock = clock
        self._results = Results(config)

    async def answer(self, ask: ToolAsk) -> Outcome:
        """Ask the exchange once."""
        deadline = Deadline(self._clock, ask.tool.timeout_ms)
        if not await self._markets.ready(deadline.left_s()):
            return UNREACHABLE
        work, read = self._question(ask)
        reply = await self._wire.call(work, deadline.left_s())
        if isinstance(reply, Lost):
            return NO_ANSWER if reply.sent else UNREACHABLE
        if isinstance(reply, Refused):
            return self._results.refused(reply)
        try:
            return self._results.told(read(reply.value))
        except WireError:
            return MALFORMED

    def _question(self, ask: ToolAsk) -> tuple[Work, Reader]:
        arguments, library = ask.arguments, self._library
        symbol = str(arguments.get("symbol", ""))
        if ask.tool.name == GET_ORDER:
            order_id, ours = str(arguments.get("order_id", "")), str(arguments.get("client_order_id", ""))
            extra = {self._config.verified.look_up_parameter: ours} if ours else {}
            return (
                lambda: library.fetch_order(order_id, symbol, extra),
                lambda told: order_members(read_order(told, symbol)),
            )
        if ask.tool.name == LIST_ORDERS:
            most = int(str(arguments["limit"]))
            fetch = library.fetch_open_orders if arguments["status"] == "open" else library.fetch_orders
            return (
                lambda: fetch(symbol, None, most),
                lambda told: {"orders": [order_members(order) for order in read_orders(told, symbol, most)]},
            )
        if ask.tool.name == LIST_POSITIONS:
            return self._balances, lambda told: {"positions": read_balances(told, CURRENCIES_MAX)}
        if ask.tool.name == GET_ACCOUNT:
            return self._balances, self._cash
        if ask.tool.name == GET_QUOTE:
            return lambda: library.fetch_ticker(symbol), lambda told: quote_members(read_ticker(told, symbol))
        raise LookupError(f"{ask.tool.name} is no read of this venue")

    def _balances(self) -> Awaitable[object]:
        return self._library.fetch_balance({"omitZeroBalances": "true"})

    def _cash(self, told: object) -> Mapping[str, object]:
        counted = [one for one in read_balances(told, CURRENCIES_MAX) if one["currency"] in self._config.counted_as_usd]
        return {
            "account": self._config.account,
            "currency": "USD",
            "cash": plain(sum((Decimal(one["quantity"]) for one in counted), Decimal(0))),
            "buying_power": plain(sum((Decimal(one["free"]) for one in counted), Decimal(0))),
        }

    async def quote(self, symbol: str) -> Quote | NoQuote:
        """The latest quote, for the limits: one with a price on both sides that do not cross, and with a time."""
        timeout_s = self._config.idle_ms / 1000
        if not await self._markets.ready(timeout_s):
            return NoQuote(why=self._markets.why)
        reply = await self._wire.call(lambda: self._library.fetch_ticker(symbol), timeout_s)
        if isinstance(reply, Lost):
            return NoQuote(why="the venue did not answer")
        if isinstance(reply, Refused):
            return NoQuote(why=f"the venue has no quote of this symbol ({reply.reason})")
        try:
            quote = read_ticker(reply.value, symbol)
        except WireError:
            return NoQuote(why="the venue's quote is not in its documented form")
        if not 0 < quote.bid <= quote.ask:
            return NoQuote(why="the quote is crossed or has a side without a price")
        return quote
