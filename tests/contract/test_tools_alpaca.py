"""The tools station against the paper exchange: real sockets, real matching, real faults, and the venue as witness."""

import asyncio
import json
from dataclasses import replace

import aiohttp
import pytest

from gateway.terms.asks import ToolAsk, ToolRequest
from gateway.terms.caller import Caller
from gateway.terms.clock import SystemClock, SystemIds
from gateway.terms.ids import AgentName, BootId, InstanceId, OperationId, Principal, TeamName, TenantName, ToolName
from gateway.terms.limits import LimitProfile
from gateway.terms.money import MICRO, NANO, MicroUsd, NanoUnits, Unit
from gateway.terms.operations import Counted, Demand, Failed, OperationKey, Receipt, Reservation, Succeeded, Unknown
from gateway.terms.verdict import Permit, Refusal
from gateway.tools.alpaca import Alpaca
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.toolbox import Toolbox
from localcloud.exchange import Credential, ExchangeConfig, PaperExchange, VenueConfig
from localcloud.exchange.faults import Fault, FaultKind

READS = ("get_order", "list_orders", "list_positions", "get_account", "get_clock", "get_quote")
CALLER = Caller(
    principal=Principal("1234"),
    email="agent@example.com",
    agent=AgentName("trader"),
    team=TeamName("desk"),
    tenant=TenantName("acme"),
    role="trader",
    models=frozenset(),
    tools=frozenset(map(ToolName, ("place_order", "cancel_order", *READS))),
    budgets=(),
    limits=LimitProfile(
        name="paper",
        quantity_max=NanoUnits(1_000 * NANO),
        notional_max=MicroUsd(200_000 * MICRO),
        collar_bps=1_000,
        reference_age_ms_max=5_000,
        exposure_max=MicroUsd(10**12),
    ),
)
MARKET_BUY = {"symbol": "AAPL", "side": "buy", "type": "market", "quantity": "10", "time_in_force": "day"}
RESTING = {
    "symbol": "AAPL",
    "side": "buy",
    "type": "limit",
    "quantity": "3",
    "limit_price": "180",
    "time_in_force": "gtc",
}
POST = {"method": "POST", "path_prefix": "/v2/orders"}
LOOKUP = {"method": "GET", "path_prefix": "/v2/orders:by_client_order_id"}


async def nothing_counted(places):
    """A ledger in which nothing was traded yet."""
    return tuple(Counted(held=0, spent=0) for _ in places)


@pytest.fixture
async def exchange():
    credential = Credential(key_id="KEY", secret="SECRET", cash_micros=100_000 * MICRO)
    async with PaperExchange(ExchangeConfig(venue=VenueConfig(credentials=(credential,)))) as running:
        yield running


def reserved(ask, claims):
    """A reservation as the ledger makes it."""
    return Reservation(
        operation=OperationId("op-1"),
        permit=Permit(caller=CALLER, ask=ask, rules=(), policy_hash=""),
        key=OperationKey(tenant=CALLER.tenant, principal=CALLER.principal, tool=ask.name, key=ask.key),
        claims=claims,
        fence=1,
        intent=Receipt(instance=InstanceId("i"), boot=BootId("b"), sequence=1, leaf_hash=b""),
    )


class Station:
    """The tools station as a call uses it, with a ledger that grants everything."""

    def __init__(self, toolbox):
        self.toolbox = toolbox

    def ask(self, tool, arguments, key="") -> ToolAsk:
        text = json.dumps(arguments)
        ask = self.toolbox.ask(
            CALLER, ToolRequest(tool=tool, version="", arguments_json=text, idempotency_key=key, run_id="")
        )
        assert isinstance(ask, ToolAsk), ask
        return ask

    async def demand(self, tool, arguments, key="key"):
        ask = self.ask(tool, arguments, key)
        facts = await self.toolbox.facts(CALLER, ask, nothing_counted)
        return facts if isinstance(facts, Refusal) else self.toolbox.demand(CALLER, ask, facts)

    async def act(self, tool, arguments, key=""):
        demand = await self.demand(tool, arguments, key)
        assert isinstance(demand, Demand), demand
        return await self.toolbox.execute(reserved(self.ask(tool, arguments, key), demand.claims))

    async def read(self, tool, **arguments):
        outcome = await self.act(tool, arguments)
        assert isinstance(outcome, Succeeded), outcome
        return json.loads(outcome.result)


def config(exchange, **changed):
    plain = AlpacaConfig(
        name="paper",
        trading_url=exchange.url,
        data_url=exchange.url,
        key_id="KEY",
        secret_key="SECRET",
        account="main",
        client_order_key=b"k" * 32,
    )
    return replace(plain, **changed)


@pytest.fixture
async def station(exchange):
    async with Alpaca(config(exchange), SystemClock()) as backend:
        yield Station(Toolbox([backend], SystemIds()))


