"""The exchange over real sockets: wire forms, authentication, refusals, injected faults and what the witness saw."""

import asyncio
import datetime as dt
import json

import aiohttp
import pytest

from localcloud.exchange import Credential, ExchangeConfig, Liquidity, PaperExchange, VenueConfig

NOON = 1_795_435_200_000_000
KEYS = {"APCA-API-KEY-ID": "KEY-A", "APCA-API-SECRET-KEY": "secret-A"}
OTHER = {"APCA-API-KEY-ID": "KEY-B", "APCA-API-SECRET-KEY": "secret-B"}
MARKET = {"symbol": "AAPL", "qty": "3", "side": "buy", "type": "market", "time_in_force": "day"}
RESTING = {**MARKET, "type": "limit", "limit_price": "150"}


@pytest.fixture
async def exchange():
    config = VenueConfig(
        credentials=(
            Credential(key_id="KEY-A", secret="secret-A", cash_micros=10_000_000_000),
            Credential(key_id="KEY-B", secret="secret-B", cash_micros=10_000_000_000),
        ),
        liquidity=Liquidity(drift_ticks=0),
    )
    async with PaperExchange(ExchangeConfig(venue=config, clock=lambda: NOON)) as running:
        yield running


@pytest.fixture
async def http():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


@pytest.fixture
def call(exchange, http):
    async def call(method, path, *, headers=KEYS, **options):
        async with http.request(method, exchange.url + path, headers=headers, **options) as response:
            assert response.headers["x-venue"] == "simulated"
            body = await response.read()
            return response.status, json.loads(body) if body else None

    return call


@pytest.fixture
def place(call):
    async def place(order, **options):
        return await call("POST", "/v2/orders", json=order, **options)

    return place


@pytest.fixture
def inject(exchange, http):
    async def inject(*faults):
        async with http.post(exchange.admin_url + "/admin/faults", json=list(faults)) as response:
            return response.status, await response.json()

    return inject


@pytest.fixture
def witness(exchange, http):
    async def witness(path):
        async with http.get(exchange.admin_url + path) as response:
            assert response.headers["x-venue"] == "simulated"
            return await response.json()

    return witness


async def test_an_order_fills_and_shows_in_position_account_and_activities(call, place):
    status, order = await place({**MARKET, "client_order_id": "mine"})
    assert status == 200
    assert (order["status"], order["qty"], order["filled_qty"], order["filled_avg_price"]) == (
        "filled",
        "3",
        "3",
        "189.51",
    )
    assert order["submitted_at"] == order["filled_at"] == "2026-11-23T12:00:00.000000Z"
    assert await call("GET", f"/v2/orders/{order['id']}") == (200, order)
    assert await call("GET", "/v2/orders:by_client_order_id?client_order_id=mine") == (200, order)
    _, position = await call("GET", "/v2/positions/AAPL")
    assert (position["qty"], position["cost_basis"], position["avg_entry_price"]) == ("3", "568.53", "189.51")
    assert await call("GET", "/v2/positions") == (200, [position])
    assert await call("GET", f"/v2/positions/{position['asset_id']}") == (200, position)
    _, account = await call("GET", "/v2/account")
    assert (account["cash"], account["equity"], account["long_market_value"]) == ("9431.47", "10000", "568.53")
    _, fills = await call("GET", "/v2/account/activities/FILL")
    assert [(fill["order_id"], fill["qty"], fill["price"], fill["type"]) for fill in fills] == [
        (order["id"], "3", "189.51", "fill")
    ]


async def test_the_newest_fills_come_first_in_pages(call, place):
    for qty in ("1", "2", "3"):
        await place({**MARKET, "qty": qty})
    _, fills = await call("GET", "/v2/account/activities/FILL?page_size=2")
    assert [fill["qty"] for fill in fills] == ["3", "2"]
    assert len({fill["id"] for fill in fills}) == 2


async def test_resting_orders_are_listed_and_cancelled(call, place):
    placed = [(await place({**RESTING, "limit_price": price}))[1]["id"] for price in ("150", "151", "152.50")]
    _, listed = await call("GET", "/v2/orders")
    assert [(order["id"], order["status"]) for order in listed] == [(order_id, "new") for order_id in placed[::-1]]
    assert await call("DELETE", f"/v2/orders/{placed[0]}") == (204, None)
    status, refusal = await call("DELETE", f"/v2/orders/{placed[0]}")
    assert (status, refusal["code"]) == (422, 42210000)
    status, cancelled = await call("DELETE", "/v2/orders")
    assert (status, [(each["id"], each["status"]) for each in cancelled]) == (207, [(each, 200) for each in placed[1:]])
    assert await call("GET", "/v2/orders?status=open") == (200, [])
    _, account = await call("GET", "/v2/account")
    assert account["buying_power"] == "10000"


