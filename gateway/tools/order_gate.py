"""The gate before an order: the facts that the rules see, and the hard limits that it must be within."""

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
from gateway.tools.order_demand import Trading
from gateway.tools.pretrade import Side
from gateway.tools.quotes import NoQuote, QuoteBoard


async def order_facts(limits: LimitProfile, terms: OrderTerms, quotes: QuoteBoard) -> Facts | Refusal:
    """The order's size and the market's price now, in the units of `PLACE_ORDER_FACTS`."""
    refusal = pretrade.restricted(limits, terms.symbol)
    if refusal is not None:
        return refusal
    quote = await quotes.latest(terms.symbol, limits.reference_age_ms_max)
    if isinstance(quote, NoQuote):
        return pretrade.no_reference(quote.why)
    order = _limited(terms, _reference(quote, terms.side), quotes.age_ms(quote))
    return pretrade.incomparable(limits, order) or MappingProxyType(
        {
            "quantity_nano": order.quantity,
            "limit_price_micro": order.limit_price,
            "reference_micro": order.reference,
            "reference_age_ms": order.reference_age_ms,
            "notional_micro_usd": order.notional,
            "reduces_exposure": order.side is Side.SELL,
        }
    )


def order_demand(trading: Trading, tool: ToolName, terms: OrderTerms, facts: Facts) -> Demand | Refusal:
    """Check the hard limits of one order, and say what it must hold."""
    reference, age_ms = facts.get("reference_micro"), facts.get("reference_age_ms")
    if type(reference) is not int or type(age_ms) is not int:
        return pretrade.no_reference("the facts hold none")
    order = _limited(terms, MicroUsd(reference), age_ms)
    return pretrade.check(trading.limits, order) or trading.order(tool, order)


def _reference(quote: Quote, side: Side) -> MicroUsd:
    """The price that a market order would meet: the ask for a buyer, the bid for a seller; rounded to its worse side.

    A price beyond 64 bits is no price, which is what 0 says.
    """
    try:
        return micro_up(quote.ask) if side is Side.BUY else micro_down(quote.bid)
    except WireError:
        return MicroUsd(0)


def _limited(terms: OrderTerms, reference: MicroUsd, age_ms: int) -> pretrade.Order:
    return pretrade.Order(
        symbol=terms.symbol,
        side=terms.side,
        quantity=terms.quantity,
        limit_price=terms.limit_price,
        reference=reference,
        reference_age_ms=age_ms,
    )
