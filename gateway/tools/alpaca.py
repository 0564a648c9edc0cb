"""The exchange adapter: one account at a venue that speaks Alpaca's v2 wire format, by our own REST calls."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from types import MappingProxyType, TracebackType
from typing import Final, Self

from msgspec.structs import replace

from gateway.terms.aftercare import Finding, Watched
from gateway.terms.asks import Effect, ToolAsk
from gateway.terms.caller import Caller
from gateway.terms.clock import Clock
from gateway.terms.evidence import Facts
from gateway.terms.ids import ToolName
from gateway.terms.limits import LimitProfile
from gateway.terms.money import Unit
from gateway.terms.operations import Demand, OperationKey, Outcome, Reservation, Tally
from gateway.terms.verdict import Refusal
from gateway.tools import pretrade
from gateway.tools.alpaca_aftercare import Aftercarer, cancel_memo, order_memo
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.alpaca_orders import Orders, OrderTerms
from gateway.tools.alpaca_reads import Reads
from gateway.tools.alpaca_rest import Rest, open_session
from gateway.tools.alpaca_tools import CANCEL_ORDER, PLACE_ORDER, PLACE_ORDER_FACTS, declarations
from gateway.tools.backend import FactTypes
from gateway.tools.client_order_id import client_order_id
from gateway.tools.cover import Covering, NoPosition, needed
from gateway.tools.flights import Flights
from gateway.tools.order_demand import Trading
from gateway.tools.order_gate import order_demand, order_facts
from gateway.tools.quotes import QuoteBoard

_NO_FACTS: Final[Facts] = MappingProxyType({})


class Alpaca:
    """A `Backend` while its `async with` block runs."""

    def __init__(self, config: AlpacaConfig, clock: Clock) -> None:
        """Declare the tools; nothing is opened yet."""
        self.declarations: Final = declarations(config.timeout_ms)
        self.fact_types: Final[Mapping[ToolName, FactTypes]] = {PLACE_ORDER: PLACE_ORDER_FACTS}
        self.withdrawn: Final[frozenset[ToolName]] = frozenset()
        self._config = config
        self._clock = clock
        self._stack = AsyncExitStack()
        self._orders: Orders
        self._aftercarer: Aftercarer
        self._reads: Reads
        self._quotes: QuoteBoard
        self._positions: Flights[Decimal | NoPosition]

    async def __aenter__(self) -> Self:
        """Open the connections."""
        session = await self._stack.enter_async_context(open_session(self._config))
        rest = Rest(session, self._config)
        self._orders = Orders(rest, self._config, self._clock)
        self._aftercarer = Aftercarer(rest, self._config, self._clock, self._orders)
        self._reads = Reads(rest, self._config, self._clock)
        self._quotes = QuoteBoard(self._reads.quote, self._clock, self._config.quote_age_ms)
        self._positions = Flights(self._reads.position)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close them."""
        await self._stack.aclose()

    async def facts(self, caller: Caller, ask: ToolAsk, tally: Tally) -> Facts | Refusal:
        """For an order: its size, the market's price now, in the units of `PLACE_ORDER_FACTS`, and what covers it."""
        if ask.tool.effect is Effect.READ:
            return _NO_FACTS
        if caller.limits is None:
            return pretrade.no_profile()
        if ask.tool.name != PLACE_ORDER:
            return _NO_FACTS
        terms = OrderTerms.of(ask)
        covering = self._covering(self._trading(caller, caller.limits), terms, tally)
        return await order_facts(caller.limits, terms, self._quotes, covering)

    def _covering(self, trading: Trading, terms: OrderTerms, tally: Tally) -> Covering | None:
        if not needed(trading.limits, terms.side):
            return None
        return Covering(
            places=trading.places(terms.symbol),
            symbol=terms.symbol,
            side=terms.side,
            tally=tally,
            position=self._positions.later,
        )

    def _trading(self, caller: Caller, limits: LimitProfile) -> Trading:
        return Trading(caller=caller, limits=limits, venue=self._config.name, account=self._config.account)

    def demand(self, caller: Caller, ask: ToolAsk, facts: Facts) -> Demand | Refusal:
        """Check the hard limits of an order, and say what it must hold; a read holds one call of every budget."""
        demand = self._demand(caller, ask, facts)
        return demand if isinstance(demand, Refusal) else self._cared_for(caller, ask, demand)

    def _cared_for(self, caller: Caller, ask: ToolAsk, demand: Demand) -> Demand:
        """The demand with what must be known to stop the effect and to look after it."""
        if ask.tool.name == CANCEL_ORDER:
            return replace(demand, memo=cancel_memo(str(ask.arguments["order_id"])))
        if ask.tool.name != PLACE_ORDER:
            return demand
        terms = OrderTerms.of(ask)
        key = OperationKey(tenant=caller.tenant, principal=caller.principal, tool=ask.name, key=ask.key)
        return replace(
            demand,
            halts=(f"symbol:{terms.symbol}", f"venue:{self._config.name}"),
            memo=order_memo(terms, client_order_id(self._config.client_order_key, key)),
        )

    def _demand(self, caller: Caller, ask: ToolAsk, facts: Facts) -> Demand | Refusal:
        if ask.tool.effect is Effect.READ:
            return Demand(amounts={Unit.CALLS: 1})
        if caller.limits is None:
            return pretrade.no_profile()
        trading = self._trading(caller, caller.limits)
        if ask.tool.name != PLACE_ORDER:
            return trading.cancel()
        return order_demand(trading, ask.tool.name, OrderTerms.of(ask), facts, shorts=True)

    async def execute(self, ask: ToolAsk, reservation: Reservation) -> Outcome:
        """See `Backend`."""
        if ask.tool.name == PLACE_ORDER:
            return await self._orders.place(ask, reservation)
        if ask.tool.name == CANCEL_ORDER:
            return await self._orders.cancel(ask)
        return await self._reads.answer(ask)

    async def look(self, watched: Watched) -> Finding:
        """See `Backend`."""
        return await self._aftercarer.look(watched)
