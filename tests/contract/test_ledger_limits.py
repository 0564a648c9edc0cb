"""Limits over time and over orders, as every ledger keeps them: rates, duplicates, latches, barriers, positions.

Each is checked in the transaction that admits, and a refused admission changes nothing of it.
"""

import asyncio
from collections import Counter

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_calls import act, claim, rooms, tool_ask

from gateway.ledger import sightings
from gateway.terms.gcra import Pace
from gateway.terms.latches import Reset
from gateway.terms.limits import BarrierLimit
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Failure, Latch, Rate, Replay, Reservation, Similar, Succeeded, Unknown
from gateway.terms.verdict import Kind, Refusal

NO = Failure(reason="venue.rejected", message="The venue said no.")
NOBODY_KNOWS = Failure(reason="upstream.timeout", message="No reply came.")
PLACE = "agent:trader/place_order"
RATE = Rate(scope="agent:trader@paper", pace=Pace(interval_us=1_000_000, burst=3))
CANCEL = msgspec.structs.replace(RATE, pace=msgspec.structs.replace(RATE.pace, burst=5))
SIMILAR = Similar(scope="account:paper/desk", digest=b"\x07" * 32, window_ms=1_000)
LATCH = Latch(scope=PLACE, digest=b"\x09" * 32, executions=3, window_ms=60_000)
HALF = BarrierLimit(gamma_bps=5_000, window_ms=60_000)


def barred(amount, limit=1_000, barrier=HALF, scope="agent:trader", unit=Unit.EXPOSURE):
    return msgspec.structs.replace(
        claim(scope=scope, unit=unit, window="total", limit=limit, amount=amount), barrier=barrier
    )


def guards_stored(desk):
    """Everything that guards and barriers keep."""
    names = ("rates", "sightings", "latches", "barriers", "balances")
    return {name: sorted(map(repr, desk.rows(f"SELECT * FROM {name}"))) for name in names}


async def reason(desk, **wanted):
    """Why an admission is refused; empty for a reservation."""
    verdict = await desk.admit(**wanted)
    return verdict.reason if isinstance(verdict, Refusal) else ""


# Rates


async def test_a_rate_lets_its_burst_pass_and_then_one_each_interval(desk):
    assert [await reason(desk, guards=[RATE]) for _ in range(5)] == ["", "", "", "limit.rate", "limit.rate"]
    desk.clock.now_us += 999_999
    assert await reason(desk, guards=[RATE]) == "limit.rate"
    desk.clock.now_us += 1
    assert [await reason(desk, guards=[RATE]) for _ in range(2)] == ["", "limit.rate"]


async def test_a_rate_tells_scope_numbers_and_when_to_come_again(desk):
    for _ in range(3):
        await desk.reserve(guards=[RATE])
    refusal = await desk.admit(guards=[RATE])
    assert (refusal.kind, refusal.rules, refusal.retry_after_ms) == (Kind.EXHAUSTED, ("limit.rate",), 1_000)
    assert refusal.policy_hash
    for told in ("agent:trader@paper", "3 at once", "1000 ms"):
        assert told in refusal.sentence


async def test_cancels_have_a_reserve_that_nothing_else_can_take(desk):
    flood = [await reason(desk, guards=[RATE]) for _ in range(50)]
    assert flood.count("") == 3
    assert [await reason(desk, guards=[CANCEL]) for _ in range(3)] == ["", "", "limit.rate"]
    # Cancels are messages too: orders wait for what they took.
    desk.clock.now_us += 2_000_000
    assert await reason(desk, guards=[RATE]) == "limit.rate"
    desk.clock.now_us += 1_000_000
    assert await reason(desk, guards=[RATE]) == ""


async def test_rates_of_other_scopes_are_apart(desk):
    other = msgspec.structs.replace(RATE, scope="agent:other@paper")
    found = [await reason(desk, guards=[one]) for one in (RATE, other) * 4]
    assert found == [""] * 6 + ["limit.rate"] * 2


async def test_a_hundred_at_once_are_as_many_as_the_burst(desk):
    found = Counter(await asyncio.gather(*(reason(desk, guards=[RATE]) for _ in range(100))))
    assert found == {"": 3, "limit.rate": 97}


async def test_a_rate_survives_a_restart(desk):
    for _ in range(3):
        await desk.reserve(guards=[RATE])
    await desk.ledger.close()
    await desk.make().start()
    assert await reason(desk, guards=[RATE]) == "limit.rate"


