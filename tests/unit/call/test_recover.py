"""What is lost is found out, what is open is followed, and every amount is charged for what was true."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from failing import gated, instead, raises
from whole import LIMITS, MARKET_BUY, RESTING_BUY, agent, budget, eventually, refusal, world

from gateway.call import recover
from gateway.call.operate import set_halt
from gateway.terms.faults import AlreadySettledError, LedgerUnavailableError
from gateway.terms.operations import State
from gateway.terms.overview import Page
from gateway.terms.verdict import Kind
from localcloud.exchange.book import Side, TimeInForce
from localcloud.exchange.orders import Order

BUDGETS = (
    budget("calls", 1_000),
    budget("tokens", 10_000_000),
    budget("cost_micro_usd", 10**12),
    budget("notional_micro_usd", 10**12),
)
RESTING_COST = 370_000_000
"""Of `RESTING_BUY` at its limit: what is charged while it is open."""
HELD = 379_020_000
"""Of `RESTING_BUY` at the market, which is higher: what is held while nobody knows."""


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@pytest.fixture
async def whole(around, tmp_path):
    limits = replace(LIMITS, reference_age_ms_max=3_600_000)
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS, limits=limits)]) as running:
        yield running


def state(whole):
    (found,) = whole.operations().values()
    return found


def exposure(whole):
    """Held and charged."""
    found = [amounts for (_, unit, _), amounts in whole.held().items() if unit == "exposure_micro_usd"]
    return found[0] if found else (0, 0)


async def lost_order(whole, arguments=RESTING_BUY):
    """An order that the exchange has, and whose reply and look-up never came."""
    whole.world.lose_replies()
    operation = (await whole.act(arguments)).operation
    assert operation.state is State.UNKNOWN
    return operation


# Unknown outcomes


async def test_a_lost_order_is_found_and_the_repeat_tells_the_truth(whole):
    await lost_order(whole, MARKET_BUY)
    assert whole.holding("exposure_micro_usd") > 0
    whole.world.exchange.faults.clear()
    await whole.swept(seconds=1)
    assert state(whole) == "succeeded"
    again = await whole.act(MARKET_BUY)
    assert again.replayed
    assert json.loads(again.operation.result)["status"] == "filled"
    assert whole.holding("exposure_micro_usd") == 0
    assert whole.world.posts() == 1
    assert [one["kind"] for one in whole.told("intent", "outcome", "reconciled")] == ["intent", "outcome", "reconciled"]
    await whole.agree()


async def test_until_it_is_known_everything_stays_held_and_it_is_asked_ever_more_rarely(whole):
    await lost_order(whole)
    looks = []
    for _ in range(60):
        before = len(whole.log.named("operation.looked_for"))
        await whole.swept(seconds=1)
        looks.append(len(whole.log.named("operation.looked_for")) - before)
        assert state(whole) == "unknown"
        assert exposure(whole) == (HELD, 0)
    assert [second for second, looked in enumerate(looks, 1) if looked] == [1, 2, 4, 8, 16, 32]
    assert (await whole.act(RESTING_BUY)).operation.state is State.UNKNOWN
    await whole.agree()


async def test_an_order_that_never_arrived_is_failed_only_after_the_acceptance_window(whole):
    whole.world.exchange_fails("reset_before", remaining=None)
    assert (await whole.act(RESTING_BUY)).operation.state is State.UNKNOWN
    whole.world.exchange.faults.clear()
    await whole.swept(times=37, seconds=1)  # 3 s to send, 30 s to accept, 5 s of two clocks
    assert state(whole) == "unknown"
    assert exposure(whole) == (HELD, 0)
    await whole.swept(times=40, seconds=1)
    assert state(whole) == "failed"
    assert exposure(whole) == (0, 0)
    again = await whole.act(RESTING_BUY)
    assert (again.replayed, again.operation.failure.reason) == (True, "venue.order_never_arrived")
    assert whole.world.orders() == []
    await whole.agree()


async def test_after_enough_looks_a_person_is_needed_and_nothing_is_given_back(whole):
    await lost_order(whole)
    await whole.swept(times=recover.LOOKS_MAX + 2, seconds=301)
    (shown,) = await whole.ledger.listed(page(needs_person=True))
    assert (shown.needs_person, shown.looks) == (True, recover.LOOKS_MAX)
    assert exposure(whole) == (HELD, 0)
    assert len(whole.log.named("operation.needs_person")) == 1
    asked = len(whole.log.named("operation.looked_for"))
    await whole.swept(times=3, seconds=3_600)
    assert len(whole.log.named("operation.looked_for")) == asked


async def test_what_is_given_up_is_asked_for_again_and_cancelled_when_a_switch_is_set(whole):
    """It was open at the venue all the time, and nobody could say so."""
    await lost_order(whole)
    await whole.swept(times=recover.LOOKS_MAX + 2, seconds=301)
    whole.world.exchange.faults.clear()
    await whole.swept(times=2, seconds=301)
    assert state(whole) == "unknown"
    await set_halt(whole.stations, whole.passage("oncall"), "symbol:AAPL", "drill")
    await whole.swept(seconds=1)
    assert (state(whole), exposure(whole)) == ("failed", (0, 0))
    assert [order.is_open for order in whole.world.orders()] == [False]
    await whole.agree()


async def test_an_order_whose_terms_the_venue_changed_stays_held_and_a_switch_cancels_it(whole):
    """Open under our own id, but good till cancelled where it was sent for the day: it is nobody else's."""
    await lost_order(whole)
    whole.world.exchange.faults.clear()
    (order,) = whole.world.orders()
    order.terms = replace(order.terms, tif=TimeInForce.GTC)
    await whole.swept(times=2, seconds=301)
    assert (state(whole), exposure(whole)) == ("unknown", (HELD, 0))
    assert order.is_open
    await set_halt(whole.stations, whole.passage("oncall"), "symbol:AAPL", "drill")
    await whole.swept(times=2, seconds=6)
    assert (state(whole), exposure(whole), order.is_open) == ("failed", (0, 0), False)
    await whole.agree()


