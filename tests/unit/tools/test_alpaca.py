"""Facts, hard limits and what an order must hold, with a venue that quotes."""

import asyncio
from dataclasses import replace

import pytest
from toolcases import (
    CALLER,
    LIMIT_BUY,
    LIMITS,
    MARKET_SELL,
    UUID,
    asked,
    config,
    error,
    holding,
    nothing_counted,
    quote,
    resets,
    says,
    toolbox_of,
)

from gateway.terms.caller import Caller
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.money import NANO, Unit
from gateway.terms.operations import Counted, Demand
from gateway.terms.verdict import Kind, Refusal
from gateway.tools.alpaca import Alpaca
from gateway.tools.alpaca_aftercare import cancel_memo
from gateway.tools.alpaca_tools import PLACE_ORDER_FACTS
from gateway.tools.quotes import NoQuote

READER: Caller = replace(CALLER, limits=None)
QUOTES = "/v2/stocks/"


async def facts_of(toolbox, arguments, caller=CALLER):
    return await toolbox.facts(caller, asked(toolbox, "place_order", arguments), nothing_counted)


async def demand_of(toolbox, arguments, caller=CALLER):
    ask = asked(toolbox, "place_order", arguments)
    return toolbox.demand(caller, ask, await toolbox.facts(caller, ask, nothing_counted))


async def test_the_facts_of_a_limit_order_to_buy(toolbox):
    facts = await facts_of(toolbox, LIMIT_BUY)
    assert dict(facts) == {
        "quantity_nano": 10 * 10**9,
        "limit_price_micro": 190_500_000,
        "reference_micro": 189_600_000,
        "reference_age_ms": 1000,
        "notional_micro_usd": 1_905_000_000,
        "reduces_exposure": False,
    }
    assert {name: type(value) for name, value in facts.items()} == dict(PLACE_ORDER_FACTS)
    assert toolbox.fact_types == {"place_order": PLACE_ORDER_FACTS}


async def test_the_facts_of_a_market_order_to_sell(toolbox):
    facts = await facts_of(toolbox, MARKET_SELL)
    assert facts["reference_micro"] == 189_500_000
    assert facts["limit_price_micro"] == 0
    assert facts["notional_micro_usd"] == 758_000_000
    assert facts["reduces_exposure"] is True


async def test_what_a_buy_holds(toolbox):
    demand = await demand_of(toolbox, LIMIT_BUY)
    assert isinstance(demand, Demand)
    assert dict(demand.amounts) == {Unit.CALLS: 1, Unit.NOTIONAL: 1_905_000_000}
    exposures = [claim for claim in demand.claims if claim.unit is Unit.EXPOSURE]
    assert [(claim.scope, claim.unit, claim.amount, claim.limit) for claim in exposures] == [
        (scope, Unit.EXPOSURE, 1_905_000_000, LIMITS.exposure_max)
        for scope in ("tenant:acme", "account:paper/main", "agent:trader")
    ]
    assert {claim.window for claim in exposures} == {"total"}


async def test_a_sale_holds_no_exposure_but_keeps_its_claim_for_what_it_gives_back(toolbox):
    demand = await demand_of(toolbox, MARKET_SELL)
    assert [claim.amount for claim in demand.claims if claim.unit is Unit.EXPOSURE] == [0, 0, 0]
    assert demand.amounts[Unit.NOTIONAL] == 758_000_000


SHORTS = replace(CALLER, limits=replace(LIMITS, short_sales=True))


@pytest.mark.parametrize(
    "answer, caller, order, covered",
    [
        (holding("4"), CALLER, MARKET_SELL, True),
        (holding("3.999999999"), CALLER, MARKET_SELL, False),
        (holding("3.9999999999"), CALLER, MARKET_SELL, False),
        (error(404, 40410000, "position does not exist"), CALLER, MARKET_SELL, False),
        (holding("-4", "short"), SHORTS, MARKET_SELL, False),
        (holding("-10", "short"), SHORTS, LIMIT_BUY, True),
        (holding("-9.999999999", "short"), SHORTS, LIMIT_BUY, False),
        (holding("1000"), SHORTS, LIMIT_BUY, False),
    ],
)
async def test_whether_an_order_reduces_is_what_the_venue_says(toolbox, venue, answer, caller, order, covered):
    venue.on("GET", "/v2/positions/", answer)
    assert (await facts_of(toolbox, order, caller))["reduces_exposure"] is covered
    demand = await demand_of(toolbox, order, caller)
    if covered or caller is SHORTS:
        assert any(claim.amount for claim in demand.claims if claim.unit is Unit.EXPOSURE) is not covered
        return
    assert isinstance(demand, Refusal)
    assert (demand.kind, demand.reason) == (Kind.FORBIDDEN, "limit.short_sale")
    assert "sells 4 AAPL" in demand.sentence