async def test_one_event_is_metered_by_itself(desk):
    quota = msgspec.structs.replace(RATE, scope="dry-run:agent:trader", reason="quota.dry_runs")
    assert [await desk.ledger.meter(quota) for _ in range(3)] == [None] * 3
    refusal = await desk.ledger.meter(quota)
    assert (refusal.kind, refusal.reason, refusal.retry_after_ms) == (Kind.EXHAUSTED, "quota.dry_runs", 1_000)
    assert await reason(desk, guards=[RATE]) == ""


# Duplicates


async def test_the_same_order_under_another_key_is_a_duplicate(desk):
    await desk.do(guards=[SIMILAR])
    refusal = await desk.admit(guards=[SIMILAR])
    assert (refusal.kind, refusal.reason, refusal.rules) == (Kind.FORBIDDEN, "limit.duplicate", ("limit.duplicate",))
    for told in ("account:paper/desk", "0 ms ago", "1000 ms"):
        assert told in refusal.sentence
    desk.clock.now_us += 999_999
    assert await reason(desk, guards=[SIMILAR]) == "limit.duplicate"
    desk.clock.now_us += 1
    assert await reason(desk, guards=[SIMILAR]) == ""


async def test_a_repeat_by_key_is_no_duplicate(desk):
    await desk.do(ask=tool_ask(key="k"), guards=[SIMILAR])
    assert isinstance(await desk.admit(ask=tool_ask(key="k"), guards=[SIMILAR]), Replay)


@pytest.mark.parametrize(
    "changed", [{"digest": b"\x07" * 15 + b"\x08" * 17}, {"digest": b"\x01" * 32}, {"scope": "account:paper/other"}]
)
async def test_another_order_or_account_is_none(desk, changed):
    await desk.do(guards=[SIMILAR])
    assert await reason(desk, guards=[msgspec.structs.replace(SIMILAR, **changed)]) == ""


@pytest.mark.parametrize(
    "outcome, refused",
    [
        (Failed(failure=NO), ""),
        (Unknown(failure=NOBODY_KNOWS), "limit.duplicate"),
        (Succeeded(result=b"{}"), "limit.duplicate"),
    ],
)
async def test_only_what_is_known_to_have_failed_may_be_placed_again_at_once(desk, outcome, refused):
    other = msgspec.structs.replace(SIMILAR, digest=b"\x07" * 31 + b"\x08")
    await desk.settle(await desk.reserve(guards=[SIMILAR]), outcome)
    assert await reason(desk, guards=[other]) == refused, "the first 16 bytes tell orders apart"


async def test_a_failure_takes_back_its_own_sighting_and_no_other(desk):
    near = msgspec.structs.replace(SIMILAR, digest=b"\x07" + b"\x01" * 31)
    failing = await desk.reserve(guards=[near])
    await desk.do(guards=[SIMILAR])
    await desk.settle(failing, Failed(failure=NO))
    assert await reason(desk, guards=[SIMILAR]) == "limit.duplicate"
    assert await reason(desk, guards=[near]) == ""


async def lost(desk, guard=SIMILAR):
    """An order whose reply is lost, to be looked for in a second."""
    reservation = await desk.reserve(guards=[guard])
    look_us = desk.clock.now_us + 1_000_000
    await desk.ledger.settle(
        msgspec.structs.replace(desk.settlement(reservation, Unknown(failure=NOBODY_KNOWS)), look_unix_us=look_us)
    )
    return reservation.operation


async def looked_for(desk):
    """What is due, taken by this instance."""
    desk.clock.now_us += 2_000_000
    [watched] = await desk.ledger.take(rooms(9), lease_ms=60_000)
    return watched


LONG = msgspec.structs.replace(SIMILAR, window_ms=600_000)


@pytest.mark.parametrize("outcome, refused", [(Failed(failure=NO), ""), (Succeeded(result=b"{}"), "limit.duplicate")])
async def test_what_was_lost_and_turns_out_to_have_failed_may_be_placed_again(desk, outcome, refused):
    await lost(desk, LONG)
    watched = await looked_for(desk)
    assert await reason(desk, guards=[LONG]) == "limit.duplicate"
    await desk.ledger.conclude(watched, outcome, desk.records.finding(watched, outcome), None)
    assert await reason(desk, guards=[LONG]) == refused


