"""The adapter over ccxt: one spot account at an exchange that was verified to find orders by our own order id."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType, TracebackType
from typing import Final, Self

import msgspec
from msgspec.structs import replace

from gateway.terms.aftercare import Finding, Watched
from gateway.terms.asks import Effect, ToolAsk
from gateway.terms.caller import Caller
from gateway.terms.clock import Clock
from gateway.terms.evidence import Facts
from gateway.terms.ids import RuleId, ToolName
from gateway.terms.money import Unit
from gateway.terms.operations import Demand, OperationKey, Outcome, Reservation, Tally
from gateway.terms.verdict import Kind, Refusal, Violation
from gateway.tools import pretrade
from gateway.tools.alpaca_aftercare import order_memo
from gateway.tools.alpaca_orders import OrderTerms
from gateway.tools.alpaca_tools import CANCEL_ORDER, PLACE_ORDER, PLACE_ORDER_FACTS
from gateway.tools.backend import FactTypes
from gateway.tools.ccxt_config import CcxtConfig, library_fault
from gateway.tools.ccxt_markets import Markets
from gateway.tools.ccxt_orders import Orders, SpotCancelMemo, our_id
from gateway.tools.ccxt_reads import Reads
from gateway.tools.ccxt_tools import declarations
from gateway.tools.ccxt_wire import Wire
from gateway.tools.egress import KEEPALIVE_S, guard_of, guarded_session
from gateway.tools.order_demand import Trading
from gateway.tools.order_gate import order_demand, order_facts
from gateway.tools.quotes import QuoteBoard

_NO_FACTS: Final[Facts] = MappingProxyType({})


class LibraryMissingError(ValueError):
    """The library is not there, or not the one that was verified; a sentence for the operator."""


class Ccxt:
    """A `Backend` while its `async with` block runs."""

    def __init__(self, config: CcxtConfig, clock: Clock) -> None:
        """Declare the tools; nothing is opened or imported yet. Raises `LibraryMissingError`."""
        fault = library_fault()
        if fault:
            raise LibraryMissingError(fault)
        self.declarations: Final = declarations(config.symbols, config.timeout_ms)
        self.fact_types: Final[Mapping[ToolName, FactTypes]] = {PLACE_ORDER: PLACE_ORDER_FACTS}
        self.withdrawn: Final[frozenset[ToolName]] = frozenset()
        self._config = config
        self._clock = clock
        self._stack = AsyncExitStack()
        self._markets: Markets
        self._orders: Orders
        self._reads: Reads
        self._quotes: QuoteBoard

    async def __aenter__(self) -> Self:
        """Import the library and open the connections."""
        config = self._config
        guard = guard_of(config.origin, config.networks, local=True)
        session = await self._stack.enter_async_context(
            guarded_session(guard, connections_max=config.connections_max, keepalive_s=KEEPALIVE_S)
        )
        wire = Wire(session, config)
        self._markets = Markets(wire, config, self._clock)
        self._orders = Orders(wire, self._markets, config, self._clock)
        self._reads = Reads(wire, self._markets, config, self._clock)
        self._quotes = QuoteBoard(self._reads.quote, self._clock, config.quote_age_ms)
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
        """For an order: its size and the market's price now, in the units of `PLACE_ORDER_FACTS`.

        A spot account cannot be short: the exchange itself sells only what is there, so every sale reduces.
        """
        del tally
        if ask.tool.effect is Effect.READ:
            return _NO_FACTS
        if caller.limits is None:
            return pretrade.no_profile()
        if ask.tool.name != PLACE_ORDER:
            return _NO_FACTS
        terms = OrderTerms.of(ask)
        facts = await order_facts(caller.limits, terms, self._quotes)
        if isinstance(facts, Refusal):
            return facts
        if not await self._markets.ready(self._config.idle_ms / 1000):
            return pretrade.no_reference(self._markets.why)
        fault = self._markets.fault(terms)
        return facts if fault is None else _misfit(fault)

    def demand(self, caller: Caller, ask: ToolAsk, facts: Facts) -> Demand | Refusal:
        """Check the hard limits of an order, and say what it must hold; a read holds one call of every budget."""
        if ask.tool.effect is Effect.READ:
            return Demand(amounts={Unit.CALLS: 1})
        if caller.limits is None:
            return pretrade.no_profile()
        trading = Trading(caller=caller, limits=caller.limits, venue=self._config.name, account=self._config.account)
        if ask.tool.name == CANCEL_ORDER:
            memo = SpotCancelMemo(symbol=str(ask.arguments["symbol"]), order_id=str(ask.arguments["order_id"]))
            return replace(trading.cancel(), memo=msgspec.json.encode(memo))
        terms = OrderTerms.of(ask)
        demand = order_demand(trading, ask.tool.name, terms, facts, shorts=False)
        if isinstance(demand, Refusal):
            return demand
        key = OperationKey(tenant=caller.tenant, principal=caller.principal, tool=ask.name, key=ask.key)
        return replace(
            demand,
            halts=(f"symbol:{terms.symbol}", f"venue:{self._config.name}"),
            memo=order_memo(terms, our_id(self._config, key)),
        )

    async def execute(self, ask: ToolAsk, reservation: Reservation) -> Outcome:
        """See `Backend`."""
        if ask.tool.name == PLACE_ORDER:
            return await self._orders.place(ask, reservation)
        if ask.tool.name == CANCEL_ORDER:
            return await self._orders.cancel(ask)
        return await self._reads.answer(ask)

    async def look(self, watched: Watched) -> Finding:
        """See `Backend`."""
        return await self._orders.look(watched)


def _misfit(fault: Violation) -> Refusal:
    return Refusal(
        kind=Kind.MALFORMED,
        reason="limit.venue_step",
        sentence=f"{fault.field}: {fault.description}. Nothing was sent.",
        violations=(fault,),
        rules=(RuleId("limit.venue_step"),),
    )