async def test_what_is_open_or_unknown_covers_nothing_twice(toolbox, venue):
    venue.on("GET", "/v2/positions/", holding("10"))

    async def seven_open(places):
        assert [unit for _, unit in places] == [Unit.TRADED, Unit.FILLED, Unit.FILLED, Unit.FILLED]
        assert {scope.rpartition("/")[2] for scope, _ in places} == {"buy", "sell"}
        return (Counted(held=7 * NANO, spent=5 * NANO), Counted(held=7 * NANO, spent=5 * NANO), *NOTHING)

    ask = asked(toolbox, "place_order", MARKET_SELL)
    refused = toolbox.demand(CALLER, ask, await toolbox.facts(CALLER, ask, seven_open))
    assert refused.reason == "limit.short_sale"
    assert "holds 10" in refused.sentence
    assert "3 are left" in refused.sentence


NOTHING = (Counted(held=0, spent=0),) * 2
MALFORMED = [
    says("[]"),
    says({"symbol": "AAPL", "qty": "10"}),
    holding(symbol="MSFT"),
    holding("-1", "long"),
    holding("1", "short"),
    holding("1", "sideways"),
    holding("NaN"),
    holding("1e3"),
    holding("9223372037"),
    says("<html>gone</html>", 404),
    error(500, 50010000, "internal error"),
    resets,
]


@pytest.mark.parametrize("answer", MALFORMED)
async def test_a_sale_whose_cover_nobody_knows_is_refused(toolbox, venue, answer):
    venue.on("GET", "/v2/positions/", answer)
    for caller in (CALLER, SHORTS):
        refused = await facts_of(toolbox, MARKET_SELL, caller)
        assert isinstance(refused, Refusal)
        assert (refused.kind, refused.reason) == (Kind.UNAVAILABLE, "limit.no_position")
    assert venue.count("POST") == 0


async def test_without_short_sales_a_purchase_asks_for_no_position(toolbox, venue):
    await facts_of(toolbox, LIMIT_BUY)
    assert venue.count("GET", "/v2/positions") == 0
    await facts_of(toolbox, LIMIT_BUY, SHORTS)
    assert venue.count("GET", "/v2/positions/AAPL") == 1


async def test_a_ledger_that_cannot_be_read_refuses_as_itself(toolbox, venue):
    async def away(_):
        raise LedgerUnavailableError("away")

    with pytest.raises(LedgerUnavailableError):
        await toolbox.facts(CALLER, asked(toolbox, "place_order", MARKET_SELL), away)
    assert venue.seen == []


async def test_a_sale_without_facts_of_its_cover_is_refused(toolbox):
    ask = asked(toolbox, "place_order", MARKET_SELL)
    refused = toolbox.demand(CALLER, ask, {"reference_micro": 189_500_000, "reference_age_ms": 0})
    assert refused.reason == "limit.no_position"


@pytest.mark.parametrize(
    "changed, reason, told",
    [
        ({"quantity": "100.000000001"}, "limit.quantity", ("100.000000001", "100")),
        ({"quantity": "100"}, None, ()),
        ({"quantity": "99", "limit_price": "199.08"}, None, ()),
        ({"limit_price": "199.08"}, None, ()),
        ({"limit_price": "199.080001"}, "limit.collar", ("199.080001", "189.6", "500")),
        ({"limit_price": "180.12"}, None, ()),
        ({"limit_price": "180.119999"}, "limit.collar", ("180.119999", "189.6", "500")),
        ({"limit_price": "0.000001"}, "limit.collar", ()),
    ],
)
async def test_hard_limits_refuse_with_the_number_asked_and_the_number_allowed(toolbox, changed, reason, told):
    verdict = await demand_of(toolbox, LIMIT_BUY | changed)
    if reason is None:
        assert isinstance(verdict, Demand)
        return
    assert isinstance(verdict, Refusal)
    assert (verdict.kind, verdict.reason, verdict.rules) == (Kind.FORBIDDEN, reason, (reason,))
    assert all(number in verdict.sentence for number in told)


async def test_the_notional_limit(toolbox):
    caller = replace(CALLER, limits=replace(LIMITS, notional_max=1_905_000_000))
    assert isinstance(await demand_of(toolbox, LIMIT_BUY, caller), Demand)
    verdict = await demand_of(toolbox, LIMIT_BUY | {"quantity": "10.000000001"}, caller)
    assert verdict.reason == "limit.notional"
    assert "1905.000001 USD" in verdict.sentence
    assert "1905 USD" in verdict.sentence


async def test_an_order_beyond_64_bits_is_refused_before_anyone_counts_with_it(toolbox):
    verdict = await facts_of(toolbox, LIMIT_BUY | {"quantity": "999999999", "limit_price": "999999999"})
    assert isinstance(verdict, Refusal)
    assert verdict.reason == "limit.notional"


