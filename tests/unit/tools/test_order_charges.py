"""What an order is charged, against the same sums in fractions: nothing is rounded but once, and against the caller."""

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

from hypothesis import given
from hypothesis import strategies as st

from gateway.terms.money import LONG_MAX, MICRO, NANO, MicroUsd, NanoUnits, Unit
from gateway.tools.alpaca_orders import OrderTerms, Placing
from gateway.tools.alpaca_wire import VenueOrder, WireError
from gateway.tools.pretrade import Side


def decimals(most):
    """As replies may write them, with up to 18 digits after the point."""
    return st.integers(1, most * 10**18).map(lambda number: Decimal(f"{number}e-18"))


def told(order, placing):
    """What the order costs, in fractions; None beyond 64 bits."""
    filled, wanted = Fraction(order.filled), Fraction(placing.terms.quantity, NANO)
    remainder = Fraction(0) if order.ended else wanted - filled
    price = Fraction(placing.terms.limit_price, MICRO) or Fraction(placing.held, MICRO) / wanted
    paid = filled * Fraction(order.average_price)
    worth = ceil((paid + remainder * price) * MICRO)
    bought = placing.terms.side is Side.BUY
    if worth > LONG_MAX:
        return None
    return {
        Unit.CALLS: 1,
        Unit.NOTIONAL: worth,
        Unit.EXPOSURE: worth,
        Unit.POSITION: ceil((filled + remainder) * NANO) if bought else -floor(filled * NANO),
        Unit.TRADED: ceil(filled * NANO) + ceil(remainder * NANO),
        Unit.FILLED: ceil(filled * NANO),
        Unit.PAID: ceil(paid * MICRO),
    }


@given(
    filled=decimals(100),
    rest=decimals(100),
    average=decimals(10**12),
    limit=st.integers(0, 10**13),
    held=st.integers(0, 10**15),
    side=st.sampled_from(Side),
    ended=st.booleans(),
)
def test_charges_are_exact_and_rounded_up_once(filled, rest, average, limit, held, side, ended):
    quantity = ceil((Fraction(filled) + Fraction(rest)) * NANO)
    order = VenueOrder(
        id="",
        client_order_id="",
        symbol="AAPL",
        side=side.value,
        type="limit" if limit else "market",
        time_in_force="day",
        status="canceled" if ended else "partially_filled",
        quantity=Decimal(f"{quantity}e-9"),
        filled=filled,
        average_price=average,
        limit_price=Decimal(f"{limit}e-6") if limit else None,
        submitted_at="",
    )
    terms = OrderTerms(
        symbol="AAPL",
        side=side,
        type=order.type,
        time_in_force="day",
        quantity=NanoUnits(quantity),
        limit_price=MicroUsd(limit),
    )
    placing = Placing(terms=terms, client_id="", held=MicroUsd(held), reduces=False, begun_unix_us=0)
    assert terms.are_of(order)
    try:
        charges = dict(placing.charges(order))
    except WireError:
        charges = None
    assert charges == told(order, placing)