@pytest.mark.parametrize("outcome, refused", [(Failed(failure=NO), ""), (Succeeded(result=b"{}"), "limit.duplicate")])
async def test_what_an_operator_says_has_failed_may_be_placed_again(desk, outcome, refused):
    named = await lost(desk, LONG)
    await desk.ledger.close()
    await desk.make().start()
    seen = await desk.ledger.shown(named)
    await desk.ledger.resolve(
        seen, outcome, desk.records.resolution(act("resolve_operation", named), seen, outcome, "x")
    )
    assert await reason(desk, guards=[LONG]) == refused


async def test_an_order_that_was_placed_and_ended_unfilled_later_is_no_failed_one(desk):
    reservation = await desk.reserve(guards=[LONG])
    open_one = desk.settlement(reservation, Succeeded(result=b"{}", live=True))
    await desk.ledger.settle(msgspec.structs.replace(open_one, look_unix_us=desk.clock.now_us + 1_000_000))
    watched, ended = await looked_for(desk), Failed(failure=NO)
    await desk.ledger.conclude(watched, ended, desk.records.finding(watched, ended), None)
    assert await reason(desk, guards=[LONG]) == "limit.duplicate"


async def test_of_a_hundred_duplicates_at_once_one_passes(desk):
    found = Counter(await asyncio.gather(*(reason(desk, guards=[SIMILAR]) for _ in range(100))))
    assert found == {"": 1, "limit.duplicate": 99}


async def test_sightings_do_not_grow_with_time(desk):
    """Rows are bounded by the number of buckets, and each by what one window has seen."""
    for number in range(300):
        desk.clock.now_us += 300_000
        digest = number.to_bytes(2, "big")[::-1] * 16
        await desk.reserve(guards=[msgspec.structs.replace(SIMILAR, digest=digest)])
    rows = desk.rows("SELECT length(entries) FROM sightings")
    assert len(rows) <= 256
    assert max(length for (length,) in rows) <= 2 * 32
    for number in range(300):
        desk.clock.now_us += 300_000
        await desk.reserve(
            guards=[msgspec.structs.replace(SIMILAR, digest=b"\x07" + number.to_bytes(2, "big") + bytes(29))]
        )
    [(length,)] = desk.rows("SELECT max(length(entries)) FROM sightings")
    assert length <= 5 * 32


async def test_what_cannot_be_compared_any_more_is_refused(desk, monkeypatch):
    monkeypatch.setattr(sightings, "ENTRIES_MAX", 3)
    near = [msgspec.structs.replace(SIMILAR, digest=b"\x07" + bytes([number]) * 31) for number in range(4)]
    assert [await reason(desk, guards=[one]) for one in near] == ["", "", "", "limit.crowded"]
    desk.clock.now_us += 1_000_000
    assert await reason(desk, guards=[near[3]]) == ""


# Latches


async def test_the_last_execution_that_is_allowed_latches_until_a_person_resets_it(desk):
    last = [await desk.reserve(guards=[LATCH]) for _ in range(3)][-1]
    refusal = await desk.admit(guards=[LATCH])
    assert (refusal.kind, refusal.reason) == (Kind.FORBIDDEN, "limit.latched")
    for told in (PLACE, "3 executions", "60000 ms", "operator"):
        assert told in refusal.sentence
    desk.clock.now_us += 10**12
    assert await reason(desk, guards=[msgspec.structs.replace(LATCH, digest=b"\x00" * 32)]) == "limit.latched", (
        "no time resets it"
    )
    [standing] = await desk.ledger.latches()
    assert (standing.scope, standing.operation) == (PLACE, last.operation)
    receipt = await reset(desk)
    assert receipt.sequence > 0
    assert await desk.ledger.latches() == ()
    desk.clock.now_us += 1
    assert [await reason(desk, guards=[LATCH]) for _ in range(4)] == ["", "", "", "limit.latched"]


async def reset(desk, scope=PLACE):
    wanted = Reset(scope=scope, reason="looked at", by="eve")
    return await desk.ledger.reset_latch(wanted, desk.records.unlatched(wanted, act()))


