"""What the exchange says of the configured symbols: asked for once an hour, by whoever needs it first."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from gateway.terms.clock import Clock
from gateway.terms.money import MICRO, NANO, written
from gateway.terms.verdict import Violation
from gateway.tools.alpaca_orders import OrderTerms
from gateway.tools.ccxt_config import CcxtConfig
from gateway.tools.ccxt_wire import MARKETS_BYTES_MAX, Told, Wire, listed, members


class Markets:
    """The steps of prices and quantities, in the library's hands."""

    def __init__(self, wire: Wire, config: CcxtConfig, clock: Clock) -> None:
        self._wire = wire
        self._library: Final = wire.library
        self._config = config
        self._clock = clock
        self._asking = asyncio.Lock()
        self._known_until_ns = -1
        self.why = "the venue did not tell its markets in time"
        """Why they are not known, in words that end a sentence."""

    async def ready(self, timeout_s: float) -> bool:
        """Whether the configured symbols are known; asks the exchange if they are not, or not any more."""
        if self._known():
            return True
        try:
            async with asyncio.timeout(timeout_s), self._asking:
                return self._known() or await self._ask(timeout_s)
        except TimeoutError:
            return False

    def _known(self) -> bool:
        return self._clock.monotonic_ns() < self._known_until_ns

    async def _ask(self, timeout_s: float) -> bool:
        # Of thousands of symbols, only those that are configured: the whole list is many megabytes.
        query = self._config.verified.market_query(self._config.symbols)
        reply = await self._wire.call(
            lambda: self._library.fetch_markets(query), timeout_s, bytes_max=MARKETS_BYTES_MAX
        )
        if not isinstance(reply, Told):
            self.why = "the venue does not tell its markets"
            return False
        told = {members(market).get("symbol"): market for market in listed(reply.value)}
        if not all(symbol in told and members(told[symbol]).get("spot") is True for symbol in self._config.symbols):
            self.why = "the venue does not know all of the configured symbols"
            return False
        self._library.set_markets([told[symbol] for symbol in self._config.symbols])
        self._known_until_ns = self._clock.monotonic_ns() + self._config.markets_age_ms * 1_000_000
        return True

    def fault(self, terms: OrderTerms) -> Violation | None:
        """Why the exchange does not take such an order; None if it does.

        The library would cut a quantity to the exchange's step and round a price to it, and send another order than
        the one that was decided on. Here that is refused.
        """
        library, symbol = self._library, terms.symbol
        if members(library.market(symbol)).get("active") is not True:
            return Violation(field="symbol", description=f"{symbol} is not traded now")
        quantity, price = written(terms.quantity, NANO), written(terms.limit_price, MICRO)
        if not self._exact(library.amount_to_precision, symbol, quantity):
            return _too_fine("quantity", quantity, symbol)
        if terms.limit_price and not self._exact(library.price_to_precision, symbol, price):
            return _too_fine("limit_price", price, symbol)
        return None

    def _exact(self, cut: Callable[[str, str], str], symbol: str, amount: str) -> bool:
        try:
            return Decimal(cut(symbol, amount)) == Decimal(amount)
        except Exception:  # noqa: BLE001 - the library raises for what it cuts to nothing, and for steps it lacks
            return False


def _too_fine(field: str, amount: str, symbol: str) -> Violation:
    return Violation(field=field, description=f"{amount} is finer than the venue's step for {symbol}: give whole steps")
