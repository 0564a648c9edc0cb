"""Attack rows 13 to 17, 20 and 24, and table 5.3: what an agent can try against the limits of its orders.

Every station is real, and so are the exchange, the sockets and the ledger's file.
"""

import asyncio
import json
from collections import Counter
from dataclasses import replace

import pytest
from served import served
from whole import LIMITS, MARKET_BUY, RESTING_BUY, agent, budget, refusal, world

from gateway.terms.limits import BarrierLimit, MessageRate, Scopes
from gateway.terms.money import MICRO, NANO
from gateway.terms.operations import State
from gateway.terms.verdict import Kind, RefusedError
from generated.agentic.gateway.v1 import Verdict

WORTH = 2 * 190 * MICRO
"""What a resting order holds at most."""


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


async def raced(whole, count=100, callers=("trader",), arguments=RESTING_BUY):
    """How many of so many orders at once ended how."""

    async def one(number):
        try:
            answer = await whole.act(arguments, key=f"k-{number}", caller=callers[number % len(callers)])
        except RefusedError as error:
            return error.refusal.reason
        return answer.operation.state

    return Counter(await asyncio.gather(*map(one, range(count))))


@pytest.mark.parametrize(
    "symbol",
    [
        "goog",
        "Goog",
        "\uff27\uff2f\uff2f\uff27",
        "GOO\u0047\u0301",
        "GOOG ",
        " GOOG",
        "GO\u200bOG",
        "GOOG.",
        "\u202eGOOG",
        "G\u041e\u041eG",
    ],
)
async def test_row_15_no_other_way_to_write_a_restricted_symbol_passes(around, tmp_path, symbol):
    limits = replace(LIMITS, restricted=frozenset({"GOOG"}))
    async with around.gateway(tmp_path, [agent(limits=limits)]) as whole:
        refused = await refusal(whole.act(MARKET_BUY | {"symbol": symbol}))
        assert (refused.kind, refused.reason) == (Kind.MALFORMED, "arguments.schema")
        assert around.posts() == 0


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_a_restricted_symbol_is_refused_before_the_market_is_asked(around, tmp_path, side):
    limits = replace(LIMITS, restricted=frozenset({"AAPL"}))
    agents = [agent(limits=limits), agent("free")]
    async with around.gateway(tmp_path, agents) as whole:
        refused = await refusal(whole.act(MARKET_BUY | {"side": side}))
        assert (refused.kind, refused.reason) == (Kind.FORBIDDEN, "limit.restricted")
        assert around.exchange.requests.newest() == []
        assert (await whole.act(caller="free")).operation.state is State.SUCCEEDED


@pytest.mark.parametrize("name", ["restricted", "limits", "agent", "dry_run", "__proto__", "barrier"])
async def test_row_17_limits_cannot_be_brought_along(around, tmp_path, name):
    limits = replace(LIMITS, notional_max=1)
    async with around.gateway(tmp_path, [agent(limits=limits)]) as whole:
        assert (await refusal(whole.act(MARKET_BUY | {name: {}}))).kind is Kind.MALFORMED
        assert (await refusal(whole.act(MARKET_BUY))).reason == "limit.notional"


async def test_row_20_a_dry_run_is_never_an_order_and_an_order_never_a_dry_run(around, tmp_path):
    async with around.gateway(tmp_path) as whole, served(whole) as client:
        buy = json.dumps(MARKET_BUY)
        for _ in range(3):
            assert (await client.dry_run(buy)).decision.verdict is Verdict.PERMITTED
        assert (around.posts(), whole.operations(), whole.held()) == (0, {}, {})
        real = await client.execute(buy, metadata=[("dry-run", "true")])
        assert not real.reply.replayed
        assert around.posts() == 1


async def test_row_24_a_position_at_its_edge_is_never_passed(around, tmp_path):
    """Two agents, 100 orders of 2 at once: the agents' own limits give 3 and 3, the firm's 5 of them."""
    limits = replace(LIMITS, position_max=Scopes(agent=7 * NANO, account=13 * NANO, firm=11 * NANO))
    agents = [agent(name, limits=limits) for name in ("trader", "other")]
    async with around.gateway(tmp_path, agents) as whole:
        found = await raced(whole, callers=("trader", "other"))
        assert found == {State.SUCCEEDED: 5, "limit.position": 95}
        assert around.posts() == len(around.orders()) == 5
        assert whole.spent("position_nano", "tenant:acme/AAPL") == 10 * NANO
        assert whole.spent("position_nano", "agent:trader/AAPL") in (4 * NANO, 6 * NANO)
        await whole.agree()


