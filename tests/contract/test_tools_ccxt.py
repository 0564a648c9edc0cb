"""The adapter over the real ccxt library, against a spot exchange on a real socket that checks every signature."""

import asyncio
import json
from dataclasses import replace

import pytest
from spot_exchange import KEY, SECRET, spot_exchange

from gateway.terms.aftercare import NotYet, Unknowable, Watched
from gateway.terms.asks import ToolAsk, ToolRequest
from gateway.terms.caller import Caller
from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.ids import AgentName, BootId, InstanceId, OperationId, Principal, TeamName, TenantName, ToolName
from gateway.terms.limits import LimitProfile
from gateway.terms.money import MICRO, NANO, MicroUsd, NanoUnits, Unit
from gateway.terms.operations import (
    Counted,
    Demand,
    Failed,
    Operation,
    OperationKey,
    Receipt,
    Reservation,
    State,
    Succeeded,
    Unknown,
)
from gateway.terms.verdict import Permit, Refusal
from gateway.tools.ccxt import Ccxt
from gateway.tools.ccxt_config import CcxtConfig, library_fault
from gateway.tools.ccxt_orders import our_id
from gateway.tools.ccxt_wire import Lost, Told
from gateway.tools.toolbox import Toolbox

pytestmark = pytest.mark.skipif(bool(library_fault()), reason=library_fault() or "ccxt is installed")

TOOLS = ("place_order", "cancel_order", "get_order", "list_orders", "list_positions", "get_account", "get_quote")
CALLER = Caller(
    principal=Principal("1234"),
    email="agent@example.com",
    agent=AgentName("trader"),
    team=TeamName("desk"),
    tenant=TenantName("acme"),
    role="trader",
    models=frozenset(),
    tools=frozenset(map(ToolName, TOOLS)),
    budgets=(),
    limits=LimitProfile(
        name="paper",
        quantity_max=NanoUnits(100 * NANO),
        notional_max=MicroUsd(2_000_000 * MICRO),
        collar_bps=1_000,
        reference_age_ms_max=5_000,
        exposure_max=MicroUsd(10**13),
    ),
)
BUY = {"symbol": "BTC/USD", "side": "buy", "type": "market", "quantity": "0.25", "time_in_force": "ioc"}
RESTING = {
    "symbol": "BTC/USD",
    "side": "buy",
    "type": "limit",
    "quantity": "0.125",
    "limit_price": "58000.25",
    "time_in_force": "gtc",
}
UNKNOWN_TO_ALL = b'{"code":-1007,"msg":"Timeout waiting for response from backend server. Send status unknown."}'


async def nothing_counted(places):
    """A ledger in which nothing was traded yet."""
    return tuple(Counted(held=0, spent=0) for _ in places)


@pytest.fixture
async def exchange():
    async with spot_exchange() as running:
        yield running


def config(exchange, **changed):
    plain = CcxtConfig(
        name="spot",
        exchange="binance",
        sandbox=True,
        url=exchange.url,
        symbols=("BTC/USD",),
        counted_as_usd=("USD",),
        key_id=KEY,
        secret_key=SECRET,
        account="main",
        client_order_key=b"k" * 32,
    )
    return replace(plain, **changed)