@pytest.mark.parametrize(
    "query, found",
    [
        ("status=all", ["c", "b", "a"]),
        ("status=all&direction=asc", ["a", "b", "c"]),
        ("status=closed", ["b"]),
        ("status=all&symbols=MSFT,GOOG", ["c"]),
        ("status=all&limit=1", ["c"]),
        ("status=all&side=sell", []),
        ("status=all&after=2026-11-23T12:00:00Z", []),
        ("status=all&until=2026-11-23T12:00:00Z&limit=500", ["c", "b", "a"]),
    ],
)
async def test_listing_filters(call, place, query, found):
    await place({**RESTING, "client_order_id": "a"})
    await place({**MARKET, "client_order_id": "b"})
    await place({**RESTING, "client_order_id": "c", "symbol": "MSFT"})
    _, listed = await call("GET", f"/v2/orders?{query}")
    assert [order["client_order_id"] for order in listed] == found


@pytest.mark.parametrize("headers", [{}, {**KEYS, "APCA-API-SECRET-KEY": "x"}, {"APCA-API-KEY-ID": "KEY-A"}])
async def test_without_a_valid_key_pair_nothing_is_answered_and_nothing_happens(exchange, place, call, headers):
    for attempt in (place(MARKET, headers=headers), call("GET", "/v2/nowhere", headers=headers)):
        assert await attempt == (401, {"code": 40110000, "message": "request is not authorized."})
    assert exchange.venue.orders == {}


async def test_a_key_pair_sent_twice_is_refused(call):
    twice = [*KEYS.items(), ("APCA-API-KEY-ID", "KEY-B")]
    assert (await call("GET", "/v2/account", headers=twice))[0] == 401


async def test_key_pairs_have_accounts_of_their_own(call, place):
    _, order = await place(MARKET)
    status, refusal = await call("GET", f"/v2/orders/{order['id']}", headers=OTHER)
    assert (status, refusal["code"]) == (404, 40410000)
    assert await call("GET", "/v2/positions", headers=OTHER) == (200, [])


async def test_what_the_account_cannot_bear_is_refused_as_alpaca_does(place):
    assert await place({**RESTING, "qty": "100"}) == (
        403,
        {"code": 40310000, "message": "insufficient buying power", "buying_power": "10000", "cost_basis": "15000"},
    )
    status, refusal = await place({**MARKET, "side": "sell"})
    assert (status, refusal["code"]) == (403, 40310000)
    assert refusal["message"] == "insufficient qty available for order (requested: 3, available: 0)"


async def test_a_client_order_id_is_used_once(place):
    await place({**MARKET, "client_order_id": "once"})
    assert await place({**MARKET, "client_order_id": "once"}) == (
        422,
        {"code": 40010001, "message": "client_order_id must be unique"},
    )


@pytest.mark.parametrize(
    "body, status, code",
    [
        (b"{", 400, 40010000),
        (b'{"symbol": "AAPL", "symbol": "MSFT"}', 400, 40010000),
        (b'{"qty": NaN}', 400, 40010000),
        (b"[1]", 400, 40010000),
        (b'{"symbol": "AAPL"}', 422, 42210000),
        (b'{"symbol": "\\ud800"}', 422, 42210000),
        (b" " * 70_000, 413, 41310000),
    ],
)
async def test_bad_bodies_are_refused(exchange, call, body, status, code):
    answered, refusal = await call("POST", "/v2/orders", data=body)
    assert (answered, refusal["code"]) == (status, code)
    assert exchange.venue.orders == {}


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/v2/orders?limit=501", 422),
        ("GET", "/v2/orders?limit=x", 422),
        ("GET", "/v2/orders?status=maybe", 422),
        ("GET", "/v2/orders?after=2026-11-23T12:00:00", 422),
        ("GET", "/v2/orders/not-an-id", 422),
        ("GET", "/v2/orders/7a3c9f0e-0000-4000-8000-000000000000", 404),
        ("GET", "/v2/orders:by_client_order_id", 422),
        ("GET", "/v2/orders:by_client_order_id?client_order_id=unknown", 404),
        ("GET", "/v2/positions/AAPL", 404),
        ("GET", "/v2/positions/NOPE", 404),
        ("GET", "/v2/assets/NOPE", 404),
        ("GET", "/v2/stocks/NOPE/quotes/latest", 404),
        ("GET", "/v2/stocks/quotes/latest", 400),
        ("GET", "/v2/account/activities/DIV", 422),
        ("PATCH", "/v2/orders/7a3c9f0e-0000-4000-8000-000000000000", 404),
        ("GET", "/", 404),
        ("GET", "/v2/%ff%fe", 404),
    ],
)
async def test_bad_questions_are_refused(call, method, path, status):
    answered, refusal = await call(method, path)
    assert answered == status
    assert set(refusal) == {"code", "message"}