@pytest.mark.parametrize("tool, arguments", [("place_order", LIMIT_BUY), ("cancel_order", {"order_id": UUID})])
async def test_an_agent_without_a_profile_only_reads(venue, toolbox, tool, arguments):
    ask = asked(toolbox, tool, arguments)
    for verdict in (await toolbox.facts(READER, ask, nothing_counted), toolbox.demand(READER, ask, {})):
        assert isinstance(verdict, Refusal)
        assert (verdict.kind, verdict.reason) == (Kind.FORBIDDEN, "limit.no_profile")
    reading = asked(toolbox, "get_account", {}, key="")
    assert dict(await toolbox.facts(READER, reading, nothing_counted)) == {}
    assert toolbox.demand(READER, reading, {}).amounts == {Unit.CALLS: 1}
    assert venue.seen == []


async def test_a_cancel_needs_no_budget(toolbox):
    ask = asked(toolbox, "cancel_order", {"order_id": UUID})
    assert dict(await toolbox.facts(CALLER, ask, nothing_counted)) == {}
    assert toolbox.demand(CALLER, ask, {}) == Demand(amounts={}, memo=cancel_memo(UUID))


UNUSABLE = {
    "missing": error(404, 40410000, "no quote found"),
    "no answer": resets,
    "server error": error(500, 50010000, "oops"),
    "zero ask": quote(ask="0"),
    "zero bid": quote(bid="0"),
    "both zero": quote(bid="0", ask="0"),
    "negative": quote(bid="-1"),
    "crossed": quote(bid="189.7", ask="189.6"),
    "not a number": quote(ask="NaN"),
    "infinite": quote(ask="1e999"),
    "too large": quote(bid="1" + "0" * 17, ask="1" + "0" * 17),
    "a string of words": quote(ask='"high"'),
    "of another symbol": quote(symbol="MSFT"),
    "stale": quote(at="2026-11-23T11:59:55.999Z"),
    "from the future": quote(at="2026-11-23T12:00:04Z"),
    "of no time": quote(at="2026-02-30T12:00:00Z"),
    "not JSON": says("oops"),
}


@pytest.mark.parametrize("responder", UNUSABLE.values(), ids=UNUSABLE.keys())
@pytest.mark.parametrize("arguments", [LIMIT_BUY, MARKET_SELL], ids=["buy", "sell"])
async def test_without_a_usable_reference_nothing_is_ordered(venue, toolbox, responder, arguments):
    venue.on("GET", QUOTES, responder)
    verdict = await facts_of(toolbox, arguments)
    assert isinstance(verdict, Refusal)
    assert (verdict.kind, verdict.reason) == (Kind.UNAVAILABLE, "limit.no_reference")


async def test_the_age_of_a_reference_counts_from_the_quotes_own_time(venue, toolbox, clock):
    assert (await facts_of(toolbox, LIMIT_BUY))["reference_age_ms"] == 1000
    clock.now_us += 250_001
    assert (await facts_of(toolbox, LIMIT_BUY))["reference_age_ms"] == 1251
    assert venue.count("GET", QUOTES) == 1
    clock.now_us += 3_749_999
    assert (await facts_of(toolbox, LIMIT_BUY))["reference_age_ms"] == 5000
    clock.now_us += 1
    refused = await facts_of(toolbox, LIMIT_BUY)
    assert refused.reason == "limit.no_reference"
    assert "5001 ms old and at most 5000 ms" in refused.sentence


async def test_demand_checks_the_reference_again(toolbox):
    ask = asked(toolbox, "place_order", LIMIT_BUY)
    facts = dict(await toolbox.facts(CALLER, ask, nothing_counted))
    for changed in ({"reference_age_ms": 5001}, {"reference_micro": 0}, {"reference_micro": "1"}, {}):
        wrong = facts | changed if changed else {}
        assert toolbox.demand(CALLER, ask, wrong).reason == "limit.no_reference"


async def test_a_burst_of_orders_asks_for_one_quote(venue, toolbox):
    ask = asked(toolbox, "place_order", LIMIT_BUY)
    await asyncio.gather(*(toolbox.facts(CALLER, ask, nothing_counted) for _ in range(50)))
    assert venue.count("GET", QUOTES) == 1


async def test_a_quote_is_asked_for_again_when_half_a_second_has_passed(venue, toolbox, clock):
    await facts_of(toolbox, LIMIT_BUY)
    clock.shift_ns += 500_000_000
    await facts_of(toolbox, LIMIT_BUY)
    assert venue.count("GET", QUOTES) == 2


async def test_a_configured_feed_is_asked_for(venue, clock):
    async with Alpaca(config(venue.url, feed="iex"), clock) as exchange:
        await facts_of(toolbox_of(exchange), LIMIT_BUY)
    assert venue.seen[-1].raw_path == "/v2/stocks/AAPL/quotes/latest?feed=iex"


async def test_a_venue_that_is_away_has_no_quote(clock, unused_tcp_port):
    async with Alpaca(config(f"http://127.0.0.1:{unused_tcp_port}"), clock) as exchange:
        assert isinstance(await exchange._reads.quote("AAPL"), NoQuote)
