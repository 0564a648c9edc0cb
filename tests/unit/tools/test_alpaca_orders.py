"""Orders are posted exactly once, and what became of them is told truthfully (attack row 28)."""

import asyncio
import json
import math
from decimal import Decimal

import pytest
from aiohttp import web
from toolcases import (
    LIMIT_BUY,
    MARKET_SELL,
    UUID,
    accepts,
    asked,
    config,
    error,
    executed,
    finds,
    order_json,
    reserved,
    resets,
    says,
    toolbox_of,
)

from gateway.terms.limits import RESULT_BYTES_MAX
from gateway.terms.money import NANO, Unit
from gateway.terms.operations import Claim, Failed, Succeeded, Unknown
from gateway.tools.alpaca import Alpaca

BY_CLIENT_ID = "/v2/orders:by_client_order_id"


def held(worth):
    """Claims of a NOTIONAL budget and of exposure."""
    return [
        Claim(scope="agent:trader", unit=Unit.NOTIONAL, window="total", limit=10**12, amount=worth),
        Claim(scope="account:paper/main", unit=Unit.EXPOSURE, window="total", limit=10**12, amount=0),
    ]


async def test_an_order_is_written_anew_in_the_venues_words(venue, toolbox):
    venue.on("POST", "/v2/orders", accepts())
    outcome = await executed(toolbox, "place_order", LIMIT_BUY | {"quantity": "10.00", "limit_price": "190.50"})
    assert isinstance(outcome, Succeeded)
    posted = next(seen for seen in venue.seen if seen.method == "POST")
    sent = json.loads(posted.body)
    client_id = sent.pop("client_order_id")
    assert client_id.startswith("gw-")
    assert len(client_id) == 35
    assert sent == {
        "symbol": "AAPL",
        "qty": "10",
        "side": "buy",
        "type": "limit",
        "time_in_force": "day",
        "limit_price": "190.5",
    }
    assert posted.headers["APCA-API-KEY-ID"] == "KEY-ID"
    assert posted.headers["APCA-API-SECRET-KEY"] == "SECRET-KEY"
    assert posted.headers["Accept-Encoding"] == "identity"
    assert json.loads(outcome.result) == {
        "venue": "paper",
        "order_id": UUID,
        "client_order_id": client_id,
        "symbol": "AAPL",
        "side": "buy",
        "type": "limit",
        "time_in_force": "day",
        "status": "new",
        "quantity": "10",
        "filled_quantity": "0",
        "average_price": None,
        "limit_price": "190.5",
        "submitted_at": "2026-11-23T12:00:00.123456Z",
    }


@pytest.mark.parametrize(
    "changed, worth, position, paid",
    [
        ({}, 1_905_000_000, 10_000_000_000, 0),
        (
            {"status": "filled", "filled_qty": "10", "filled_avg_price": "189.6"},
            1_896_000_000,
            10_000_000_000,
            1_896_000_000,
        ),
        (
            {"status": "partially_filled", "filled_qty": "4", "filled_avg_price": "189.6"},
            4 * 189_600_000 + 6 * 190_500_000,
            10_000_000_000,
            4 * 189_600_000,
        ),
        (
            {"status": "canceled", "filled_qty": "4", "filled_avg_price": "189.6"},
            758_400_000,
            4_000_000_000,
            758_400_000,
        ),
        (
            {"status": "canceled", "filled_qty": "4.0000000001", "filled_avg_price": "1"},
            4_000_001,
            4_000_000_001,
            4_000_001,
        ),
        (
            {"status": "filled", "filled_qty": "10", "filled_avg_price": "189.33333337"},
            1_893_333_334,
            10_000_000_000,
            1_893_333_334,
        ),
    ],
    ids=["open", "filled", "partly filled and open", "partly filled and ended", "finer than ours", "rounded up"],
)
async def test_a_buy_is_charged_for_what_is_filled_and_what_is_open(venue, toolbox, changed, worth, position, paid):
    venue.on("POST", "/v2/orders", accepts(**changed))
    outcome = await executed(toolbox, "place_order", LIMIT_BUY)
    filled = math.ceil(Decimal(changed.get("filled_qty", "0")) * NANO)
    assert dict(outcome.charges) == {
        Unit.CALLS: 1,
        Unit.NOTIONAL: worth,
        Unit.EXPOSURE: worth,
        Unit.POSITION: position,
        Unit.TRADED: position,
        Unit.FILLED: filled,
        Unit.PAID: paid,
    }