class Station:
    """The tools station as a call uses it, with a ledger that grants everything."""

    def __init__(self, backend):
        self.backend = backend
        self.toolbox = Toolbox([backend], SystemIds())

    def ask(self, tool, arguments, key=""):
        text = json.dumps(arguments)
        return self.toolbox.ask(
            CALLER, ToolRequest(tool=tool, version="", arguments_json=text, idempotency_key=key, run_id="")
        )

    async def demand(self, tool, arguments, key="key"):
        ask = self.ask(tool, arguments, key)
        assert isinstance(ask, ToolAsk), ask
        facts = await self.toolbox.facts(CALLER, ask, nothing_counted)
        return facts if isinstance(facts, Refusal) else self.toolbox.demand(CALLER, ask, facts)

    async def act(self, tool, arguments, key=""):
        demand = await self.demand(tool, arguments, key)
        assert isinstance(demand, Demand), demand
        ask = self.ask(tool, arguments, key)
        return await self.toolbox.execute(
            Reservation(
                operation=OperationId("op-1"),
                permit=Permit(caller=CALLER, ask=ask, rules=(), policy_hash=""),
                key=self.key(tool, ask.key),
                claims=demand.claims,
                fence=1,
                intent=Receipt(instance=InstanceId("i"), boot=BootId("b"), sequence=1, leaf_hash=b""),
            )
        )

    @staticmethod
    def key(tool, key):
        return OperationKey(tenant=CALLER.tenant, principal=CALLER.principal, tool=ToolName(tool), key=key)

    async def read(self, tool, **arguments):
        outcome = await self.act(tool, arguments)
        assert isinstance(outcome, Succeeded), outcome
        return json.loads(outcome.result)

    async def look(self, tool, arguments, key, age_s=0, state=State.RECONCILING, withdraw=False):
        """Ask as another instance does, that has the memo and nothing else."""
        demand = await self.demand(tool, arguments, key)
        operation = Operation(
            id="op-1",
            key=self.key(tool, key),
            version="1",
            fingerprint=b"",
            state=state,
            result=b"",
            failure=None,
            rules=(),
            policy_hash="",
            intent=Receipt(instance="i", boot="b", sequence=1, leaf_hash=b""),
            outcome=None,
            created_unix_us=SystemClock().unix_us() - age_s * 1_000_000,
            lease_until_unix_us=0,
        )
        held = tuple((claim.unit, claim.amount) for claim in demand.claims)
        watched = Watched(operation=operation, memo=demand.memo, held=held, looks=0, withdraw=withdraw, fence=2)
        return await self.toolbox.look(watched)


@pytest.fixture
async def station(exchange):
    async with Ccxt(config(exchange), SystemClock()) as backend:
        yield Station(backend)


async def test_a_market_order_fills_and_shows_in_every_read(exchange, station):
    outcome = await station.act("place_order", BUY, "buy-1")
    assert isinstance(outcome, Succeeded), outcome
    placed = json.loads(outcome.result)
    assert (placed["venue"], placed["status"], placed["filled_quantity"]) == ("spot", "filled", "0.25")
    (order,) = exchange.orders()
    assert (
        order.client_order_id
        == placed["client_order_id"]
        == our_id(config(exchange), station.key("place_order", "buy-1"))
    )
    charges = dict(outcome.charges)
    assert charges[Unit.NOTIONAL] == charges[Unit.EXPOSURE] == order.filled_micros > 0
    same = {"symbol": "BTC/USD"}
    assert await station.read("get_order", order_id=placed["order_id"], **same) == placed
    assert await station.read("get_order", client_order_id=placed["client_order_id"], **same) == placed
    assert (await station.read("list_orders", status="all", limit=10, **same))["orders"] == [
        {name: value for name, value in placed.items() if name != "venue"}
    ]
    dollars = {"currency": "USD", "in_orders": "0"}
    bitcoin, cash = (await station.read("list_positions"))["positions"]
    assert bitcoin == {"currency": "BTC", "quantity": "0.25", "free": "0.25", "in_orders": "0"}
    assert cash | dollars == cash
    account = await station.read("get_account")
    assert (account["account"], account["cash"], account["buying_power"]) == ("main", cash["quantity"], cash["free"])
    assert exchange.count("POST") == 1


async def test_a_sale_tells_what_it_sold_and_is_no_exposure(station):
    await station.act("place_order", BUY, "buy")
    outcome = await station.act("place_order", BUY | {"side": "sell"}, "sell")
    assert isinstance(outcome, Succeeded), outcome
    charges = dict(outcome.charges)
    assert (charges[Unit.EXPOSURE], charges[Unit.PAID]) == (0, 0)
    assert charges[Unit.FILLED] == -charges[Unit.POSITION] > 0