async def test_a_venue_that_is_away_while_a_switch_stands_is_asked_for_as_long_as_without_one(whole):
    await lost_order(whole)
    await set_halt(whole.stations, whole.passage("oncall"), "symbol:AAPL", "drill")
    await whole.swept(times=2 * recover.LOOKS_MAX, seconds=6)
    assert await whole.ledger.listed(page(needs_person=True)) == ()
    whole.world.exchange.faults.clear()
    await whole.swept(seconds=6)
    assert (state(whole), [order.is_open for order in whole.world.orders()]) == ("failed", [False])
    await whole.agree()


def page(**changes):
    return Page(**({"size": 50} | changes))


async def test_a_tool_without_look_up_waits_for_a_person_at_once(around, tmp_path):
    def forgetful(stations):
        def demand(caller, ask, facts):
            return msgspec.structs.replace(stations.tools.demand(caller, ask, facts), memo=b"")

        return instead("tools", demand=demand)(stations)

    async with around.gateway(tmp_path, wrapped=forgetful) as whole:
        await lost_order(whole)
        await whole.swept(times=3, seconds=10)
        (shown,) = await whole.ledger.listed(page())
        assert (shown.needs_person, shown.looks) == (True, 0)


async def test_a_fault_of_ours_while_looking_leaves_it_to_the_next_owner(around, tmp_path):
    """The lease of the one that failed must end first; then somebody else asks."""
    async with around.gateway(tmp_path, wrapped=instead("tools", look=raises(ZeroDivisionError()))) as whole:
        await lost_order(whole)
        await whole.swept(seconds=1)
        assert state(whole) == "reconciling"
        assert len(whole.log.named("operation.look_failed")) == 1
        assert (await whole.act(RESTING_BUY)).operation.state is State.RECONCILING
        whole.stations = replace(whole.stations, tools=whole.stations.tools._real)
        around.exchange.faults.clear()
        await whole.swept(seconds=recover.LEASE_MS / 1_000 - 1)
        assert state(whole) == "reconciling"
        await whole.swept(times=2, seconds=2)
        assert state(whole) == "succeeded"
        await whole.agree()


async def test_a_paused_owner_cannot_conclude_what_another_has(whole):
    await lost_order(whole)
    whole.world.clock.pass_s(1)
    (paused,) = await whole.taken(1_000)
    whole.world.clock.pass_s(2)
    await whole.ledger.expire()
    (other,) = await whole.taken(60_000)
    assert other.fence > paused.fence
    whole.world.exchange.faults.clear()
    found = await whole.stations.tools.look(paused)
    record = whole.records.finding(paused, found)
    with pytest.raises(AlreadySettledError):
        await whole.ledger.conclude(paused, found, record, None)
    with pytest.raises(AlreadySettledError):
        await whole.ledger.postpone(paused, 1)
    assert (await whole.ledger.conclude(other, found, record, None)).state is State.SUCCEEDED
    with pytest.raises(AlreadySettledError):
        await whole.ledger.conclude(other, found, record, None)
    await whole.agree()