SOLD = {"side": "sell", "type": "market", "time_in_force": "ioc", "qty": "4", "limit_price": None}


@pytest.mark.parametrize(
    "changed, notional, shares",
    [
        ({"status": "filled", "filled_qty": "4", "filled_avg_price": "189.50000003"}, 758_000_001, 4),
        ({"status": "canceled", "filled_qty": "1", "filled_avg_price": "189.5"}, 189_500_000, 1),
        ({"status": "pending_new"}, 758_000_000, 0),
        ({"status": "partially_filled", "filled_qty": "1", "filled_avg_price": "189.5"}, 758_000_000, 1),
    ],
    ids=["filled, rounded against the caller", "immediate or cancel, partly", "not filled yet", "partly filled"],
)
async def test_a_sale_is_no_exposure_and_tells_only_what_is_filled(venue, toolbox, changed, notional, shares):
    venue.on("POST", "/v2/orders", accepts(**SOLD | changed))
    ask = asked(toolbox, "place_order", MARKET_SELL)
    outcome = await toolbox.execute(reserved(ask, held(758_000_000)))
    assert dict(outcome.charges) == {
        Unit.CALLS: 1,
        Unit.NOTIONAL: notional,
        Unit.EXPOSURE: 0,
        Unit.POSITION: -shares * NANO,
        Unit.TRADED: (shares if changed["status"] == "canceled" else 4) * NANO,
        Unit.FILLED: shares * NANO,
        Unit.PAID: 0,
    }


@pytest.mark.parametrize("status", ["canceled", "expired", "rejected"])
async def test_an_order_that_ended_unfilled_has_failed_and_holds_nothing(venue, toolbox, status):
    venue.on("POST", "/v2/orders", accepts(status=status))
    outcome = await executed(toolbox, "place_order", LIMIT_BUY)
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == f"venue.order_{status}"
    assert dict(outcome.charges) == {Unit.CALLS: 1}


@pytest.mark.parametrize(
    "status, code, message, reason",
    [
        (403, 40310000, "insufficient buying power", "venue.insufficient_funds"),
        (403, 40310000, "insufficient qty available for order", "venue.insufficient_quantity"),
        (403, 40310000, "the market is closed", "venue.forbidden"),
        (400, 40010000, "request body format is invalid", "venue.invalid"),
        (401, 40110000, "request is not authorized.", "venue.unauthorized"),
    ],
)
async def test_a_definite_refusal_is_told_without_asking_again(venue, toolbox, status, code, message, reason):
    venue.on("POST", "/v2/orders", error(status, code, message))
    outcome = await executed(toolbox, "place_order", LIMIT_BUY)
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == reason
    assert outcome.failure.message == f"The venue refused ({status}): {message}"
    assert venue.count("POST") == 1
    assert venue.count("GET", BY_CLIENT_ID) == 0


@pytest.mark.parametrize("status, reason", [(422, "venue.unprocessable"), (429, "venue.rate_limited")])
async def test_what_may_stand_for_our_own_order_is_looked_up_before_it_is_told(venue, toolbox, status, reason):
    venue.on("POST", "/v2/orders", error(status, status * 100_000, "no"))
    outcome = await executed(toolbox, "place_order", LIMIT_BUY)
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == reason
    assert (venue.count("POST"), venue.count("GET", BY_CLIENT_ID)) == (1, 1)