async def test_quotes_are_the_top_of_the_book(call, place):
    _, single = await call("GET", "/v2/stocks/AAPL/quotes/latest")
    quote = single["quote"]
    assert (single["symbol"], quote["bp"], quote["ap"], quote["t"]) == (
        "AAPL",
        189.49,
        189.51,
        "2026-11-23T12:00:00.000000Z",
    )
    await place({**RESTING, "limit_price": "189.50", "qty": "7"})
    _, several = await call("GET", "/v2/stocks/quotes/latest?symbols=AAPL,MSFT,NOPE")
    assert sorted(several["quotes"]) == ["AAPL", "MSFT"]
    assert (several["quotes"]["AAPL"]["bp"], several["quotes"]["AAPL"]["bs"]) == (189.5, 7)


async def test_clock_and_asset(call):
    _, clock = await call("GET", "/v2/clock")
    assert clock["is_open"] is True
    assert dt.datetime.fromisoformat(clock["timestamp"]) < dt.datetime.fromisoformat(clock["next_close"])
    _, asset = await call("GET", "/v2/assets/AAPL")
    assert (asset["tradable"], asset["fractionable"], asset["class"]) == (True, False, "us_equity")
    assert await call("GET", f"/v2/assets/{asset['id']}") == (200, asset)


@pytest.mark.parametrize(
    "fault, happened",
    [
        ({"kind": "reset_before"}, 0),
        ({"kind": "reset_after_accept"}, 1),
    ],
)
async def test_a_cut_connection_before_and_after_acceptance(exchange, call, place, inject, fault, happened):
    await inject({**fault, "match": {"method": "POST", "path_prefix": "/v2/orders", "symbol": "AAPL"}})
    assert (await place({**MARKET, "symbol": "MSFT"}))[0] == 200
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await place({**MARKET, "client_order_id": "lost"})
    known, _ = await call("GET", "/v2/orders:by_client_order_id?client_order_id=lost")
    assert (known, len(exchange.venue.orders)) == ({0: 404, 1: 200}[happened], 1 + happened)
    assert exchange.requests.newest()[1].status == 0


@pytest.mark.parametrize("status", [429, 500, 504, 599])
@pytest.mark.parametrize("kind, happened", [("status_before", 0), ("status_after", 1)])
async def test_an_error_status_before_and_after_acceptance(exchange, place, inject, kind, happened, status):
    await inject({"kind": kind, "status": status})
    answered, body = await place(MARKET)
    assert (answered, body["code"], len(exchange.venue.orders)) == (status, status * 100_000 + 10_000, happened)
    assert (await place(MARKET))[0] == 200


async def test_a_refused_order_does_not_use_up_a_fault_after_acceptance(place, inject):
    await inject({"kind": "status_after", "status": 503})
    assert (await place({**MARKET, "side": "sell"}))[0] == 403
    assert (await place(MARKET))[0] == 503


async def test_a_caller_without_keys_uses_up_no_fault(place, inject):
    await inject({"kind": "status_before", "status": 503})
    assert (await place(MARKET, headers={}))[0] == 401
    assert (await place(MARKET))[0] == 503


async def test_latency_delays_the_effect_which_comes_even_if_the_caller_has_left(exchange, place, inject):
    await inject({"kind": "latency", "delay_ms": 50})
    with pytest.raises(TimeoutError):
        await place(MARKET, timeout=aiohttp.ClientTimeout(total=0.01))
    assert len(exchange.venue.orders) == 0
    async with asyncio.timeout(5):
        while not exchange.venue.orders:  # noqa: ASYNC110 - the venue tells nobody; the caller has left
            await asyncio.sleep(0.005)


async def test_a_late_reply_comes_after_the_effect(exchange, place, inject):
    await inject({"kind": "latency_after", "delay_ms": 60_000})
    with pytest.raises(TimeoutError):
        await place(MARKET, timeout=aiohttp.ClientTimeout(total=0.2))
    assert len(exchange.venue.orders) == 1


async def test_faulty_quotes(call, inject):
    await inject(
        {"kind": "stale_quote", "delay_ms": 10_000},
        {"kind": "zero_quote", "match": {"symbol": "MSFT"}},
        {"kind": "missing_quote", "match": {"symbol": "GOOG"}, "count": 2},
    )
    _, several = await call("GET", "/v2/stocks/quotes/latest?symbols=AAPL,MSFT,GOOG")
    assert several["quotes"]["AAPL"]["t"] == "2026-11-23T11:59:50.000000Z"
    assert (several["quotes"]["MSFT"]["bp"], several["quotes"]["MSFT"]["ap"]) == (0, 0)
    assert "GOOG" not in several["quotes"]
    assert (await call("GET", "/v2/stocks/GOOG/quotes/latest"))[0] == 404
    assert (await call("GET", "/v2/stocks/GOOG/quotes/latest"))[0] == 200