# Leases


async def test_an_order_whose_owner_stopped_is_unknown_when_its_lease_ends(around, tmp_path):
    gate = asyncio.Event()
    async with around.gateway(tmp_path, wrapped=gated(gate)) as whole:
        placing = asyncio.ensure_future(whole.act(RESTING_BUY))
        await eventually(lambda: list(whole.operations().values()) == ["dispatched"])
        await whole.swept(seconds=32)  # 3 s of the tool, 30 s of margin
        assert state(whole) == "dispatched"
        await whole.swept(seconds=2)
        assert state(whole) == "unknown"
        assert exposure(whole) == (HELD, 0)
        gate.set()  # the paused owner wakes up: it has sent nothing yet, and may not settle any more
        refused = await refusal(placing)
        assert refused.reason == "ledger.outcome_unrecorded"
        await whole.swept(seconds=2)
        assert state(whole) == "succeeded"
        await whole.agree()


async def test_a_call_that_was_paused_before_it_was_sent_is_never_sent(around, tmp_path):
    """Another instance may have found by now that it never arrived; then it must not."""
    gate, real = asyncio.Event(), None

    def paused(stations):
        nonlocal real
        real = stations.ledger

        async def admit(admission):
            reserved = await real.admit(admission)
            await gate.wait()
            return reserved

        return instead("ledger", admit=admit)(stations)

    async with around.gateway(tmp_path, wrapped=paused) as whole:
        placing = asyncio.ensure_future(whole.act(RESTING_BUY))
        await eventually(lambda: list(whole.operations().values()) == ["dispatched"])
        await whole.swept(times=3, seconds=40)
        gate.set()
        await refusal(placing)
        assert around.posts() == 0
        assert whole.log.named("call.stopped")[0]["reason"] == "operation.lost"
        await whole.swept(times=5, seconds=60)
        assert state(whole) == "failed"
        await whole.agree()


async def test_a_stream_whose_owner_stopped_is_charged_in_full_and_flagged(around, tmp_path):
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)]) as whole:
        stream = whole.stream("@pace deltas=4 interval_ms=1\nhello")
        await anext(stream)
        held = whole.holding("tokens")
        await whole.swept(seconds=3_601)
        assert list(whole.operations().values()) == ["failed"]
        assert whole.spent("tokens") == held > 0
        (lost,) = whole.told("lost")
        assert lost["state"] == "failed"
        (shown,) = await whole.ledger.listed(page())
        assert shown.operation.failure.reason == "operation.charged_in_full"
        refused = await refusal(collected(stream))
        assert refused.reason == "ledger.outcome_unrecorded"
        assert whole.spent("tokens") == held
        await whole.agree()


async def collected(stream):
    return [event async for event in stream]


async def test_a_killed_gateways_calls_are_told_at_the_next_start(around, tmp_path):
    async with around.gateway(tmp_path, [agent(budgets=BUDGETS)]) as whole:
        stream = whole.stream("@pace deltas=4 interval_ms=1\nhello")
        await anext(stream)
        around.lose_replies()
        await whole.act(MARKET_BUY)
        left = whole.snapshot(tmp_path / "left")
        await stream.aclose()
    around.exchange.faults.clear()
    async with around.gateway(left, [agent(budgets=BUDGETS)]) as whole:
        assert sorted(whole.operations().values()) == ["failed", "unknown"]
        await whole.swept(seconds=1)
        assert sorted(whole.operations().values()) == ["failed", "succeeded"]
        assert whole.holding("tokens") == 0
        assert around.posts() == 1
        await whole.agree()


# Settling again


