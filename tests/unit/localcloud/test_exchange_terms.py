"""Order requests off the wire: decimals become whole lots and ticks exactly, the rest is refused with a sentence."""

import pytest

from localcloud.exchange.instruments import Instrument
from localcloud.exchange.orders import OrderRefusedError, OrderType, Reason
from localcloud.exchange.strict_json import Number
from localcloud.exchange.terms import order_terms

INSTRUMENTS = {
    "ACME": Instrument(symbol="ACME", name="", reference_ticks=1_000),
    "ROUND": Instrument(symbol="ROUND", name="", reference_ticks=1_000, lot_shares=100, tick_micros=50_000),
}
LIMIT = {
    "symbol": "ACME",
    "side": "buy",
    "type": "limit",
    "time_in_force": "day",
    "qty": "10",
    "limit_price": "10.05",
}


def asked(**changes):
    return order_terms({**LIMIT, **changes}, INSTRUMENTS)


@pytest.mark.parametrize("qty", ["10", "10.0", Number("10"), Number("10.000")])
@pytest.mark.parametrize("price", ["10.05", "10.050", Number("10.05")])
def test_decimals_are_taken_as_text_and_as_numbers(qty, price):
    terms = asked(qty=qty, limit_price=price)
    assert (terms.lots, terms.limit_ticks, terms.type) == (10, 1_005, OrderType.LIMIT)


def test_lots_and_ticks_are_those_of_the_instrument():
    terms = asked(symbol="ROUND", qty="300", limit_price="10.05")
    assert (terms.lots, terms.limit_ticks) == (3, 201)


def test_unknown_members_are_ignored_and_known_empty_ones_too():
    assert asked(favourite_colour="blue", stop_price=None, order_class="", notional=None, client_order_id="").lots == 10


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"symbol": None}, "symbol is required"),
        ({"symbol": "NOPE"}, 'asset "NOPE" not found'),
        ({"symbol": "\ud800"}, "printable"),
        ({"symbol": Number("1")}, "printable"),
        ({"side": "short"}, "invalid side"),
        ({"type": "stop"}, "invalid type"),
        ({"time_in_force": "opg"}, "invalid time_in_force"),
        ({"time_in_force": None}, "time_in_force is required"),
        ({"qty": None}, "qty is required"),
        ({"qty": "0"}, "qty must be > 0"),
        ({"qty": "-1"}, "without sign"),
        ({"qty": "1e3"}, "exponent"),
        ({"qty": Number("1e999999999")}, "exponent"),
        ({"qty": "٣"}, "decimal"),
        ({"qty": " 1"}, "decimal"),
        ({"qty": True}, "decimal"),
        ({"qty": "0.5"}, "not fractionable"),
        ({"qty": "1000000001"}, "qty must be"),
        ({"symbol": "ROUND", "qty": "150"}, "multiple of 100"),
        ({"qty": None, "notional": "100"}, "notional orders are not supported"),
        ({"limit_price": None}, "require limit_price"),
        ({"limit_price": "0"}, "limit_price must be > 0"),
        ({"limit_price": "10.005"}, "sub-penny"),
        ({"symbol": "ROUND", "qty": "100", "limit_price": "10.01"}, "multiple of 0.05"),
        ({"type": "market"}, "no limit_price"),
        ({"stop_loss": {"stop_price": "9"}}, "stop_loss is not supported"),
        ({"order_class": "bracket"}, "order_class"),
        ({"client_order_id": "x" * 129}, "128"),
        ({"client_order_id": "a\nb"}, "printable"),
        ({"extended_hours": "yes"}, "extended_hours"),
        ({"type": "market", "limit_price": None, "extended_hours": True}, "extended hours"),
        ({"position_intent": "sell_to_open"}, "long-only"),
    ],
)
def test_what_the_exchange_does_not_do_is_refused(changes, says):
    with pytest.raises(OrderRefusedError) as refusal:
        asked(**changes)
    assert refusal.value.reason is Reason.INVALID
    assert says in refusal.value.message