async def test_a_duplicated_fill_is_in_the_report_and_never_in_the_books(exchange, call, place, inject):
    await inject({"kind": "duplicate_fill", "count": 2})
    _, order = await place(MARKET)
    assert (order["qty"], order["filled_qty"]) == ("3", "6")
    _, fills = await call("GET", "/v2/account/activities/FILL")
    assert len(fills) == 2
    assert fills[0] == fills[1]
    assert exchange.venue.accounts[0].positions["AAPL"].lots == 3
    assert (await call("GET", f"/v2/orders/{order['id']}"))[1]["filled_qty"] == "3"


async def test_a_halt_refuses_orders_and_lets_cancels_through(call, place, inject):
    _, resting = await place(RESTING)
    await inject({"kind": "halt", "match": {"symbol": "AAPL"}, "count": None})
    status, refusal = await place(MARKET)
    assert (status, refusal) == (422, {"code": 42210000, "message": "trading of AAPL is halted"})
    assert (await call("GET", "/v2/assets/AAPL"))[1]["tradable"] is False
    assert (await call("GET", "/v2/clock"))[1]["is_open"] is True
    assert (await place({**MARKET, "symbol": "MSFT"}))[0] == 200
    assert (await call("DELETE", f"/v2/orders/{resting['id']}"))[0] == 204
    await inject({"kind": "halt", "count": None})
    assert (await call("GET", "/v2/clock"))[1]["is_open"] is False


async def test_faults_are_listed_removed_and_strictly_decoded(exchange, http, inject, witness):
    assert (await inject({"kind": "halt"}, {"kind": "boom"}))[0] == 400
    assert await witness("/admin/faults") == []
    assert (await inject({"kind": "halt"}))[0] == 200
    assert (await witness("/admin/faults"))[0]["kind"] == "halt"
    async with http.delete(exchange.admin_url + "/admin/faults") as response:
        assert await response.json() == []
    for body in (b"{}", b"[", b'[{"kind": "halt", "kind": "halt"}]'):
        async with http.post(exchange.admin_url + "/admin/faults", data=body) as response:
            assert response.status == 400


async def test_the_witness_sees_orders_of_all_accounts(place, witness):
    await place({**MARKET, "client_order_id": "a"})
    await place({**MARKET, "client_order_id": "b"}, headers=OTHER)
    seen = await witness("/admin/orders")
    assert (seen["total"], [order["client_order_id"] for order in seen["orders"]]) == (2, ["a", "b"])
    assert seen["orders"][0]["account_number"] != seen["orders"][1]["account_number"]
    assert (await witness("/admin/orders?client_order_id=b"))["total"] == 1
    limited = await witness("/admin/orders?limit=1")
    assert (limited["total"], len(limited["orders"])) == (2, 1)
    assert "message" in await witness("/admin/orders?limit=-1")


async def test_the_witness_names_credential_headers_and_never_shows_their_values(exchange, call, place, witness):
    await place(MARKET)
    await call("GET", "/v2/account?x=1", headers={"Authorization": "Bearer stolen-token", "X-Other": "y"})
    seen = await witness("/admin/requests")
    assert seen["count"] == exchange.requests.count == 2
    assert [
        (entry["method"], entry["path"], entry["status"], entry["credential_headers"]) for entry in seen["requests"]
    ] == [
        ("POST", "/v2/orders", 200, ["apca-api-key-id", "apca-api-secret-key"]),
        ("GET", "/v2/account?x=1", 401, ["authorization"]),
    ]
    assert not any(secret in json.dumps(seen) for secret in ("secret-A", "stolen-token"))


async def test_the_admin_paths_are_not_on_the_trading_port(call):
    assert (await call("GET", "/admin/orders"))[0] == 404


async def test_nothing_listens_after_the_block(http):
    config = VenueConfig(credentials=(Credential(key_id="K", secret="S", cash_micros=1),))
    async with PaperExchange(ExchangeConfig(venue=config)) as running:
        urls = running.url, running.admin_url
    for url in urls:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(url)


async def test_a_taken_port_is_an_error_and_leaves_nothing_open(exchange, http):
    taken = int(exchange.url.rsplit(":", 1)[1])
    config = ExchangeConfig(venue=exchange.venue.config, admin_port=taken)
    with pytest.raises(OSError, match="address already in use"):
        async with PaperExchange(config):
            pytest.fail("both ports must listen before the block runs")
