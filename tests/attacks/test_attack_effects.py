"""Attack rows 25, 26, 27 and 29: held amounts that leak, keys that are reused, crashes after the send, late halts."""

import asyncio
import json

import pytest
from whole import LIMITS, MARKET_BUY, RESTING_BUY, agent, budget, eventually, refusal, world

from gateway.call.operate import set_halt
from gateway.terms.operations import State
from gateway.terms.verdict import Kind

BUDGETS = (budget("calls", 1_000), budget("tokens", 10_000_000), budget("notional_micro_usd", 10**12))


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


# 25: nothing is given back without proof, and nothing stays held for ever.


@pytest.mark.parametrize("kind", ["stream", "order"])
async def test_row_25_a_crash_after_the_reserve_leaks_no_hold(around, tmp_path, kind):
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)]) as whole:
        if kind == "stream":
            stream = whole.stream("@pace deltas=3 interval_ms=1\nhello")
            await anext(stream)
            held = whole.holding("tokens")
        else:
            around.lose_replies()
            await whole.act(RESTING_BUY)
            held = whole.holding("notional_micro_usd")
        left = whole.snapshot(tmp_path / "left")
        if kind == "stream":
            await stream.aclose()
    around.exchange.faults.clear()
    async with around.gateway(left, [agent(budgets=BUDGETS)]) as whole:
        if kind == "stream":
            assert whole.spent("tokens") == held > 0  # in full: nobody can say how much of it was used
        else:
            assert whole.holding("notional_micro_usd") == held > 0  # until the exchange has told the truth
            await whole.swept(seconds=1)
            assert whole.spent("notional_micro_usd") == 370_000_000
        assert whole.holding("calls") == 0
        await whole.agree()


# 26: a key is one call of one caller and one tool.


async def test_row_26_a_key_means_one_request_in_every_state(around, tmp_path):
    async with around.gateway(tmp_path, [agent(), agent("rival", tenant="rival", team="rival")]) as whole:
        around.lose_replies()
        first = (await whole.act(RESTING_BUY, key="same")).operation
        assert first.state is State.UNKNOWN
        refused = await refusal(whole.act(RESTING_BUY | {"quantity": "3"}, key="same"))
        assert (refused.kind, refused.reason) == (Kind.KEY_REUSED, "operation.key_reused")
        around.exchange.faults.clear()
        other_tool = await whole.act({"order_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12}, "same", tool="cancel_order")
        assert other_tool.operation.id != first.id
        other_tenant = (await whole.act(RESTING_BUY, key="same", caller="rival")).operation
        assert (other_tenant.id == first.id, other_tenant.state) == (False, State.SUCCEEDED)
        await whole.swept(seconds=2)
        assert (await refusal(whole.act(MARKET_BUY, key="same"))).reason == "operation.key_reused"
        assert (await whole.act(RESTING_BUY, key="same")).operation.id == first.id
        mine, theirs = (order.client_order_id for order in around.orders())
        assert mine != theirs


# 27: at most one order at the venue, and the truth in the end.


@pytest.mark.parametrize("arrived", [True, False])
async def test_row_27_a_crash_between_dispatch_and_outcome_is_told_truly(around, tmp_path, arrived):
    async with around.gateway(tmp_path) as whole:
        around.exchange_fails("latency_after" if arrived else "latency", delay_ms=60_000)
        placing = asyncio.ensure_future(whole.act(MARKET_BUY))
        await eventually(lambda: list(whole.operations().values()) == ["dispatched"])
        # The fault strikes once. An order that came after it is cleared would be taken.
        await eventually(around.orders if arrived else lambda: not around.exchange.faults)
        left = whole.snapshot(tmp_path / "left")
        placing.cancel()
        whole.kill()
        around.exchange.faults.clear()
    async with around.gateway(left) as whole:
        assert (await whole.act(MARKET_BUY)).operation.state is State.UNKNOWN
        await whole.swept(times=9, seconds=10)
        again = (await whole.act(MARKET_BUY)).operation
        assert again.state is (State.SUCCEEDED if arrived else State.FAILED)
        assert len(around.orders()) == arrived
        if arrived:
            assert json.loads(again.result)["order_id"] == around.orders()[0].id
        await whole.agree()


# 29: the switch wins.


async def test_row_29_what_is_halted_stays_halted_over_a_crash_and_cancels_still_work(around, tmp_path):
    async with around.gateway(tmp_path, [agent(limits=LIMITS)]) as whole:
        placed = json.loads((await whole.act(RESTING_BUY)).operation.result)
        await set_halt(whole.stations, whole.passage("oncall"), "venue:paper", "drill")
        left = whole.snapshot(tmp_path / "left")
    async with around.gateway(left, [agent(limits=LIMITS)]) as whole:
        assert (await refusal(whole.act(MARKET_BUY, key="k-2"))).reason == "halt.engaged"
        done = await whole.act({"order_id": placed["order_id"]}, key="c", tool="cancel_order")
        assert done.operation.state is State.SUCCEEDED
        assert around.posts() == 1
        await whole.swept()
        await whole.agree()