async def test_a_resting_order_is_charged_at_its_limit_and_cancelled_once_and_for_all(exchange, station):
    outcome = await station.act("place_order", RESTING, "rest")
    placed = json.loads(outcome.result)
    assert outcome.live
    assert (placed["status"], placed["limit_price"]) == ("open", "58000.25")
    assert dict(outcome.charges)[Unit.NOTIONAL] == 7_250_031_250
    named = {"symbol": "BTC/USD", "order_id": placed["order_id"]}
    assert (await station.read("list_orders", symbol="BTC/USD", status="open", limit=10))["orders"]
    for key in ("cancel-1", "cancel-2"):
        assert isinstance(await station.act("cancel_order", named, key), Succeeded)
    assert [str(order.status) for order in exchange.orders()] == ["canceled"]
    assert (await station.read("get_order", **named))["status"] == "canceled"


async def test_a_filled_order_cannot_be_cancelled(station):
    placed = json.loads((await station.act("place_order", BUY, "buy")).result)
    outcome = await station.act("cancel_order", {"symbol": "BTC/USD", "order_id": placed["order_id"]}, "cancel")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.not_cancelable"


@pytest.mark.parametrize("time_in_force", ["ioc", "fok"])
async def test_an_immediate_order_that_meets_nobody_has_failed(exchange, station, time_in_force):
    outcome = await station.act("place_order", RESTING | {"time_in_force": time_in_force}, "now")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason.startswith("venue.order_")
    assert [order.filled_lots for order in exchange.orders()] == [0]


@pytest.mark.parametrize(
    "order, reason, words, look_ups",
    [
        (RESTING | {"quantity": "25"}, "venue.insufficient_funds", "insufficient balance", 0),
        (BUY | {"side": "sell"}, "venue.insufficient_funds", "insufficient balance", 0),
        (RESTING | {"quantity": "0.001"}, "venue.invalid", "NOTIONAL", 0),
    ],
)
async def test_the_exchange_says_no_in_its_own_words(exchange, station, order, reason, words, look_ups):
    outcome = await station.act("place_order", order, "no")
    assert isinstance(outcome, Failed), outcome
    assert outcome.failure.reason == reason
    assert words in outcome.failure.message
    assert dict(outcome.charges) == {Unit.CALLS: 1}
    assert (exchange.count("POST"), exchange.count("GET")) == (1, look_ups)


@pytest.mark.parametrize(
    "kind, more",
    [
        ("status_after", {"status": 504}),
        ("status_after", {"status": 500}),
        ("status_after", {"status": 429}),
        ("status_after", {"status": 400}),
        ("status_after", {"status": 302}),
        ("reset_after_accept", {}),
    ],
)
async def test_an_accepted_order_whose_reply_is_lost_is_found_and_sent_once(exchange, station, kind, more):
    exchange.status_headers = {"Location": "/api/v3/order"}
    exchange.breaks(kind, "POST", **more)
    outcome = await station.act("place_order", BUY, "buy")
    assert isinstance(outcome, Succeeded), outcome
    assert json.loads(outcome.result)["filled_quantity"] == "0.25"
    assert len(exchange.orders()) == exchange.count("POST") == 1


@pytest.mark.parametrize("status", [400, 408, 500, 503, 504])
async def test_an_error_that_leaves_the_end_open_is_no_refusal(exchange, station, status):
    """The exchange's own codes for an unknown end, whatever status they come with."""
    exchange.error_body = UNKNOWN_TO_ALL
    exchange.breaks("status_after", "POST", status=status)
    assert isinstance(await station.act("place_order", BUY, "buy"), Succeeded)
    exchange.breaks("status_before", "POST", status=status)
    assert isinstance(await station.act("place_order", BUY, "never"), Unknown)
    assert (len(exchange.orders()), exchange.count("POST")) == (1, 2)


@pytest.mark.parametrize("status", [500, 503])
async def test_a_refusal_with_the_status_of_a_breakdown_is_no_refusal(exchange, station, status):
    exchange.error_body = b'{"code":-2010,"msg":"Account has insufficient balance for requested action."}'
    exchange.breaks("status_before", "POST", status=status)
    assert isinstance(await station.act("place_order", BUY, "buy"), Unknown)


