"""The gate before an order: the facts that the rules see, and the hard limits that it must be within."""

import asyncio
from types import MappingProxyType

from gateway.terms.evidence import Facts
from gateway.terms.ids import ToolName
from gateway.terms.limits import LimitProfile
from gateway.terms.money import MicroUsd
from gateway.terms.operations import Demand
from gateway.terms.verdict import Refusal
from gateway.tools import pretrade
from gateway.tools.alpaca_orders import OrderTerms
from gateway.tools.alpaca_wire import Quote, WireError, micro_down, micro_up
from gateway.tools.cover import Cover, Covering, needed
from gateway.tools.order_demand import Trading
from gateway.tools.pretrade import Side
from gateway.tools.quotes import NoQuote, QuoteBoard


async def order_facts(
    limits: LimitProfile, terms: OrderTerms, quotes: QuoteBoard, covering: Covering | None = None
) -> Facts | Refusal:
    """The order's size and the market's price now, in the units of `PLACE_ORDER_FACTS`, and what covers it.

    Without `covering`, nobody can be short there, or this agent buys and may not be.
    """
    refusal = pretrade.restricted(limits, terms.symbol)
    if refusal is not None:
        return refusal
    quote, cover = await _seen(limits, terms, quotes, covering)
    if isinstance(quote, NoQuote):
        return pretrade.no_reference(quote.why)
    if isinstance(cover, Refusal):
        return cover
    reduces = (terms.side is Side.SELL) if cover is None else cover.free >= terms.quantity
    order = _limited(terms, _reference(quote, terms.side), quotes.age_ms(quote), reduces=reduces)
    facts: dict[str, int | str | bool] = {
        "quantity_nano": order.quantity,
        "limit_price_micro": order.limit_price,
        "reference_micro": order.reference,
        "reference_age_ms": order.reference_age_ms,
        "notional_micro_usd": order.notional,
        "reduces_exposure": order.reduces,
    }
    if cover is not None:
        facts.update(cover.facts())
    return pretrade.incomparable(limits, order) or MappingProxyType(facts)


async def _seen(
    limits: LimitProfile, terms: OrderTerms, quotes: QuoteBoard, covering: Covering | None
) -> tuple[Quote | NoQuote, Cover | Refusal | None]:
    """The price and the position, asked for at the same time where both must be asked for."""
    symbol, age_ms_max = terms.symbol, limits.reference_age_ms_max
    if covering is None:
        return await quotes.latest(symbol, age_ms_max), None
    counted = await covering.counted()
    kept = quotes.kept(symbol, age_ms_max)
    if kept is not None:
        return kept, await covering.cover(counted)
    async with asyncio.TaskGroup() as group:
        cover = group.create_task(covering.cover(counted))
        quote = await quotes.latest(symbol, age_ms_max)
    return quote, cover.result()


def order_demand(
    trading: Trading, tool: ToolName, terms: OrderTerms, facts: Facts, *, shorts: bool
) -> Demand | Refusal:
    """Check the hard limits of one order, and say what it must hold; `shorts` as in `Trading.order`."""
    reference, age_ms = facts.get("reference_micro"), facts.get("reference_age_ms")
    if type(reference) is not int or type(age_ms) is not int:
        return pretrade.no_reference("the facts hold none")
    limits = trading.limits
    cover = Cover.of(facts) if shorts and needed(limits, terms.side) else None
    if cover is None and shorts and needed(limits, terms.side):
        return pretrade.no_position("the facts hold no position")
    closes = terms.side is Side.SELL and not shorts
    reduces = closes if cover is None else cover.free >= terms.quantity
    order = _limited(terms, MicroUsd(reference), age_ms, reduces=reduces)
    refusal = pretrade.check(limits, order)
    if refusal is None and cover is not None and terms.side is Side.SELL and not (reduces or limits.short_sales):
        refusal = pretrade.short_sale(order, cover.position, cover.free)
    return refusal or trading.order(tool, order, cover, shorts=shorts)


def _reference(quote: Quote, side: Side) -> MicroUsd:
    """The price that a market order would meet: the ask for a buyer, the bid for a seller; rounded to its worse side.

    A price beyond 64 bits is no price, which is what 0 says.
    """
    try:
        return micro_up(quote.ask) if side is Side.BUY else micro_down(quote.bid)
    except WireError:
        return MicroUsd(0)


def _limited(terms: OrderTerms, reference: MicroUsd, age_ms: int, *, reduces: bool) -> pretrade.Order:
    return pretrade.Order(
        symbol=terms.symbol,
        side=terms.side,
        quantity=terms.quantity,
        limit_price=terms.limit_price,
        reference=reference,
        reference_age_ms=age_ms,
        reduces=reduces,
    )