@pytest.mark.parametrize(
    "changed, granted",
    [
        ({"agent_exposure_max": 3 * WORTH}, 6),
        ({"exposure_max": 5 * WORTH}, 5),
        ({"firm_exposure_max": 4 * WORTH, "agent_exposure_max": 3 * WORTH}, 4),
    ],
    ids=["agent", "account", "firm"],
)
async def test_row_24_exposure_is_held_for_agent_account_and_firm(around, tmp_path, changed, granted):
    agents = [agent(name, limits=replace(LIMITS, **changed)) for name in ("trader", "other")]
    async with around.gateway(tmp_path, agents) as whole:
        found = await raced(whole, callers=("trader", "other"))
        assert found == {State.SUCCEEDED: granted, "limit.exposure": 100 - granted}
        assert around.posts() == granted
        await whole.agree()


async def test_row_24_unknown_orders_count_against_every_limit(around, tmp_path):
    limits = replace(LIMITS, position_max=Scopes(agent=4 * NANO), agent_exposure_max=10 * WORTH)
    async with around.gateway(tmp_path, [agent(limits=limits)]) as whole:
        around.lose_replies()
        for number in range(2):
            assert (await whole.act(RESTING_BUY, key=f"lost-{number}")).operation.state is State.UNKNOWN
        around.exchange.faults.clear()
        assert (await refusal(whole.act(RESTING_BUY, key="more"))).reason == "limit.position"
        assert whole.holding("position_nano") == 4 * NANO


async def test_a_position_that_is_sold_can_be_bought_again(around, tmp_path):
    limits = replace(LIMITS, position_max=Scopes(agent=2 * NANO, account=2 * NANO, firm=2 * NANO))
    async with around.gateway(tmp_path, [agent(limits=limits)]) as whole:
        await whole.act(MARKET_BUY, key="buy")
        assert (await refusal(whole.act(MARKET_BUY, key="more"))).reason == "limit.position"
        await whole.act(MARKET_BUY | {"side": "sell"}, key="sell")
        assert whole.spent("position_nano", "agent:trader/AAPL") == 0
        assert (await whole.act(MARKET_BUY, key="again")).operation.state is State.SUCCEEDED
        await whole.agree()


async def test_nobody_sells_what_the_account_does_not_hold(around, tmp_path):
    """Racing sales of all that is held: the venue gets one of them, and would be asked for no other."""
    agents = [agent(name) for name in ("trader", "other")]
    async with around.gateway(tmp_path, agents) as whole:
        refused = await refusal(whole.act(MARKET_BUY | {"side": "sell"}, key="early"))
        assert (refused.kind, refused.reason) == (Kind.FORBIDDEN, "limit.short_sale")
        await whole.act(MARKET_BUY, key="buy")
        resting = RESTING_BUY | {"side": "sell", "limit_price": "191"}
        posts = around.posts()
        found = await raced(whole, count=20, callers=("trader", "other"), arguments=resting)
        assert found[State.SUCCEEDED] == 1
        assert set(found) <= {State.SUCCEEDED, "limit.short_sale", "limit.uncovered"}
        assert around.posts() == posts + 1
        assert (await refusal(whole.act(resting | {"quantity": "1"}, key="one"))).reason == "limit.short_sale"
        await whole.agree()