@pytest.mark.parametrize("kind, more", [("reset_before", {}), ("status_before", {"status": 503})])
async def test_an_order_that_nobody_can_find_is_unknown_and_sent_once(exchange, station, kind, more):
    exchange.breaks(kind, "POST", **more)
    assert isinstance(await station.act("place_order", BUY, "buy"), Unknown)
    assert (exchange.orders(), exchange.count("POST"), exchange.count("GET")) == ([], 1, 1)
    early = await station.look("place_order", BUY, "buy")
    assert isinstance(early, NotYet)
    assert early.failure.reason == "venue.not_found_yet"
    late = await station.look("place_order", BUY, "buy", age_s=3_600)
    assert isinstance(late, Failed)
    assert late.failure.reason == "venue.order_never_arrived"
    assert exchange.count("POST") == 1


async def test_a_lost_order_is_unknown_until_the_look_up_works_again(exchange, station):
    exchange.breaks("reset_after_accept", "POST")
    exchange.breaks("status_before", "GET", status=503, remaining=2)
    assert isinstance(await station.act("place_order", BUY, "buy"), Unknown)
    assert isinstance(await station.look("place_order", BUY, "buy", age_s=3_600), NotYet)
    found = await station.look("place_order", BUY, "buy")
    assert isinstance(found, Succeeded), found
    assert dict(found.charges)[Unit.NOTIONAL] == exchange.orders()[0].filled_micros
    assert len(exchange.orders()) == exchange.count("POST") == 1


async def test_a_refused_look_up_proves_nothing(exchange, station):
    """Credentials that were taken away meanwhile are no word about the order."""
    exchange.breaks("reset_after_accept", "POST")
    exchange.error_body = b'{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}'
    exchange.breaks("status_before", "GET", status=401)
    assert isinstance(await station.act("place_order", BUY, "buy"), Unknown)


async def test_a_slow_exchange_is_given_up_and_the_order_is_sent_once(exchange):
    async with Ccxt(config(exchange, timeout_ms=1_000), SystemClock()) as backend:
        station = Station(backend)
        exchange.breaks("latency_after", "POST", delay_ms=5_000)
        exchange.breaks("latency", "GET", delay_ms=5_000)
        assert isinstance(await station.act("place_order", BUY, "buy"), Unknown)
        assert exchange.count("POST") == 1
        assert isinstance(await station.look("place_order", BUY, "buy"), Succeeded)
        assert len(exchange.orders()) == exchange.count("POST") == 1


@pytest.mark.parametrize("kind", ["reset_before", "reset_after_accept"])
async def test_a_cancel_whose_reply_is_lost_is_sent_once_and_cleared_up(exchange, station, kind):
    placed = json.loads((await station.act("place_order", RESTING, "rest")).result)
    named = {"symbol": "BTC/USD", "order_id": placed["order_id"]}
    exchange.breaks(kind, "DELETE")
    outcome = await station.act("cancel_order", named, "cancel")
    assert isinstance(outcome, Succeeded if kind == "reset_after_accept" else Unknown)
    assert exchange.count("DELETE") == 1
    looked = await station.look("cancel_order", named, "cancel", age_s=3_600)
    assert isinstance(looked, Succeeded if kind == "reset_after_accept" else Failed)


async def test_a_cancel_of_no_order_is_refused(station):
    outcome = await station.act("cancel_order", {"symbol": "BTC/USD", "order_id": "404404"}, "cancel")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.not_found"


async def test_an_open_order_is_withdrawn_when_a_halt_asks_for_it(exchange, station):
    await station.act("place_order", RESTING, "rest")
    going_on = await station.look("place_order", RESTING, "rest", state=State.SUCCEEDED)
    assert isinstance(going_on, Succeeded)
    assert going_on.live
    ended = await station.look("place_order", RESTING, "rest", state=State.SUCCEEDED, withdraw=True)
    assert isinstance(ended, Failed)
    assert ended.failure.reason == "venue.order_canceled"
    assert [str(order.status) for order in exchange.orders()] == ["canceled"]