async def test_an_outcome_that_could_not_be_recorded_comes_right_without_a_restart(around, tmp_path):
    gate = asyncio.Event()
    async with around.gateway(tmp_path, wrapped=gated(gate)) as whole:
        placing = asyncio.ensure_future(whole.act(MARKET_BUY))
        await eventually(lambda: list(whole.operations().values()) == ["dispatched"])
        await whole.fill_disk()
        gate.set()
        assert (await refusal(placing)).reason == "ledger.outcome_unrecorded"
        with pytest.raises(LedgerUnavailableError):
            await whole.recovery().sweep()
        whole.free_disk()
        assert state(whole) == "dispatched"
        await whole.swept()
        assert state(whole) == "succeeded"
        assert (await whole.act(MARKET_BUY)).replayed
        assert len(whole.log.named("outcome.recorded_late")) == 1
        await whole.agree()


# Orders that go on


async def test_an_order_that_is_cancelled_later_gives_its_exposure_back_once(whole):
    placed = await whole.act(RESTING_BUY)
    assert exposure(whole) == (0, RESTING_COST)
    order = json.loads(placed.operation.result)["order_id"]
    await whole.swept(seconds=1)
    assert exposure(whole) == (0, RESTING_COST)
    await whole.act({"order_id": order}, key="cancel", tool="cancel_order")
    await whole.swept(times=5, seconds=60)
    assert exposure(whole) == (0, 0)
    assert whole.spent("notional_micro_usd") == 0
    (followed,) = whole.told("followed")
    assert (followed["failure"]["reason"], followed["open"]) == ("venue.order_canceled", False)
    asked = len(whole.log.named("operation.looked_for"))
    await whole.swept(times=5, seconds=60)
    assert len(whole.log.named("operation.looked_for")) == asked
    assert exposure(whole) == (0, 0)
    again = await whole.act(RESTING_BUY)
    assert again.operation.result == placed.operation.result  # the stored answer never changes
    await whole.agree()


async def test_an_order_that_is_filled_later_is_charged_at_its_price(whole):
    told = json.loads((await whole.act({"symbol": "AAPL"}, key="", tool="get_quote")).operation.result)
    between = str((Decimal(told["bid_price"]) + Decimal("0.01")).normalize())
    assert Decimal(between) < Decimal(told["ask_price"])
    await whole.act(RESTING_BUY | {"limit_price": between, "quantity": "2"})
    await whole.swept(seconds=1)
    _sell_into(whole.world.exchange.venue, whole.world.orders()[0])
    await whole.swept(times=3, seconds=2)
    assert exposure(whole) == (0, 2 * int(Decimal(between) * 1_000_000))
    (followed,) = whole.told("followed")
    assert json.loads(followed["result"])["status"] == "filled"
    await whole.agree()


def _sell_into(venue, order):
    """Somebody sells what a resting order buys."""
    now = venue.clock()
    other = Order(
        id="other",
        number=next(venue._numbers),
        client_order_id="other",
        account=venue.maker.account,
        instrument=order.instrument,
        terms=replace(order.terms, side=Side.SELL),
        submitted_us=now,
        updated_us=now,
        expires_us=None,
    )
    venue.markets["AAPL"].place(other, now)


async def test_an_order_of_the_day_that_expires_gives_its_exposure_back(whole):
    await whole.act(RESTING_BUY)
    whole.world.clock.pass_s(86_400)
    await whole.swept(times=2, seconds=2)
    assert exposure(whole) == (0, 0)
    assert whole.told("followed")[0]["failure"]["reason"] == "venue.order_expired"
    await whole.agree()


async def test_open_orders_are_followed_after_a_restart(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        placed = await whole.act(RESTING_BUY)
        await whole.act(
            {"order_id": json.loads(placed.operation.result)["order_id"]}, key="cancel", tool="cancel_order"
        )
        left = whole.snapshot(tmp_path / "left")
    async with around.gateway(left) as whole:
        await whole.swept(times=2, seconds=2)
        assert exposure(whole) == (0, 0)
        await whole.agree()


async def test_the_recovery_goes_on_after_a_ledger_that_was_away(whole, monkeypatch):
    monkeypatch.setattr(recover, "PAUSE_S", 0.002)
    await lost_order(whole)
    whole.world.exchange.faults.clear()
    await whole.fill_disk()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(whole.recovery().run())
        whole.world.clock.pass_s(61)
        await eventually(lambda: whole.log.named("recovery.failed") or whole.log.named("operation.look_failed"))
        whole.free_disk()
        whole.stations.bell.set()
        await eventually(lambda: state(whole) == "succeeded" or whole.world.clock.pass_s(1))
        task.cancel()
    assert (await refusal(whole.act(RESTING_BUY, tool="get_quote"))).kind is Kind.MALFORMED
    await whole.agree()