async def test_a_sale_whose_reply_is_lost_covers_no_other(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        await whole.act(MARKET_BUY, key="buy")
        around.lose_replies()
        sale = RESTING_BUY | {"side": "sell", "limit_price": "191"}
        assert (await whole.act(sale, key="lost")).operation.state is State.UNKNOWN
        around.exchange.faults.clear()
        assert (await refusal(whole.act(sale, key="again"))).reason == "limit.short_sale"


async def test_the_same_order_under_new_keys_is_placed_once(around, tmp_path):
    """Table 5.3, duplicative orders: also from another agent of the account, and at once."""
    limits = replace(LIMITS, duplicate_window_ms=60_000)
    agents = [agent(name, limits=limits) for name in ("trader", "other")]
    async with around.gateway(tmp_path, agents) as whole:
        found = await raced(whole, callers=("trader", "other"))
        assert found == {State.SUCCEEDED: 1, "limit.duplicate": 99}
        assert (await whole.act(RESTING_BUY | {"quantity": "3"}, key="three")).operation.state is State.SUCCEEDED
        around.clock.pass_s(60)
        assert (await whole.act(RESTING_BUY, key="later")).operation.state is State.SUCCEEDED
        assert around.posts() == 3
        await whole.agree()


async def test_an_order_that_failed_is_no_first_of_two(around, tmp_path):
    limits = replace(LIMITS, duplicate_window_ms=60_000)
    async with around.gateway(tmp_path, [agent(limits=limits)]) as whole:
        around.exchange_fails("status_before", status=403, remaining=1)
        assert (await whole.act(RESTING_BUY, key="no")).operation.state is State.FAILED
        assert (await whole.act(RESTING_BUY, key="yes")).operation.state is State.SUCCEEDED
        around.lose_replies()
        lost = RESTING_BUY | {"quantity": "1"}
        assert (await whole.act(lost, key="lost")).operation.state is State.UNKNOWN
        assert (await refusal(whole.act(lost, key="again"))).reason == "limit.duplicate"


async def test_a_burst_of_messages_is_bounded_and_every_order_can_still_be_cancelled(around, tmp_path):
    """Table 5.3, Art. 15(1): whatever was sent, the reserve takes back what is open."""
    limits = replace(LIMITS, messages=MessageRate(per_minute=6, burst=4, cancel_reserve=4))
    async with around.gateway(tmp_path, [agent(limits=limits, budgets=(budget("calls", 100),))]) as whole:
        found = await raced(whole)
        assert found == {State.SUCCEEDED: 4, "limit.rate": 96}
        assert (await refusal(whole.act(key="one-more"))).retry_after_ms > 0
        for order in around.orders():
            answer = await whole.act({"order_id": order.id}, key=order.id, tool="cancel_order")
            assert answer.operation.state is State.SUCCEEDED
        assert {order.status.value for order in around.orders()} == {"canceled"}
        refused = await refusal(whole.act({"order_id": around.orders()[0].id}, key="c", tool="cancel_order"))
        assert (refused.kind, refused.reason) == (Kind.EXHAUSTED, "limit.rate")
        await whole.agree()


async def test_an_empty_budget_keeps_no_order_open(around, tmp_path):
    async with around.gateway(tmp_path, [agent(budgets=(budget("calls", 1),))]) as whole:
        order = json.loads((await whole.act(RESTING_BUY)).operation.result)["order_id"]
        assert (await refusal(whole.act(key="k-2"))).reason == "budget.calls"
        cancelled = await whole.act({"order_id": order}, key="c", tool="cancel_order")
        assert cancelled.operation.state is State.SUCCEEDED
        await whole.agree()


async def test_the_barrier_lets_a_hundred_quick_orders_come_no_further_than_its_step(around, tmp_path):
    limits = replace(LIMITS, agent_exposure_max=16 * WORTH, barrier=BarrierLimit(gamma_bps=2_500, window_ms=3_600_000))
    async with around.gateway(tmp_path, [agent(limits=limits)]) as whole:
        around.exchange.venue.accounts[0].bought("AAPL", 9, 0, 0)
        found = await raced(whole)
        assert found == {State.SUCCEEDED: 4, "limit.barrier": 96}
        # What reduces is sent also at the edge.
        await whole.act(MARKET_BUY | {"side": "sell", "quantity": "9"}, key="sell")
        assert around.posts() == 5
        around.clock.pass_s(3_600)
        assert (await raced(whole))["limit.barrier"] > 90
        await whole.agree()


async def test_row_24_selling_what_another_agent_bought_buys_nothing_beyond_the_limit(around, tmp_path):
    """It once did: each sale was as much room as it brought in, whoever had bought."""
    limits = replace(
        LIMITS, reference_age_ms_max=3_600_000, notional_max=100_000 * MICRO, agent_exposure_max=900 * MICRO
    )
    agents = [agent(limits=limits), agent("other", limits=replace(limits, agent_exposure_max=None))]
    async with around.gateway(tmp_path, agents) as whole:
        await whole.act(MARKET_BUY | {"quantity": "50"}, key="bought", caller="other")
        await whole.act(MARKET_BUY | {"quantity": "50", "side": "sell"}, key="sold")
        exposures = {scope: whole.spent("exposure_micro_usd", scope) for scope in ("tenant:acme", "account:paper/desk")}
        assert exposures == {"tenant:acme": 0, "account:paper/desk": 0}
        assert whole.spent("exposure_micro_usd") == 0
        refused = await refusal(whole.act(MARKET_BUY | {"symbol": "MSFT", "quantity": "50"}, key="much"))
        assert refused.reason == "limit.exposure"
        assert f"{900 * MICRO} are left" in refused.sentence
        found = await raced(whole, arguments=MARKET_BUY | {"symbol": "MSFT", "quantity": "1"}, count=20)
        assert found["limit.exposure"] == 20 - found[State.SUCCEEDED]
        bought = sum(order.filled_micros for order in around.orders() if order.terms.symbol == "MSFT")
        assert whole.spent("exposure_micro_usd") == bought
        assert 0 < bought <= 900 * MICRO
        await whole.agree()


async def test_who_sells_all_that_was_bought_has_the_whole_limit_again(around, tmp_path):
    """Buying at the ask and selling at the bid loses each time; no loss stays in the exposure."""
    async with around.gateway(tmp_path, [agent(limits=replace(LIMITS, agent_exposure_max=2 * WORTH))]) as whole:
        for turn in range(5):
            await whole.act(MARKET_BUY, key=f"buy-{turn}")
            await whole.act(MARKET_BUY | {"side": "sell"}, key=f"sell-{turn}")
            assert whole.spent("exposure_micro_usd") == 0
        await whole.agree()