async def test_a_duplicate_client_order_id_is_our_own_order(venue, toolbox):
    venue.on("POST", "/v2/orders", error(422, 40010001, "client_order_id must be unique"))
    venue.on("GET", BY_CLIENT_ID, finds(status="filled", filled_qty="10", filled_avg_price="189.6"))
    outcome = await executed(toolbox, "place_order", LIMIT_BUY)
    assert isinstance(outcome, Succeeded)
    assert json.loads(outcome.result)["status"] == "filled"


LONG_BEFORE = {"qty": "11", "submitted_at": "2026-11-23T11:58:59Z"}
DUPLICATE = error(422, 40010001, "client_order_id must be unique")


async def test_a_duplicate_of_another_order_of_long_before_is_a_refusal(venue, toolbox):
    venue.on("POST", "/v2/orders", DUPLICATE)
    venue.on("GET", BY_CLIENT_ID, finds(**LONG_BEFORE))
    outcome = await executed(toolbox, "place_order", LIMIT_BUY)
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.client_order_id_taken"


@pytest.mark.parametrize(
    "posted", [DUPLICATE, resets, accepts(time_in_force="gtc")], ids=["refused", "lost", "changed"]
)
@pytest.mark.parametrize(
    "terms",
    [
        {"time_in_force": "gtc"},
        {"type": "stop_limit"},
        {"limit_price": "190.49"},
        {"qty": "11"},
        {"side": "sell"},
        {"time_in_force": "gtc", "status": "partially_filled", "filled_qty": "4", "filled_avg_price": "190"},
        {"time_in_force": "gtc", "status": "canceled", "filled_qty": "4", "filled_avg_price": "190"},
    ],
)
async def test_an_order_under_our_id_with_other_terms_may_be_ours_and_stays_held(venue, toolbox, posted, terms):
    """A venue may write a term in its own way: what is live then must not be released as if it were another's."""
    venue.on("POST", "/v2/orders", posted)
    venue.on("GET", BY_CLIENT_ID, finds(**terms))
    outcome = await executed(toolbox, "place_order", LIMIT_BUY)
    assert isinstance(outcome, Unknown)
    assert outcome.failure.reason == "venue.order_not_as_sent"
    assert "a person must compare" in outcome.failure.message


async def test_another_order_of_long_before_says_nothing_of_a_sending_that_was_lost(venue, toolbox):
    venue.on("POST", "/v2/orders", resets)
    for ended in ({}, {"status": "canceled"}):
        venue.on("GET", BY_CLIENT_ID, finds(**LONG_BEFORE, **ended))
        assert isinstance(await executed(toolbox, "place_order", LIMIT_BUY), Unknown)


async def test_an_order_under_our_id_that_ended_without_a_fill_is_nothing_whatever_its_terms(venue, toolbox):
    venue.on("POST", "/v2/orders", resets)
    venue.on("GET", BY_CLIENT_ID, finds(time_in_force="gtc", status="rejected"))
    outcome = await executed(toolbox, "place_order", LIMIT_BUY)
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.order_rejected"


async def test_a_duplicate_whose_look_up_fails_stays_unknown(venue, toolbox):
    venue.on("POST", "/v2/orders", error(422, 40010001, "client_order_id must be unique"))
    venue.on("GET", BY_CLIENT_ID, error(503, 50310000, "service unavailable"))
    assert isinstance(await executed(toolbox, "place_order", LIMIT_BUY), Unknown)


async def redirects(_):
    return web.Response(status=307, headers={"Location": "/elsewhere"})


async def sends_a_gzip_bomb(_):
    return web.Response(body=b"\x1f\x8b" + b"\0" * 100, headers={"Content-Encoding": "gzip"})


async def sends_too_much(_):
    return web.Response(text='{"id": "' + "x" * RESULT_BYTES_MAX + '"}', content_type="application/json")


async def breaks_off(received):
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(received)
    await response.write(b'{"id":')
    received.transport.abort()
    return response