async def test_the_same_key_sent_twice_is_one_order(exchange, station):
    """What the ledger prevents is harmless here even without it: the exchange refuses, and the look-up finds."""
    first, second = [await station.act("place_order", RESTING, "same") for _ in range(2)]
    assert json.loads(first.result)["order_id"] == json.loads(second.result)["order_id"]
    assert (len(exchange.orders()), exchange.count("POST")) == (1, 2)


async def test_an_order_under_our_id_with_other_terms_is_kept_unless_it_was_there_long_before(exchange, station):
    await station.act("place_order", RESTING, "same")
    outcome = await station.act("place_order", RESTING | {"quantity": "0.25"}, "same")
    assert isinstance(outcome, Unknown)
    assert outcome.failure.reason == "venue.order_not_as_sent"
    exchange.orders()[0].submitted_us -= 61_000_000
    outcome = await station.act("place_order", RESTING | {"quantity": "0.25"}, "same")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.client_order_id_taken"
    assert len(exchange.orders()) == 1


async def test_a_withdrawal_cancels_what_is_open_under_our_id_whatever_its_terms(exchange, station):
    await station.act("place_order", RESTING, "same")
    other = RESTING | {"quantity": "0.25"}
    assert isinstance(await station.look("place_order", other, "same"), NotYet)
    assert exchange.count("DELETE") == 0
    ended = await station.look("place_order", other, "same", withdraw=True)
    assert isinstance(ended, Failed)
    assert ended.failure.reason == "venue.order_canceled"
    assert [str(order.status) for order in exchange.orders()] == ["canceled"]


async def test_a_refused_cancel_that_cannot_be_looked_up_is_unknown(exchange, station):
    """The refusal may be of a second sending of the same request, on its way, after the first did cancel."""
    placed = json.loads((await station.act("place_order", RESTING, "rest")).result)
    named = {"symbol": "BTC/USD", "order_id": placed["order_id"]}
    assert isinstance(await station.act("cancel_order", named, "cancel"), Succeeded)
    exchange.breaks("status_before", "GET", status=503)
    assert isinstance(await station.act("cancel_order", named, "again"), Unknown)
    assert isinstance(await station.act("cancel_order", named, "looked-up"), Succeeded)


async def test_wrong_credentials_are_a_definite_no_and_never_told(exchange):
    async with Ccxt(config(exchange, secret_key="another-secret"), SystemClock()) as backend:
        outcome = await Station(backend).act("place_order", BUY, "buy")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.unauthorized"
    assert "another-secret" not in outcome.failure.message
    assert exchange.orders() == []


async def test_an_exchange_that_is_not_there_was_sent_nothing(exchange):
    async with Ccxt(config(exchange, url="http://127.0.0.1:9"), SystemClock()) as backend:
        station = Station(backend)
        assert (await station.demand("place_order", BUY)).reason == "limit.no_reference"
        outcome = await station.act("list_positions", {})
        assert outcome.failure.reason == "upstream.unreachable"


@pytest.mark.parametrize(
    "kind, more", [("missing_quote", {}), ("zero_quote", {}), ("stale_quote", {"delay_ms": 10_000})]
)
async def test_without_a_fresh_quote_nothing_is_ordered(exchange, station, kind, more):
    exchange.breaks(kind, "GET", "/api/v3/ticker/24hr", **more)
    verdict = await station.demand("place_order", BUY)
    assert isinstance(verdict, Refusal)
    assert verdict.reason == "limit.no_reference"
    assert isinstance(await station.demand("place_order", BUY), Demand)


async def test_the_collar_stands_around_the_exchanges_own_quote(station):
    quote = await station.read("get_quote", symbol="BTC/USD")
    ask = float(quote["ask_price"])
    for price, passes in ((ask * 1.09, True), (ask * 1.12, False), (ask * 0.91, True), (ask * 0.88, False)):
        verdict = await station.demand("place_order", RESTING | {"limit_price": f"{price:.2f}"})
        assert isinstance(verdict, Demand) == passes