async def orders_at(exchange):
    """The witness: all orders, from the exchange's own admin port."""
    async with aiohttp.ClientSession() as session, session.get(f"{exchange.admin_url}/admin/orders") as response:
        return (await response.json())["orders"]


async def posts_at(exchange):
    """The witness: how often an order was posted."""
    async with aiohttp.ClientSession() as session, session.get(f"{exchange.admin_url}/admin/requests") as response:
        return sum(1 for seen in (await response.json())["requests"] if seen["method"] == "POST")


def breaks(exchange, kind, match, **more):
    exchange.faults.add([Fault(kind=kind, **match, **more)])


async def test_a_market_order_fills_and_shows_in_every_read(exchange, station):
    assert (await station.read("get_clock"))["is_open"] is True
    outcome = await station.act("place_order", MARKET_BUY, "buy-1")
    assert isinstance(outcome, Succeeded)
    placed = json.loads(outcome.result)
    assert (placed["status"], placed["filled_quantity"]) == ("filled", "10")
    charges = dict(outcome.charges)
    (order,) = await orders_at(exchange)
    assert order["client_order_id"] == placed["client_order_id"]
    assert charges[Unit.NOTIONAL] == charges[Unit.EXPOSURE] == round(float(order["filled_avg_price"]) * 10 * MICRO)
    assert await station.read("get_order", order_id=placed["order_id"]) == placed
    assert await station.read("get_order", client_order_id=placed["client_order_id"]) == placed
    assert (await station.read("list_orders", status="closed", limit=10))["orders"] == [
        {name: value for name, value in placed.items() if name != "venue"}
    ]
    (position,) = (await station.read("list_positions"))["positions"]
    assert (position["symbol"], position["quantity"]) == ("AAPL", "10")
    assert float((await station.read("get_account"))["cash"]) < 100_000


async def test_a_sale_tells_what_it_sold_and_is_no_exposure(station):
    await station.act("place_order", MARKET_BUY, "buy")
    outcome = await station.act("place_order", MARKET_BUY | {"side": "sell", "time_in_force": "ioc"}, "sell")
    assert isinstance(outcome, Succeeded)
    charges = dict(outcome.charges)
    assert (charges[Unit.EXPOSURE], charges[Unit.PAID]) == (0, 0)
    assert charges[Unit.FILLED] == -charges[Unit.POSITION] > 0


async def test_a_resting_order_is_cancelled_once_and_for_all(exchange, station):
    placed = json.loads((await station.act("place_order", RESTING, "rest")).result)
    assert placed["status"] == "new"
    assert (await station.read("list_orders", status="open", limit=10))["orders"]
    for key in ("cancel-1", "cancel-2"):
        outcome = await station.act("cancel_order", {"order_id": placed["order_id"]}, key)
        assert isinstance(outcome, Succeeded)
    assert [order["status"] for order in await orders_at(exchange)] == ["canceled"]


async def test_a_filled_order_cannot_be_cancelled(station):
    placed = json.loads((await station.act("place_order", MARKET_BUY, "buy")).result)
    outcome = await station.act("cancel_order", {"order_id": placed["order_id"]}, "cancel")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.not_cancelable"


@pytest.mark.parametrize("time_in_force", ["ioc", "fok"])
async def test_an_immediate_order_that_meets_nobody_has_failed(exchange, station, time_in_force):
    outcome = await station.act("place_order", RESTING | {"time_in_force": time_in_force}, "now")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason.startswith("venue.order_")
    assert dict(outcome.charges) == {Unit.CALLS: 1}
    assert [order["filled_qty"] for order in await orders_at(exchange)] == ["0"]


async def test_the_venue_refuses_what_the_account_cannot_pay(station):
    for key in ("one", "two", "three"):
        outcome = await station.act("place_order", MARKET_BUY | {"quantity": "250"}, key)
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.insufficient_funds"
    assert dict(outcome.charges) == {Unit.CALLS: 1}


async def test_the_venue_refuses_what_the_account_does_not_hold(station):
    """The gateway refuses it itself; what is sold elsewhere meanwhile, only the venue knows."""
    sale = MARKET_BUY | {"side": "sell"}
    refused = await station.demand("place_order", sale, "sell")
    assert refused.reason == "limit.short_sale"
    ask = station.ask("place_order", sale, "sell")
    outcome = await station.toolbox.execute(reserved(ask, ()))
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.insufficient_quantity"


async def test_the_venue_refuses_what_it_does_not_trade_in_such_parts(station):
    outcome = await station.act("place_order", MARKET_BUY | {"quantity": "1.5"}, "part")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.unprocessable"