async def test_a_reset_counts_anew_also_within_the_same_window(desk):
    for _ in range(3):
        await desk.reserve(guards=[LATCH])
    desk.clock.now_us += 1
    await reset(desk)
    desk.clock.now_us += 1
    assert [await reason(desk, guards=[LATCH]) for _ in range(4)] == ["", "", "", "limit.latched"]


async def test_engaging_and_resetting_are_on_record(desk):
    for _ in range(3):
        await desk.reserve(guards=[LATCH])
    await reset(desk)
    told = [record for record in desk.records_stored() if record["kind"] == "latch"]
    assert [(one["scope"], one["engaged"], one.get("by")) for one in told] == [
        (PLACE, True, None),
        (PLACE, False, "eve"),
    ]


async def test_what_is_not_latched_cannot_be_reset(desk):
    records = len(desk.records_stored())
    assert await reset(desk) is None
    await desk.reserve(guards=[LATCH])
    assert await reset(desk) is None
    assert len(desk.records_stored()) == records + 1


async def test_executions_that_are_far_enough_apart_latch_nothing(desk):
    for _ in range(20):
        assert await reason(desk, guards=[LATCH]) == ""
        desk.clock.now_us += 30_000_000


async def test_other_strategies_and_agents_are_counted_apart_but_stopped_together(desk):
    other = msgspec.structs.replace(LATCH, digest=b"\x05" * 32)
    assert [await reason(desk, guards=[one]) for one in (LATCH, other) * 2] == [""] * 4
    assert await reason(desk, guards=[LATCH]) == ""
    assert await reason(desk, guards=[other]) == "limit.latched"
    assert await reason(desk, guards=[msgspec.structs.replace(LATCH, scope="agent:other/place_order")]) == ""


async def test_of_a_hundred_executions_at_once_as_many_pass_as_latch(desk):
    found = Counter(await asyncio.gather(*(reason(desk, guards=[LATCH]) for _ in range(100))))
    assert found == {"": 3, "limit.latched": 97}
    assert len(await desk.ledger.latches()) == 1


# Barriers


async def test_a_step_takes_at_most_its_part_of_what_was_left_at_its_beginning(desk):
    assert await reason(desk, claims=[barred(501)]) == "limit.barrier"
    assert [await reason(desk, claims=[barred(amount)]) for amount in (300, 200, 1)] == ["", "", "limit.barrier"]
    desk.clock.now_us += 60_000_000
    assert [await reason(desk, claims=[barred(amount)]) for amount in (251, 250, 1)] == [
        "limit.barrier",
        "",
        "limit.barrier",
    ]


async def test_a_hundred_quick_orders_come_no_further_than_one(desk):
    found = Counter(await asyncio.gather(*(reason(desk, claims=[barred(10)]) for _ in range(100))))
    assert found == {"": 50, "limit.barrier": 50}
    assert desk.balance(unit=Unit.EXPOSURE) == (500, 0)


async def test_a_barrier_tells_scope_and_numbers(desk):
    await desk.reserve(claims=[barred(400)])
    refusal = await desk.admit(claims=[barred(101)])
    assert (refusal.kind, refusal.rules) == (Kind.FORBIDDEN, ("limit.barrier",))
    for told in ("agent:trader", " 100 ", " 101"):
        assert told in refusal.sentence


async def test_what_reduces_always_passes_also_beyond_the_limit(desk):
    """Else the barrier would trap a losing position."""
    for unit in (Unit.EXPOSURE, Unit.POSITION):
        over = await desk.reserve(claims=[barred(500, unit=unit)])
        await desk.settle(over, Succeeded(result=b"{}", charges=((unit, 2_000),)))
        assert await reason(desk, claims=[barred(1, unit=unit)]) == f"limit.{unit.name.lower()}"
        sale = await desk.reserve(claims=[barred(0, unit=unit)])
        await desk.settle(sale, Succeeded(result=b"{}", charges=((unit, -1_999),)))
        assert desk.balance(unit=unit) == (0, 1)


async def test_what_is_sold_in_a_step_can_be_bought_again_in_it(desk):
    await desk.do(claims=[barred(500)])
    assert await reason(desk, claims=[barred(200)]) == "limit.barrier"
    sale = await desk.reserve(claims=[barred(0)])
    await desk.settle(sale, Succeeded(result=b"{}", charges=((Unit.EXPOSURE, -200),)))
    assert [await reason(desk, claims=[barred(amount)]) for amount in (201, 200)] == ["limit.barrier", ""]


