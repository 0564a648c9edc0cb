"""Replies of a venue are read strictly: what is not as documented is no reply."""

from decimal import Decimal

import pytest
from toolcases import order_json

from gateway.tools.alpaca_wire import (
    Members,
    WireError,
    micro_down,
    micro_up,
    plain,
    read_order,
    read_quote,
    unix_us,
)

GOOD = order_json(client_order_id="gw-a")
FILLED = GOOD | {"status": "filled", "filled_qty": "10", "filled_avg_price": "1.5"}


def test_an_order():
    order = read_order(FILLED | {"qty": "10.000"})
    assert (order.quantity, order.filled, order.average_price) == (Decimal(10), Decimal(10), Decimal("1.5"))
    assert order.ended


@pytest.mark.parametrize("status", ["new", "accepted", "pending_new", "done_for_day", "replaced", "a_new_word"])
def test_what_is_not_known_to_have_ended_is_open(status):
    assert not read_order(GOOD | {"status": status}).ended


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "../../admin"},
        {"id": GOOD["id"] + "\n"},
        {"client_order_id": "a b"},
        {"client_order_id": None},
        {"symbol": "\uff21\uff21\uff30\uff2c"},
        {"status": "filled; drop"},
        {"qty": "1e5"},
        {"qty": "\u0661\u0662"},
        {"qty": "1\n"},
        {"qty": True},
        {"filled_qty": None},
        {"filled_qty": "-1"},
        {"filled_qty": "11", "filled_avg_price": "1"},
        {"filled_qty": "1"},
        {"filled_qty": "1", "filled_avg_price": "0"},
        {"status": "filled"},
        {"status": "filled", "filled_qty": "9", "filled_avg_price": "1"},
        {"limit_price": "cheap"},
        {"submitted_at": "yesterday"},
        {"submitted_at": "2026-13-01T00:00:00Z"},
    ],
)
def test_what_is_no_order(changed):
    with pytest.raises(WireError):
        read_order(GOOD | changed)


@pytest.mark.parametrize("body", [None, [], "order", 1, {}])
def test_what_is_no_object(body):
    with pytest.raises(WireError):
        read_order(body)


def test_a_quote_may_have_numbers_or_strings():
    quote = {"t": "2026-11-23T12:00:00.5Z", "bp": Decimal("1.5"), "ap": "2", "bs": 1, "as": Decimal("1E+2")}
    read = read_quote({"symbol": "AAPL", "quote": quote}, "AAPL")
    assert (read.bid, read.ask, read.ask_size) == (Decimal("1.5"), 2, 100)
    with pytest.raises(WireError):
        read_quote({"symbol": "AAPL", "quote": quote}, "MSFT")


@pytest.mark.parametrize("value", [Decimal("1E+40"), Decimal("1E-40"), 10**19, "+1", " 1", "", "1.", ".5", "NaN"])
def test_what_is_no_decimal(value):
    with pytest.raises(WireError):
        Members({"x": value}).decimal("x")


@pytest.mark.parametrize(
    "text, micros",
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000),
        ("1970-01-01T00:00:00.123456789Z", 123_456),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T19:00:00-05:00", 0),
        ("2026-11-23T12:00:00Z", 1_795_435_200_000_000),
    ],
)
def test_times(text, micros):
    assert unix_us(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T12:00:00",
        "2026-11-23 12:00:00Z",
        "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00+99:99",
    ],
)
def test_what_is_no_time(text):
    with pytest.raises(WireError):
        unix_us(text)


def test_amounts_are_rounded_to_the_side_that_is_asked_for():
    assert micro_up(Decimal("0.0000001")) == 1
    assert micro_down(Decimal("0.0000009")) == 0
    assert micro_up(Decimal("0.333333" + "0" * 60 + "1")) == 333_334
    assert micro_up(Decimal("123456789012345678.123456789012345678") / 10**6) == 123_456_789_012_345_679
    with pytest.raises(WireError):
        micro_up(Decimal(10**13))


@pytest.mark.parametrize(
    "value, text", [("10.500", "10.5"), ("10.000", "10"), ("100", "100"), ("0.0", "0"), ("-1.50", "-1.5")]
)
def test_decimals_are_written_short(value, text):
    assert plain(Decimal(value)) == text
