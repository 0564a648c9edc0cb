"""The kill switch: what it stops, when, what goes on, and how open orders of its scope come to an end."""

import asyncio
import json
import sys
import time
from dataclasses import replace

import pytest
from failing import Instead, gated, instead, raises
from whole import LIMITS, MARKET_BUY, RESTING_BUY, agent, eventually, refusal, world

from gateway.call.operate import lift_halt, list_halts, set_halt
from gateway.call.recover import PAUSE_S
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.operations import State
from gateway.terms.verdict import RefusedError

WIDE = replace(LIMITS, exposure_max=10**12)
OTHER = RESTING_BUY | {"symbol": "MSFT", "limit_price": "410"}


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@pytest.fixture
async def whole(around, tmp_path):
    agents = [agent(limits=WIDE), agent("other", team="other", limits=WIDE)]
    async with around.gateway(tmp_path, agents) as running:
        yield running


def halt(whole, scope="all", reason="drill"):
    return set_halt(whole.stations, whole.passage("oncall"), scope, reason, unknown=True)


def lift(whole, scope="all"):
    return lift_halt(whole.stations, whole.passage("oncall"), scope, "over")


def halts(whole):
    return list_halts(whole.stations, whole.passage("oncall"))


def open_orders(whole):
    return [order.terms.symbol for order in whole.world.orders() if order.is_open]


@pytest.mark.parametrize("scope", ["symbol:AAPL", "venue:paper", "tool:place_order", "agent:trader", "all"])
async def test_it_stops_what_is_in_its_scope(whole, scope):
    await halt(whole, scope)
    refused = await refusal(whole.act(RESTING_BUY))
    assert (refused.reason, scope in refused.sentence) == ("halt.engaged", True)
    assert whole.world.posts() == 0
    await lift(whole, scope)
    assert (await whole.act(RESTING_BUY, key="k-2")).operation.state is State.SUCCEEDED


@pytest.mark.parametrize("scope", ["symbol:MSFT", "venue:live", "tool:cancel_order", "agent:other", "team:other"])
async def test_it_stops_nothing_else(whole, scope):
    await halt(whole, scope)
    assert (await whole.act(RESTING_BUY)).operation.state is State.SUCCEEDED


async def test_reads_and_cancels_go_on(whole):
    placed = await whole.act(RESTING_BUY)
    await halt(whole)
    for tool, arguments in (("get_quote", {"symbol": "AAPL"}), ("list_positions", {}), ("get_account", {})):
        assert (await whole.act(arguments, key="", tool=tool)).operation.state is State.SUCCEEDED
    order = json.loads(placed.operation.result)["order_id"]
    done = await whole.act({"order_id": order}, key="c", tool="cancel_order")
    assert done.operation.state is State.SUCCEEDED
    assert open_orders(whole) == []


async def test_models_are_halted_too(whole):
    await halt(whole, "model:flash")
    assert (await refusal(whole.converse())).reason == "halt.engaged"
    assert (await refusal(whole.count())).reason == "halt.engaged"
    assert whole.world.vertex.journal.requests == 0


async def test_what_was_admitted_before_the_trip_is_not_sent_after_it(around, tmp_path):
    """Attack row 29: 30 calls stand between their admission and their dispatch when the switch is set."""
    gate, waiting = asyncio.Event(), []

    def held(stations):
        real = stations.ledger

        async def admit(admission):
            reserved = await real.admit(admission)
            waiting.append(reserved)
            await gate.wait()
            return reserved

        return instead("ledger", admit=admit)(stations)

    async with around.gateway(tmp_path, [agent(limits=WIDE)], wrapped=held) as whole:
        calls = [asyncio.ensure_future(whole.act(RESTING_BUY, key=f"k-{number}")) for number in range(30)]
        streams = [asyncio.ensure_future(refusal(whole.converse())) for _ in range(3)]
        await eventually(lambda: len(waiting) == 33)
        await halt(whole)
        gate.set()
        operations = [answer.operation for answer in await asyncio.gather(*calls)]
        assert {(one.state, one.failure.reason) for one in operations} == {(State.FAILED, "halt.engaged")}
        assert {one.reason for one in await asyncio.gather(*streams)} == {"halt.engaged"}
        assert (around.posts(), around.vertex.journal.requests) == (0, 0)
        assert whole.held() == {}
        await whole.agree()


async def test_a_switch_that_cannot_be_read_is_set(around, tmp_path):
    def blind(stations):
        return replace(stations, ledger=Instead(stations.ledger, stopped=raises(LedgerUnavailableError("no disk"))))

    async with around.gateway(tmp_path, wrapped=blind) as whole:
        operation = (await whole.act(MARKET_BUY)).operation
        assert (operation.state, operation.failure.reason) == (State.FAILED, "halt.unreadable")
        assert (await refusal(whole.converse())).reason == "halt.unreadable"
        assert (around.posts(), around.vertex.journal.requests) == (0, 0)
        await whole.agree()


