"""Reads answer with closed objects of our own, and fail plainly."""

import json

import pytest
from toolcases import UUID, error, executed, order_json, resets, says

from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Succeeded

ACCOUNT = {
    "id": "x",
    "status": "ACTIVE",
    "currency": "USD",
    "cash": "100000.50",
    "buying_power": "-3.25",
    "equity": "0",
    "trading_blocked": False,
    "secret_member": "internal",
}
CLOCK = {
    "timestamp": "2026-11-23T12:00:00.123456789-05:00",
    "is_open": True,
    "next_open": "2026-11-24T09:30:00-05:00",
    "next_close": "2026-11-23T16:00:00-05:00",
}
POSITION = {"symbol": "AAPL", "side": "long", "qty": "4", "avg_entry_price": "190.10", "market_value": "760.00"}

GOOD = [
    ("get_account", {}, "/v2/account", ACCOUNT, "/v2/account"),
    ("get_clock", {}, "/v2/clock", CLOCK, "/v2/clock"),
    ("list_positions", {}, "/v2/positions", [POSITION], "/v2/positions"),
    ("get_order", {"order_id": UUID}, "/v2/orders", order_json(client_order_id="a"), f"/v2/orders/{UUID}"),
    (
        "get_order",
        {"client_order_id": "gw-" + "a" * 32},
        "/v2/orders",
        order_json(client_order_id="a"),
        "/v2/orders:by_client_order_id?client_order_id=gw-" + "a" * 32,
    ),
    (
        "list_orders",
        {"status": "open", "limit": 5},
        "/v2/orders",
        [order_json(client_order_id="a", qty=None)],
        "/v2/orders?status=open&limit=5",
    ),
]


@pytest.mark.parametrize("tool, arguments, prefix, body, path", GOOD)
async def test_reads_ask_the_documented_path_and_answer_in_our_own_form(
    venue, toolbox, tool, arguments, prefix, body, path
):
    venue.on("GET", prefix, says(body))
    outcome = await executed(toolbox, tool, arguments, key="")
    assert isinstance(outcome, Succeeded)
    assert dict(outcome.charges) == {Unit.CALLS: 1}
    assert venue.seen[-1].raw_path == path
    assert json.loads(outcome.result)["venue"] == "paper"
    assert b"internal" not in outcome.result


async def test_amounts_are_decimal_strings(venue, toolbox):
    venue.on("GET", "/v2/account", says(ACCOUNT))
    outcome = await executed(toolbox, "get_account", {}, key="")
    assert json.loads(outcome.result) == {
        "venue": "paper",
        "account": "main",
        "status": "ACTIVE",
        "currency": "USD",
        "cash": "100000.5",
        "buying_power": "-3.25",
        "equity": "0",
        "trading_blocked": False,
    }


async def test_a_quote_is_told_with_its_time(venue, toolbox):
    outcome = await executed(toolbox, "get_quote", {"symbol": "AAPL"}, key="")
    assert json.loads(outcome.result) == {
        "venue": "paper",
        "symbol": "AAPL",
        "bid_price": "189.5",
        "bid_size": "2",
        "ask_price": "189.6",
        "ask_size": "3",
        "at": "2026-11-23T12:00:00Z",
    }
    assert venue.seen[-1].raw_path == "/v2/stocks/AAPL/quotes/latest"


@pytest.mark.parametrize(
    "responder, reason",
    [
        (resets, "upstream.no_answer"),
        (error(503, 50310000, "unavailable"), "upstream.no_answer"),
        (error(404, 40410000, "nothing"), "venue.not_found"),
        (error(429, 42910000, "slow down"), "venue.rate_limited"),
        (says("[]"), "upstream.malformed"),
        (says(ACCOUNT | {"cash": "1e5"}), "upstream.malformed"),
        (says(ACCOUNT | {"cash": 100000.5}), None),
        (says(ACCOUNT | {"status": "A\nB"}), "upstream.malformed"),
        (says("not json"), "upstream.malformed"),
        (says("", 302, Location="http://169.254.169.254/"), "upstream.no_answer"),
    ],
)
async def test_a_read_without_a_good_answer_has_failed_and_is_never_unknown(venue, toolbox, responder, reason):
    venue.on("GET", "/v2/account", responder)
    outcome = await executed(toolbox, "get_account", {}, key="")
    if reason is None:
        assert isinstance(outcome, Succeeded)
    else:
        assert isinstance(outcome, Failed)
        assert outcome.failure.reason == reason


async def test_more_orders_than_were_asked_for_are_no_answer(venue, toolbox):
    venue.on("GET", "/v2/orders", says([order_json(client_order_id="a")] * 101))
    outcome = await executed(toolbox, "list_orders", {"status": "all", "limit": 1}, key="")
    assert outcome.failure.reason == "upstream.malformed"