LOST = {
    "reset after it was sent": resets,
    "504": error(504, 50410000, "gateway timeout"),
    "500 that is no JSON": says("<html>", 500),
    "200 that is no JSON": says("<html>"),
    "200 with a key twice": says('{"id":"a","id":"b"}'),
    "200 without the members of an order": says({"ok": True}),
    "200 with another order": says(order_json(client_order_id="someone-elses")),
    "200 with our id and other terms": accepts(qty="11"),
    "200 filled beyond its quantity": accepts(filled_qty="20", filled_avg_price="189.6"),
    "403 of something on the way": says("<html>denied</html>", 403),
    "408": error(408, 40810000, "request timeout"),
    "a redirect": redirects,
    "a compressed reply": sends_a_gzip_bomb,
    "an oversized reply": sends_too_much,
    "a reply that breaks off": breaks_off,
}


@pytest.mark.parametrize("responder", LOST.values(), ids=LOST.keys())
async def test_a_lost_reply_is_unknown_and_never_sent_again(venue, toolbox, responder):
    venue.on("POST", "/v2/orders", responder)
    outcome = await executed(toolbox, "place_order", LIMIT_BUY)
    assert isinstance(outcome, Unknown)
    assert outcome.failure.reason == "upstream.reply_lost"
    assert (venue.count("POST"), venue.count("GET", BY_CLIENT_ID)) == (1, 1)
    assert venue.count("POST", "/elsewhere") == 0


@pytest.mark.parametrize("responder", LOST.values(), ids=LOST.keys())
async def test_a_lost_reply_is_cleared_up_by_our_own_id(venue, toolbox, responder):
    venue.on("POST", "/v2/orders", responder)
    venue.on("GET", BY_CLIENT_ID, finds())
    outcome = await executed(toolbox, "place_order", LIMIT_BUY)
    assert isinstance(outcome, Succeeded)
    sent = json.loads(next(seen.body for seen in venue.seen if seen.method == "POST"))
    looked_up = next(seen.raw_path for seen in venue.seen if seen.raw_path.startswith(BY_CLIENT_ID))
    assert looked_up == f"{BY_CLIENT_ID}?client_order_id={sent['client_order_id']}"
    assert venue.count("POST") == 1


async def test_a_slow_reply_is_looked_up_while_time_is_left(venue, clock):
    never = asyncio.Event()

    async def is_silent(_):
        await never.wait()
        return web.Response()

    venue.on("POST", "/v2/orders", is_silent)
    venue.on("GET", BY_CLIENT_ID, finds())
    async with Alpaca(config(venue.url, timeout_ms=200), clock) as exchange:
        outcome = await executed(toolbox_of(exchange), "place_order", LIMIT_BUY)
    assert isinstance(outcome, Succeeded)
    assert venue.count("POST") == 1
    never.set()


async def test_a_trickling_reply_ends_with_the_total_time(venue, clock):
    async def trickles(received):
        response = web.StreamResponse()
        await response.prepare(received)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.005)

    venue.on("POST", "/v2/orders", trickles)
    async with Alpaca(config(venue.url, timeout_ms=100), clock) as exchange:
        outcome = await executed(toolbox_of(exchange), "place_order", LIMIT_BUY)
    assert isinstance(outcome, Unknown)


async def test_a_venue_that_cannot_be_reached_was_sent_nothing(clock, unused_tcp_port):
    async with Alpaca(config(f"http://127.0.0.1:{unused_tcp_port}"), clock) as exchange:
        toolbox = toolbox_of(exchange)
        outcome = await toolbox.execute(reserved(asked(toolbox, "place_order", LIMIT_BUY)))
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "upstream.unreachable"
    assert outcome.charges == ()


async def test_a_name_that_does_not_resolve_was_sent_nothing(clock):
    async with Alpaca(config("https://venue.invalid"), clock) as exchange:
        toolbox = toolbox_of(exchange)
        outcome = await toolbox.execute(reserved(asked(toolbox, "place_order", LIMIT_BUY)))
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "upstream.unreachable"