async def test_a_clock_that_is_behind_begins_no_step_of_its_own(desk):
    await desk.reserve(claims=[barred(500)])
    desk.clock.now_us -= 60_000_000
    assert await reason(desk, claims=[barred(1)]) == "limit.barrier"


AMOUNTS = st.lists(st.tuples(st.integers(0, 400), st.sampled_from([0, 0, 30, 60, 130])), min_size=1, max_size=15)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 10_000), AMOUNTS, st.integers(1, 2_000))
async def test_the_way_to_the_limit_is_geometric(desk, gamma, orders, limit):
    """Against a model in exact arithmetic: h_next >= (1 - gamma) x h at the step's beginning, and never below 0."""
    barrier = BarrierLimit(gamma_bps=gamma, window_ms=60_000)
    scope = f"agent:{next(desk.names)}"
    taken, step, start = 0, None, 0
    for amount, pause_s in orders:
        desk.clock.now_us += pause_s * 1_000_000
        now_step = desk.clock.now_us // 60_000_000
        begin = taken if now_step != step else start
        h_next, h_then = limit - taken - amount, limit - begin
        fits = amount == 0 or (h_next >= 0 and h_next * 10_000 >= (10_000 - gamma) * h_then)
        verdict = await desk.admit(claims=[barred(amount, limit=limit, barrier=barrier, scope=scope)])
        assert isinstance(verdict, Reservation) == fits
        if fits:
            taken, step, start = taken + amount, now_step, begin
    assert desk.balance(scope, Unit.EXPOSURE) == (taken, 0)


# Clocks

YEAR_US = 366 * 86_400 * 1_000_000


async def test_a_clock_that_was_far_ahead_for_a_moment_does_not_stop_messages_for_good(desk):
    orders, cancels = msgspec.structs.replace(RATE, burst_max=5), msgspec.structs.replace(CANCEL, burst_max=5)
    desk.clock.now_us += YEAR_US
    await desk.reserve(guards=[orders])
    desk.clock.now_us -= YEAR_US
    # The number counts as the most that could be true: one passes, then one each interval, and cancels have theirs.
    assert [await reason(desk, guards=[orders]) for _ in range(3)] == ["", "limit.rate", "limit.rate"]
    assert [await reason(desk, guards=[cancels]) for _ in range(3)] == ["", "", "limit.rate"]
    desk.clock.now_us += 3_000_000
    assert [await reason(desk, guards=[orders]) for _ in range(2)] == ["", "limit.rate"]
    desk.clock.now_us += 10_000_000
    assert [await reason(desk, guards=[orders]) for _ in range(4)] == ["", "", "", "limit.rate"]


async def test_clocks_that_are_a_little_apart_give_nobody_more_messages(desk):
    """Two instances whose clocks are as far apart as they may be, in turn, against one that is right."""
    passed = 0
    for turn in range(40):
        ahead_us = 5_000_000 * (turn % 2)
        desk.clock.now_us += ahead_us
        passed += await reason(desk, guards=[RATE]) == ""
        desk.clock.now_us -= ahead_us
    assert passed <= RATE.pace.burst + 5


async def test_what_cancels_took_of_the_rate_is_no_sign_of_a_wrong_clock(desk):
    slow = Pace(interval_us=60_000_000, burst=1)
    orders = msgspec.structs.replace(RATE, pace=slow, burst_max=4)
    for _ in range(4):
        await desk.reserve(guards=[msgspec.structs.replace(orders, pace=msgspec.structs.replace(slow, burst=4))])
    assert await reason(desk, guards=[orders]) == "limit.rate"


async def test_a_clock_that_goes_back_makes_no_second_order(desk):
    long = msgspec.structs.replace(SIMILAR, window_ms=60_000)
    await desk.reserve(guards=[long])
    desk.clock.now_us -= 50_000_000
    assert await reason(desk, guards=[long]) == "limit.duplicate"
    desk.clock.now_us += 50_000_000 + 60_000_000
    assert await reason(desk, guards=[long]) == ""


async def test_an_order_that_a_wrong_clock_saw_is_no_first_of_two_for_good(desk):
    desk.clock.now_us += YEAR_US
    await desk.reserve(guards=[SIMILAR])
    desk.clock.now_us -= YEAR_US
    assert [await reason(desk, guards=[SIMILAR]) for _ in range(2)] == ["", "limit.duplicate"]