async def test_open_orders_of_its_scope_are_cancelled_and_no_others(whole):
    await whole.act(RESTING_BUY, key="a")
    await whole.act(RESTING_BUY, key="b", caller="other")
    await whole.act(OTHER, key="c")
    await halt(whole, "symbol:AAPL")
    (standing,) = await halts(whole)
    assert (standing.running, standing.open, standing.needs_person) == (0, 2, 0)
    await whole.swept()
    assert open_orders(whole) == ["MSFT"]
    (standing,) = await halts(whole)
    assert (standing.running, standing.open) == (0, 0)
    assert len(whole.told("withdrawal")) == 2
    assert {one["failure"]["reason"] for one in whole.told("followed")} == {"venue.order_canceled"}
    await whole.agree()


async def test_an_order_under_way_is_cancelled_as_soon_as_it_is_open(around, tmp_path):
    gate = asyncio.Event()
    async with around.gateway(tmp_path, [agent(limits=WIDE)]) as whole:
        whole.stations = gated(gate)(whole.stations)
        placing = asyncio.ensure_future(whole.act(RESTING_BUY))
        await eventually(lambda: whole.log.named("call.stopped") or list(whole.operations().values()) == ["dispatched"])
        await asyncio.sleep(0.01)  # it has passed the last look at the switches
        await halt(whole)
        (standing,) = await halts(whole)
        assert (standing.running, standing.open) == (1, 0)
        gate.set()
        assert (await placing).operation.state is State.SUCCEEDED
        await whole.swept()
        assert open_orders(whole) == []
        assert [one.running + one.open for one in await halts(whole)] == [0]
        await whole.agree()


async def test_a_cancel_that_does_not_come_through_is_tried_until_none_is_open(whole):
    await whole.act(RESTING_BUY)
    whole.world.exchange_fails("status_before", method="DELETE", path="/v2/orders", remaining=3, status=503)
    await halt(whole)
    await whole.swept()
    assert open_orders(whole) == ["AAPL"]
    await whole.swept(times=5, seconds=5)
    assert open_orders(whole) == []
    assert len(whole.told("withdrawal")) == 4
    await whole.agree()


async def test_a_lost_order_of_its_scope_is_found_and_cancelled(whole):
    whole.world.lose_replies()
    await whole.act(RESTING_BUY)
    await halt(whole, "agent:trader")
    await whole.swept()
    assert open_orders(whole) == ["AAPL"]
    whole.world.exchange.faults.clear()
    await whole.swept(seconds=5)
    assert open_orders(whole) == []
    assert list(whole.operations().values()) == ["failed"]  # it ended with nothing filled
    await whole.agree()


async def test_the_withdrawal_goes_on_after_a_restart(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        await whole.act(RESTING_BUY)
        await halt(whole)
        left = whole.snapshot(tmp_path / "left")
    async with around.gateway(left) as whole:
        assert (await refusal(whole.act(RESTING_BUY, key="k-2"))).reason == "halt.engaged"
        await whole.swept()
        assert open_orders(whole) == []
        await whole.agree()


async def test_under_load_nothing_leaves_after_the_trip(whole):
    """The figure: from the reply of SetHalt to the last order that reaches the exchange."""
    ending, refused = asyncio.Event(), set()

    async def trade(number):
        count = 0
        while not ending.is_set():
            count += 1
            try:
                await whole.act(RESTING_BUY, key=f"k-{number}-{count}")
            except RefusedError as error:
                refused.add(error.refusal.reason)
                await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as group:
        for number in range(16):
            group.create_task(trade(number))
        await eventually(lambda: whole.world.posts() > 40)
        await halt(whole)
        tripped = time.time_ns() // 1_000 + whole.world.clock.shift_ns // 1_000
        await eventually(lambda: refused)
        await asyncio.sleep(0.2)
        ending.set()
    posts = [one for one in whole.world.exchange.requests.newest() if one.method == "POST"]
    late_ms = max(0, (max(one.at_us for one in posts) - tripped) / 1_000)
    sys.stdout.write(f"kill switch: last order {late_ms:.1f} ms after SetHalt's reply, of {len(posts)}\n")
    assert "halt.engaged" in refused
    assert refused <= {"halt.engaged", "denials.too_many"}  # who goes on asking is soon not recorded one by one
    assert late_ms < 1_000 - PAUSE_S * 1_000
    await whole.swept(times=3)
    assert open_orders(whole) == []
    await whole.agree()