async def test_the_same_key_has_the_same_order_id_and_another_key_another(venue, toolbox):
    venue.on("POST", "/v2/orders", accepts())
    for key in ("one", "one", "two"):
        await executed(toolbox, "place_order", LIMIT_BUY, key)
    ids = [json.loads(seen.body)["client_order_id"] for seen in venue.seen if seen.method == "POST"]
    assert ids[0] == ids[1] != ids[2]


async def test_a_refusal_in_the_venues_words_is_made_harmless(venue, toolbox):
    words = "no\r\n\x1b[31m for SECRET-KEY \u202e" + "x" * 1000
    venue.on("POST", "/v2/orders", error(403, 40310000, words))
    message = (await executed(toolbox, "place_order", LIMIT_BUY)).failure.message
    assert message.startswith("The venue refused (403): no [31m for [removed] x")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 300


async def test_a_cancel_that_is_accepted(venue, toolbox):
    venue.on("DELETE", "/v2/orders/", says("", 204))
    outcome = await executed(toolbox, "cancel_order", {"order_id": UUID})
    assert isinstance(outcome, Succeeded)
    assert json.loads(outcome.result) == {"venue": "paper", "order_id": UUID, "status": "cancel_accepted"}
    assert venue.seen[-1].raw_path == f"/v2/orders/{UUID}"


@pytest.mark.parametrize("responder", [resets, error(504, 50410000, "timeout"), error(422, 42210000, "no")])
@pytest.mark.parametrize(
    "status, reason", [("canceled", None), ("pending_cancel", None), ("filled", "venue.not_cancelable")]
)
async def test_a_cancel_is_cleared_up_by_the_orders_state(venue, toolbox, responder, status, reason):
    venue.on("DELETE", "/v2/orders/", responder)
    filled = {"filled_qty": "10", "filled_avg_price": "1"} if status == "filled" else {}
    venue.on("GET", "/v2/orders/", says(order_json(client_order_id="any", status=status, **filled)))
    outcome = await executed(toolbox, "cancel_order", {"order_id": UUID})
    assert isinstance(outcome, Succeeded) == (reason is None)
    assert reason is None or outcome.failure.reason == reason


async def test_a_cancel_whose_reply_is_lost_while_the_order_is_open_is_unknown(venue, toolbox):
    venue.on("DELETE", "/v2/orders/", error(504, 50410000, "timeout"))
    venue.on("GET", "/v2/orders/", says(order_json(client_order_id="any")))
    assert isinstance(await executed(toolbox, "cancel_order", {"order_id": UUID}), Unknown)


@pytest.mark.parametrize("shown", [resets, error(503, 50310000, "unavailable"), says("<html>", 404), says({"id": 7})])
async def test_a_refused_cancel_that_cannot_be_looked_up_is_unknown(venue, toolbox, shown):
    """The refusal may be of a second sending of the same request, on its way, after the first did cancel."""
    venue.on("DELETE", "/v2/orders/", error(422, 42210000, "order is not cancelable"))
    venue.on("GET", "/v2/orders/", shown)
    assert isinstance(await executed(toolbox, "cancel_order", {"order_id": UUID}), Unknown)


async def test_a_cancel_that_is_refused_while_the_order_is_open_has_failed(venue, toolbox):
    venue.on("DELETE", "/v2/orders/", error(422, 42210000, "order is not cancelable"))
    venue.on("GET", "/v2/orders/", says(order_json(client_order_id="any")))
    outcome = await executed(toolbox, "cancel_order", {"order_id": UUID})
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.unprocessable"


async def test_a_cancel_of_an_order_that_does_not_exist(venue, toolbox):
    outcome = await executed(toolbox, "cancel_order", {"order_id": UUID})
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.not_found"


async def test_a_cancel_whose_connection_breaks_is_sent_once(venue, toolbox):
    """aiohttp would send a DELETE again by itself."""
    venue.on("DELETE", "/v2/orders/", resets)
    await executed(toolbox, "cancel_order", {"order_id": UUID})
    assert venue.count("DELETE") == 1