@pytest.mark.parametrize(
    "order, field",
    [
        (BUY | {"quantity": "0.2505"}, "quantity"),
        (BUY | {"quantity": "0.0001"}, "quantity"),
        (RESTING | {"limit_price": "58000.255"}, "limit_price"),
    ],
)
async def test_what_the_library_would_round_is_refused(exchange, station, order, field):
    verdict = await station.demand("place_order", order)
    assert isinstance(verdict, Refusal)
    assert (verdict.reason, verdict.violations[0].field) == ("limit.venue_step", field)
    assert exchange.count("POST") == 0


@pytest.mark.parametrize(
    "order",
    [
        BUY | {"symbol": "ETH/USD"},
        BUY | {"time_in_force": "gtc"},
        BUY | {"limit_price": "58000"},
        BUY | {"quantity": "1e-1"},
        {name: value for name, value in RESTING.items() if name != "limit_price"},
    ],
)
async def test_what_is_not_configured_or_not_written_plainly_is_refused(station, order):
    assert isinstance(station.ask("place_order", order, "key"), Refusal)


@pytest.mark.parametrize(
    "tool, arguments",
    [
        ("cancel_order", {"order_id": "1"}),
        ("get_order", {"order_id": "1"}),
        ("get_order", {"symbol": "BTC/USD"}),
        ("list_orders", {"status": "open", "limit": 1}),
        ("get_order", {"symbol": "BTC/USD", "order_id": "1&symbol=ETHUSD"}),
    ],
)
async def test_an_order_is_named_with_its_symbol(station, tool, arguments):
    assert isinstance(station.ask(tool, arguments, "key"), Refusal)


async def test_amounts_arrive_to_the_last_digit(exchange, station):
    """0.3 is no binary fraction, and 58000.29 is none either."""
    await station.act("place_order", RESTING | {"quantity": "0.3", "limit_price": "58000.29"}, "exact")
    (sent,) = [members for method, _, members in exchange.seen if method == "POST"]
    assert (sent["quantity"], sent["price"]) == ("0.3", "58000.29")
    assert (sent["type"], sent["timeInForce"], sent["side"]) == ("LIMIT", "GTC", "BUY")


async def test_the_library_gets_one_request_a_call_and_no_other_origin(exchange, station):
    wire = station.backend._orders._wire
    await station.read("get_quote", symbol="BTC/USD")
    before = len(exchange.seen)

    async def twice():
        await wire.library.fetch_ticker("BTC/USD")
        return await wire.library.fetch_ticker("BTC/USD")

    assert await wire.call(twice, 5.0) == Lost(sent=True)
    assert len(exchange.seen) == before + 1
    elsewhere = await wire.call(lambda: wire.library.fetch("https://example.com/api/v3/order", "POST"), 5.0)
    assert elsewhere == Lost(sent=False)
    # Addresses that spot trading does not need are gone.
    assert not isinstance(await wire.call(lambda: wire.library.sapiGetCapitalConfigGetall({}), 5.0), Told)
    assert len(exchange.seen) == before + 1


async def test_the_guard_stands_before_the_library(exchange):
    """An address that is not public, and was not allowed, is not connected to, whoever asks."""
    closed = config(exchange, url="https://10.1.2.3")
    async with Ccxt(closed, SystemClock()) as backend:
        assert (await Station(backend).demand("place_order", BUY)).reason == "limit.no_reference"


async def test_racing_first_calls_ask_for_the_markets_once(exchange, station):
    demands = await asyncio.gather(*(station.demand("place_order", BUY, f"key-{n}") for n in range(8)))
    assert all(isinstance(demand, Demand) for demand in demands)
    assert exchange.count("GET", "/api/v3/exchangeInfo") == 1


async def test_a_memo_that_is_not_ours_is_for_a_person(station):
    demand = await station.demand("place_order", BUY)
    assert b"BTC/USD" in demand.memo
    watched = Watched(
        operation=None, memo=b'{"memo":"cancel","order_id":"x"}', held=(), looks=0, withdraw=False, fence=1
    )
    assert isinstance(await station.backend.look(watched), Unknowable)