@pytest.mark.parametrize(
    "kind, more",
    [
        (FaultKind.STATUS_AFTER, {"status": 504}),
        (FaultKind.STATUS_AFTER, {"status": 500}),
        (FaultKind.STATUS_AFTER, {"status": 429}),
        (FaultKind.RESET_AFTER_ACCEPT, {}),
        (FaultKind.DUPLICATE_FILL, {}),
    ],
)
async def test_an_accepted_order_whose_reply_is_lost_is_found_and_sent_once(exchange, station, kind, more):
    breaks(exchange, kind, POST, **more)
    outcome = await station.act("place_order", MARKET_BUY, "buy")
    assert isinstance(outcome, Succeeded)
    assert json.loads(outcome.result)["filled_quantity"] == "10"
    assert len(await orders_at(exchange)) == await posts_at(exchange) == 1


@pytest.mark.parametrize("kind", [FaultKind.RESET_BEFORE, FaultKind.STATUS_BEFORE])
async def test_an_order_that_nobody_can_find_is_unknown_and_sent_once(exchange, station, kind):
    breaks(exchange, kind, POST, status=503 if kind is FaultKind.STATUS_BEFORE else 0)
    assert isinstance(await station.act("place_order", MARKET_BUY, "buy"), Unknown)
    assert await orders_at(exchange) == []
    assert await posts_at(exchange) == 1


async def test_an_accepted_order_that_cannot_be_looked_up_is_unknown_and_sent_once(exchange, station):
    breaks(exchange, FaultKind.RESET_AFTER_ACCEPT, POST)
    breaks(exchange, FaultKind.STATUS_BEFORE, LOOKUP, status=503, remaining=None)
    assert isinstance(await station.act("place_order", MARKET_BUY, "buy"), Unknown)
    assert len(await orders_at(exchange)) == await posts_at(exchange) == 1


async def test_a_slow_venue_is_given_up_and_the_order_stays_unknown(exchange):
    async with Alpaca(config(exchange, timeout_ms=150), SystemClock()) as backend:
        station = Station(Toolbox([backend], SystemIds()))
        breaks(exchange, FaultKind.LATENCY, POST, delay_ms=400)
        assert isinstance(await station.act("place_order", MARKET_BUY, "buy"), Unknown)
    assert len(await orders_at(exchange)) <= 1


async def test_a_rate_limit_before_anything_happened_is_a_definite_no(exchange, station):
    breaks(exchange, FaultKind.STATUS_BEFORE, POST, status=429)
    outcome = await station.act("place_order", MARKET_BUY, "buy")
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == "venue.rate_limited"


async def test_the_same_key_sent_twice_is_one_order(exchange, station):
    """What the ledger prevents is harmless even without it: the second one finds the first."""
    first, second = [await station.act("place_order", MARKET_BUY, "same") for _ in range(2)]
    assert json.loads(first.result)["order_id"] == json.loads(second.result)["order_id"]
    assert len(await orders_at(exchange)) == 1


async def test_racing_calls_with_one_key_are_one_order(exchange, station):
    outcomes = await asyncio.gather(*(station.act("place_order", MARKET_BUY, "same") for _ in range(8)))
    assert len({json.loads(outcome.result)["order_id"] for outcome in outcomes}) == 1
    assert len(await orders_at(exchange)) == 1


async def test_wrong_credentials_are_a_definite_no(exchange):
    async with Alpaca(config(exchange, secret_key="WRONG"), SystemClock()) as backend:
        station = Station(Toolbox([backend], SystemIds()))
        outcome = await station.act("get_account", {})
        assert isinstance(outcome, Failed)
        assert outcome.failure.reason == "venue.unauthorized"
        assert (await station.demand("place_order", MARKET_BUY)).reason == "limit.no_reference"


@pytest.mark.parametrize(
    "kind, more",
    [(FaultKind.MISSING_QUOTE, {}), (FaultKind.ZERO_QUOTE, {}), (FaultKind.STALE_QUOTE, {"delay_ms": 10_000})],
)
async def test_without_a_fresh_quote_nothing_is_ordered(exchange, station, kind, more):
    breaks(exchange, kind, {"symbol": "AAPL"}, **more)
    verdict = await station.demand("place_order", MARKET_BUY)
    assert isinstance(verdict, Refusal)
    assert verdict.reason == "limit.no_reference"
    assert isinstance(await station.demand("place_order", MARKET_BUY), Demand)


async def test_a_symbol_that_is_not_traded_has_no_reference(station):
    assert (await station.demand("place_order", MARKET_BUY | {"symbol": "NOPE"})).reason == "limit.no_reference"


async def test_the_collar_stands_around_the_exchanges_own_quote(station):
    quote = await station.read("get_quote", symbol="AAPL")
    ask = float(quote["ask_price"])
    for price, passes in ((ask * 1.09, True), (ask * 1.12, False), (ask * 0.91, True), (ask * 0.88, False)):
        verdict = await station.demand("place_order", RESTING | {"limit_price": f"{price:.2f}"})
        assert isinstance(verdict, Demand) == passes