async def test_a_latch_counts_executions_and_resets_by_the_clock_that_is_right(desk):
    desk.clock.now_us += YEAR_US
    for _ in range(3):
        await desk.reserve(guards=[LATCH])
    reset = Reset(scope=PLACE, reason="fixed", by="eve")
    await desk.ledger.reset_latch(reset, desk.records.unlatched(reset, act()))
    desk.clock.now_us -= YEAR_US
    assert [await reason(desk, guards=[LATCH]) for _ in range(4)] == ["", "", "", "limit.latched"]


async def test_a_barrier_goes_on_with_the_step_of_a_clock_that_goes_back_and_not_with_one_of_next_year(desk):
    desk.clock.now_us += 30_000_000
    assert [await reason(desk, claims=[barred(500)]), await reason(desk, claims=[barred(1)])] == ["", "limit.barrier"]
    desk.clock.now_us -= 40_000_000
    assert await reason(desk, claims=[barred(1)]) == "limit.barrier"
    other = "agent:other"
    desk.clock.now_us += YEAR_US
    assert await reason(desk, claims=[barred(500, scope=other)]) == ""
    desk.clock.now_us -= YEAR_US
    assert await reason(desk, claims=[barred(251, scope=other)]) == "limit.barrier"
    assert await reason(desk, claims=[barred(250, scope=other)]) == ""


# All together


EVERYTHING = [RATE, SIMILAR, LATCH]
ONE_A_SECOND = Rate(scope="agent:full@paper", pace=Pace(interval_us=1_000_000, burst=1))


@pytest.mark.parametrize(
    "stopper",
    [
        {"claims": [barred(100), claim(scope="agent:trader", limit=0)]},
        {"claims": [barred(600)]},
        {"guards": [*EVERYTHING, ONE_A_SECOND]},
        {"guards": [*EVERYTHING, msgspec.structs.replace(SIMILAR, scope="account:taken")]},
        {"guards": [*EVERYTHING, msgspec.structs.replace(LATCH, scope="agent:latched/place_order", executions=1)]},
    ],
    ids=["budget", "barrier", "rate", "duplicate", "latch"],
)
async def test_a_refused_admission_changes_nothing_of_any_guard(desk, stopper):
    await desk.reserve(guards=[msgspec.structs.replace(SIMILAR, scope="account:taken"), ONE_A_SECOND])
    await desk.reserve(guards=[msgspec.structs.replace(LATCH, scope="agent:latched/place_order", executions=1)])
    before, records = guards_stored(desk), len(desk.records_stored())
    wanted = {"claims": [barred(100)], "guards": EVERYTHING} | stopper
    assert await reason(desk, **wanted)
    assert guards_stored(desk) == before
    assert len(desk.records_stored()) == records
    assert await reason(desk, claims=[barred(100)], guards=EVERYTHING) == ""


async def test_weighing_says_what_admitting_says_and_changes_nothing(desk):
    wanted = {"claims": [barred(200), claim(limit=3)], "guards": EVERYTHING}
    for _ in range(5):
        before, records = guards_stored(desk), len(desk.records_stored())
        weighed = await desk.ledger.weigh(desk.admission(**wanted))
        assert (guards_stored(desk), len(desk.records_stored())) == (before, records)
        admitted = await desk.admit(**wanted)
        assert weighed == (admitted if isinstance(admitted, Refusal) else None)
        desk.clock.now_us += 1_000_000
    await desk.halt("all")
    assert (await desk.ledger.weigh(desk.admission())).reason == "halt.engaged"


async def test_positions_are_refused_as_limits_and_given_back_below_zero(desk):
    position = claim(scope="agent:trader/AAPL", unit=Unit.POSITION, window="total", limit=10, amount=11)
    refusal = await desk.admit(claims=[position])
    assert (refusal.kind, refusal.reason, refusal.rules) == (Kind.FORBIDDEN, "limit.position", ("limit.position",))
    for told in ("agent:trader/AAPL", "10 position_nano", "needs 11"):
        assert told in refusal.sentence
    sale = await desk.reserve(claims=[msgspec.structs.replace(position, amount=0)])
    await desk.settle(sale, Succeeded(result=b"{}", charges=((Unit.POSITION, -4),)))
    assert desk.balance("agent:trader/AAPL", Unit.POSITION) == (0, -4)
