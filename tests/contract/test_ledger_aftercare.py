"""Aftercare and oversight on every backend: leases, fences, findings, switches, and what operators see."""

import asyncio
from dataclasses import replace

import msgspec
import pytest
from made_calls import NOON_US, OPERATOR, PLACE_ORDER, act, chat_ask, claim, rooms, tool_ask

from gateway.ledger.halts import Setting
from gateway.terms.aftercare import Room
from gateway.terms.faults import AlreadySettledError, SettlementError
from gateway.terms.money import Unit
from gateway.terms.operations import Aftercare, Failed, Failure, Loss, State, Succeeded, Unknown
from gateway.terms.overview import Halt, Page

NOBODY_KNOWS = Failure(reason="upstream.timeout", message="No reply came.")
NO = Failure(reason="venue.order_canceled", message="It ended.")
SECOND_US = 1_000_000


async def doubted(desk, look_us=NOON_US + SECOND_US, **wanted):
    """An operation whose outcome nobody knows, to be looked for at that moment."""
    reservation = await desk.reserve(**({"claims": [claim(limit=100, amount=3)]} | wanted))
    settlement = desk.settlement(reservation, Unknown(failure=NOBODY_KNOWS))
    await desk.ledger.settle(msgspec.structs.replace(settlement, look_unix_us=look_us))
    return reservation


async def opened(desk, look_us=NOON_US + SECOND_US, charged=2):
    """An effect that goes on."""
    reservation = await desk.reserve(claims=[claim(amount=3)])
    outcome = Succeeded(result=b'{"status":"new"}', charges=((Unit.CALLS, charged),), live=True)
    await desk.ledger.settle(msgspec.structs.replace(desk.settlement(reservation, outcome), look_unix_us=look_us))
    return reservation


async def take(desk, seconds=2, most=10, lease_ms=60_000):
    desk.clock.now_us += int(seconds * SECOND_US)
    return await desk.ledger.take(rooms(most), lease_ms=lease_ms)


async def conclude(desk, watched, outcome, look_us=None):
    return await desk.ledger.conclude(watched, outcome, desk.records.finding(watched, outcome), look_us)


async def show(desk, operation):
    return await desk.ledger.shown(operation)


async def test_what_is_due_is_given_to_one_owner(desk):
    await doubted(desk)
    assert await take(desk, seconds=0.5) == ()
    taken = await asyncio.gather(*(take(desk, seconds=0.6) for _ in range(5)))
    [[watched]] = [one for one in taken if one]
    assert (watched.operation.state, watched.lost, watched.memo) == (State.RECONCILING, True, b"memo")
    assert (dict(watched.held), watched.looks, watched.withdraw, watched.fence) == ({Unit.CALLS: 3}, 0, False, 2)
    assert desk.balance() == (3, 0)
    assert await take(desk, seconds=30) == ()


async def test_as_many_as_asked_for_are_taken_the_oldest_first(desk):
    reservations = [await doubted(desk) for _ in range(5)]
    first, second = await take(desk, most=3), await take(desk, most=3)
    assert [one.operation.id for one in (*first, *second)] == [one.operation for one in reservations]


async def test_what_is_longest_due_is_taken_first_however_old_it_is(desk):
    """Or the oldest, asked for in vain again and again, would keep all that came after them."""
    due = {seconds: (await doubted(desk, NOON_US + seconds * SECOND_US)).operation for seconds in (5, 3, 4, 1, 2)}
    for seconds in (1, 2, 3):
        (watched,) = await take(desk, seconds=9, most=1)
        assert watched.operation.id == due[seconds]
        await desk.ledger.postpone(watched, desk.clock.now_us + SECOND_US)
    assert [one.operation.id for one in await take(desk, seconds=9)] == [due[one] for one in (4, 5, 1, 2, 3)]


async def test_each_room_is_filled_for_itself(desk):
    """However much is due of one kind, it takes nothing of another's room."""
    book, pay = replace(PLACE_ORDER, name="book_flight"), replace(PLACE_ORDER, name="pay_bill")
    orders = [(await doubted(desk)).operation for _ in range(5)]
    flights = [(await doubted(desk, ask=tool_ask(key=f"f-{n}", tool=book))).operation for n in range(2)]
    bill = (await doubted(desk, ask=tool_ask(key="b", tool=pay))).operation
    known = ("place_order", "book_flight")
    desk.clock.now_us += 2 * SECOND_US

    async def took(most, withdraw=False, **kind):
        taken = await desk.ledger.take((Room(withdraw=withdraw, most=most, **kind),), lease_ms=1)
        return [one.operation.id for one in taken]

    every = tuple(
        Room(withdraw=False, most=1, tools=tools, other_tools=others)
        for tools, others in ((("book_flight",), False), (known, True), (("place_order",), False))
    )
    taken = await desk.ledger.take(every, lease_ms=60_000)
    assert [one.operation.id for one in taken] == [flights[0], bill, orders[0]]
    assert await took(9, withdraw=True) == []
    assert await took(9, tools=known) == []
    assert await took(9, tools=(), other_tools=False) == []
    assert await took(9, tools=("book_flight",), other_tools=False) == flights[1:]
    assert await took(9, tools=("book_flight",)) == orders[1:]
    assert await desk.ledger.take((), lease_ms=1) == ()


async def test_what_is_to_be_withdrawn_has_room_of_its_own(desk):
    halted = await doubted(desk)
    await desk.halt("all")
    looked_for = await doubted_outside(desk)
    desk.clock.now_us += 2 * SECOND_US
    taken = await desk.ledger.take(tuple(reversed(rooms(1))), lease_ms=60_000)
    assert [(one.operation.id, one.withdraw) for one in taken] == [
        (looked_for.operation, False),
        (halted.operation, True),
    ]


async def doubted_outside(desk):
    """One that no halt is for."""
    desk.care = msgspec.structs.replace(desk.care, halts=())
    return await doubted(desk, look_us=NOON_US)


@pytest.mark.parametrize(
    "outcome, state, spent",
    [
        (Succeeded(result=b"{}"), State.SUCCEEDED, 3),
        (Succeeded(result=b"{}", charges=((Unit.CALLS, 1),)), State.SUCCEEDED, 1),
        (Failed(failure=NO), State.FAILED, 0),
        (Failed(failure=NO, charges=((Unit.CALLS, 1),)), State.FAILED, 1),
    ],
)
async def test_what_is_found_out_is_charged_once(desk, outcome, state, spent):
    reservation = await doubted(desk)
    (watched,) = await take(desk)
    operation = await conclude(desk, watched, outcome)
    assert (operation.state, operation.result) == (state, b"{}" if state is State.SUCCEEDED else b"")
    assert desk.balance() == (0, spent)
    assert desk.records_stored()[-1]["kind"] == "reconciled"
    for again in (conclude(desk, watched, outcome), desk.ledger.postpone(watched, 1)):
        with pytest.raises(AlreadySettledError):
            await again
    assert desk.balance() == (0, spent)
    shown = await show(desk, reservation.operation)
    assert (shown.look_unix_us, shown.needs_person, shown.live) == (None, False, False)
    assert await take(desk, seconds=86_400) == ()


async def test_what_is_not_known_yet_is_asked_for_again_and_then_left_to_a_person(desk):
    reservation = await doubted(desk)
    (watched,) = await take(desk)
    assert (await desk.ledger.postpone(watched, desk.clock.now_us + 5 * SECOND_US)).state is State.UNKNOWN
    assert await take(desk, seconds=4) == ()
    (watched,) = await take(desk, seconds=2)
    assert watched.looks == 1
    await desk.ledger.postpone(watched, None)
    shown = await show(desk, reservation.operation)
    assert (shown.needs_person, shown.looks) == (True, 2)
    assert desk.balance() == (3, 0)
    assert await take(desk, seconds=86_400) == ()
    assert [one.operation.id for one in await desk.ledger.listed(Page(needs_person=True, size=9))] == [
        reservation.operation
    ]


async def test_an_owner_whose_lease_ended_is_fenced_out(desk):
    await doubted(desk)
    (paused,) = await take(desk, lease_ms=1_000)
    desk.clock.now_us += 2 * SECOND_US
    assert await desk.ledger.expire() == (paused.operation.id,)
    with pytest.raises(AlreadySettledError):
        await conclude(desk, paused, Failed(failure=NO))
    (other,) = await take(desk, seconds=0)
    with pytest.raises(AlreadySettledError):
        await conclude(desk, paused, Failed(failure=NO))
    assert (await conclude(desk, other, Succeeded(result=b"{}"))).state is State.SUCCEEDED
    assert desk.balance() == (0, 3)


async def test_a_lease_that_ends_makes_an_effect_unknown_and_due(desk):
    reservation = await desk.reserve(claims=[claim(amount=3)])
    desk.clock.now_us += 29 * SECOND_US
    assert await desk.ledger.expire() == ()
    desk.clock.now_us += 2 * SECOND_US
    assert await desk.ledger.expire() == (reservation.operation,)
    with pytest.raises(AlreadySettledError):
        await desk.settle(reservation)
    (watched,) = await take(desk, seconds=0)
    assert watched.operation.failure.reason == "operation.lost"
    assert desk.balance() == (3, 0)


async def test_a_stream_that_nobody_ended_is_charged_in_full(desk):
    reservation = await desk.reserve(ask=chat_ask(), claims=[claim(amount=3)])
    desk.clock.now_us += 31 * SECOND_US
    await desk.ledger.expire()
    assert desk.balance() == (0, 3)
    shown = await show(desk, reservation.operation)
    assert (shown.operation.state, shown.operation.failure.reason) == (State.FAILED, "operation.charged_in_full")
    with pytest.raises(AlreadySettledError):
        await desk.settle(reservation)
    assert await take(desk) == ()
    assert desk.balance() == (0, 3)


async def test_without_anybody_to_ask_a_person_decides(desk):
    desk.care = Aftercare(loss=Loss.PERSON)
    reservation = await doubted(desk)
    assert await take(desk, seconds=86_400) == ()
    assert (await show(desk, reservation.operation)).needs_person


# Effects that go on


async def test_an_effect_that_goes_on_is_followed_and_charged_for_what_it_was(desk):
    reservation = await opened(desk)
    assert desk.balance() == (0, 2)
    (watched,) = await take(desk)
    assert (watched.lost, dict(watched.held)) == (False, {Unit.CALLS: 3})
    records = len(desk.records_stored())
    still = Succeeded(result=b"{}", charges=((Unit.CALLS, 2),), live=True)
    await conclude(desk, watched, still, desk.clock.now_us + SECOND_US)
    assert len(desk.records_stored()) == records  # nothing changed, so there is nothing to tell
    (watched,) = await take(desk)
    assert watched.looks == 1
    less = Succeeded(result=b"{}", charges=((Unit.CALLS, 1),), live=True)
    operation = await conclude(desk, watched, less, desk.clock.now_us + SECOND_US)
    assert (operation.state, operation.result, desk.balance()) == (State.SUCCEEDED, b'{"status":"new"}', (0, 1))
    (watched,) = await take(desk)
    operation = await conclude(desk, watched, Failed(failure=NO))
    assert (operation.state, operation.failure, desk.balance()) == (State.SUCCEEDED, None, (0, 0))
    with pytest.raises(AlreadySettledError):
        await conclude(desk, watched, Failed(failure=NO))
    assert await take(desk, seconds=86_400) == ()
    assert [record["kind"] for record in desk.records_stored()[-2:]] == ["followed", "followed"]
    assert not (await show(desk, reservation.operation)).live


async def test_who_follows_and_dies_is_followed_by_another(desk):
    await opened(desk)
    (dead,) = await take(desk, lease_ms=1_000)
    assert await take(desk, seconds=0.5) == ()
    (other,) = await take(desk, seconds=1)
    with pytest.raises(AlreadySettledError):
        await conclude(desk, dead, Failed(failure=NO))
    await conclude(desk, other, Failed(failure=NO))
    assert desk.balance() == (0, 0)


async def test_exposure_that_was_given_back_can_be_taken_again(desk):
    await opened(desk, charged=3)
    assert (await desk.admit(claims=[claim(amount=8)])).reason == "budget.calls"
    (watched,) = await take(desk)
    await conclude(desk, watched, Failed(failure=NO))
    await desk.reserve(claims=[claim(amount=8)])


# Switches


async def test_a_switch_is_seen_right_before_the_effect(desk):
    reservation = await desk.reserve()
    scopes = desk.care.halts
    assert await desk.ledger.stopped(reservation, scopes) is None
    await desk.halt("symbol:ACME", reason="news")
    refusal = await desk.ledger.stopped(reservation, scopes)
    assert (refusal.reason, "symbol:ACME: news" in refusal.sentence) == ("halt.engaged", True)
    assert await desk.ledger.stopped(reservation, ()) is None
    await desk.halt("symbol:ACME", engaged=False)
    assert await desk.ledger.stopped(reservation, scopes) is None
    desk.clock.now_us += 31 * SECOND_US
    await desk.ledger.expire()
    assert (await desk.ledger.stopped(reservation, scopes)).reason == "operation.lost"


async def test_a_switch_marks_what_is_open_in_its_scope_and_counts_it(desk):
    await desk.reserve(claims=[claim()])
    given_up = await doubted(desk, look_us=None, claims=[])
    later = await doubted(desk, look_us=NOON_US + 9_000 * SECOND_US)
    desk.care = msgspec.structs.replace(desk.care, loss=Loss.PERSON)
    await doubted(desk, look_us=None, claims=[])
    live = await opened(desk, look_us=NOON_US + 9_000 * SECOND_US)
    await desk.do(claims=[claim(amount=0)])
    await desk.halt("agent:other")
    assert await take(desk) == ()
    await desk.halt("agent:trader")
    (mine, other) = sorted(await desk.ledger.halts(), key=lambda one: one.halt.scope, reverse=True)
    assert (mine.running, mine.open, mine.needs_person) == (3, 1, 1)
    assert (other.running, other.open, other.needs_person) == (0, 0, 0)
    assert (mine.halt.by, mine.halt.engaged, mine.halt.set_unix_us) == (OPERATOR.name, True, desk.clock.now_us)
    taken = await take(desk, seconds=0)
    # Nobody found out what became of the first one: it may be open after all, so it is asked for once more.
    marked = [one.operation for one in (given_up, later, live)]
    assert [(one.operation.id, one.withdraw, one.looks) for one in taken] == [(name, True, 0) for name in marked]


async def test_a_switch_that_was_cut_off_before_it_marked_is_completed_by_the_next_sweep(desk):
    """An effect that began to go on without a mark, as after a crash between the two commits."""
    await desk.halt("all")
    desk.care = msgspec.structs.replace(desk.care, halts=())
    await opened(desk, look_us=NOON_US + 9_000 * SECOND_US)
    await desk.ledger.mark()
    assert await take(desk) == ()
    desk.care = msgspec.structs.replace(desk.care, halts=("symbol:ACME",))
    await opened(desk, look_us=NOON_US + 9_000 * SECOND_US)
    await write_switch(desk, "symbol:ACME")
    await desk.ledger.mark()
    (watched,) = await take(desk, seconds=0)
    assert watched.withdraw


async def write_switch(desk, scope):
    """The first of the two commits alone."""
    halt = Halt(scope=scope, engaged=True, reason="no", by="oncall")
    setting = Setting(halt, desk.records.halt(halt, act(about=scope)), desk.clock.now_us)
    await desk.ledger._opened.writer.do(setting)


async def test_what_is_open_only_after_the_switch_is_withdrawn_too(desk):
    running = await desk.reserve(claims=[claim()])
    await desk.halt("all")
    outcome = Succeeded(result=b"{}", live=True)
    settlement = msgspec.structs.replace(desk.settlement(running, outcome), look_unix_us=NOON_US + 9_000 * SECOND_US)
    await desk.ledger.settle(settlement)
    (watched,) = await take(desk, seconds=0)
    assert watched.withdraw


async def test_a_switch_that_is_set_while_somebody_looks_is_not_overlooked(desk):
    await opened(desk)
    (watched,) = await take(desk)
    await desk.halt("all")
    still = Succeeded(result=b"{}", charges=((Unit.CALLS, 2),), live=True)
    await conclude(desk, watched, still, desk.clock.now_us + 60 * SECOND_US)
    (again,) = await take(desk, seconds=0)
    assert again.withdraw


# What operators see and decide


async def test_an_operation_is_shown_whole(desk):
    reservation = await desk.reserve(claims=[claim(amount=3), claim(scope="team:desk", unit=Unit.TOKENS, amount=5)])
    shown = await show(desk, reservation.operation)
    assert (shown.operation.id, shown.kind, shown.run, shown.owner) == (
        reservation.operation,
        "tool",
        "run-1",
        "gateway-1",
    )
    assert shown.halts == desk.care.halts
    assert [(one.scope, one.unit, one.amount, one.charged, one.state) for one in shown.held] == [
        ("agent:trader", Unit.CALLS, 3, 0, "held"),
        ("team:desk", Unit.TOKENS, 5, 0, "held"),
    ]
    record = await desk.ledger.record(shown.operation.intent)
    assert reservation.operation.encode() in record
    nowhere = msgspec.structs.replace(shown.operation.intent, sequence=999)
    assert await desk.ledger.record(nowhere) is None
    assert await show(desk, "op-none") is None


async def test_lists_are_filtered_and_paged(desk):
    done = [(await desk.do()).id for _ in range(3)]
    lost = (await doubted(desk)).operation
    everything = await desk.ledger.listed(Page(size=9))
    assert [one.operation.id for one in everything] == [lost, *reversed(done)]
    first = await desk.ledger.listed(Page(size=2))
    second = await desk.ledger.listed(Page(size=2, before=first[-1].number))
    assert [one.operation.id for one in (*first, *second)] == [lost, *reversed(done)]
    only = await desk.ledger.listed(Page(size=9, states=(State.UNKNOWN, State.FAILED)))
    assert [one.operation.id for one in only] == [lost]
    assert await desk.ledger.listed(Page(size=9, needs_person=True)) == ()


async def resolve(desk, seen, outcome):
    record = desk.records.resolution(act("resolve_operation", seen.operation.id), seen, outcome, "the statement")
    return await desk.ledger.resolve(seen, outcome, record)


@pytest.mark.parametrize(
    "outcome, state, spent",
    [
        (Succeeded(result=b"{}"), State.SUCCEEDED, 3),
        (Succeeded(result=b"{}", charges=((Unit.CALLS, 0),)), State.SUCCEEDED, 0),
        (Failed(failure=NO), State.FAILED, 0),
    ],
)
async def test_a_person_decides_once(desk, outcome, state, spent):
    reservation = await doubted(desk)
    seen = await show(desk, reservation.operation)
    assert (await resolve(desk, seen, outcome)).state is state
    assert desk.balance() == (0, spent)
    for stale in (resolve(desk, seen, outcome), desk.settle(reservation)):
        with pytest.raises(AlreadySettledError):
            await stale
    assert await take(desk, seconds=86_400) == ()
    assert (desk.balance(), desk.records_stored()[-1]["kind"]) == ((0, spent), "resolved")


async def test_what_changed_meanwhile_is_not_decided(desk):
    reservation = await doubted(desk)
    seen = await show(desk, reservation.operation)
    (watched,) = await take(desk)
    with pytest.raises(AlreadySettledError):
        await resolve(desk, seen, Failed(failure=NO))
    await desk.ledger.postpone(watched, None)
    with pytest.raises(AlreadySettledError):
        await resolve(desk, seen, Failed(failure=NO))
    await resolve(desk, await show(desk, reservation.operation), Failed(failure=NO))


async def test_a_decision_cannot_give_back_what_is_not_exposure(desk):
    seen = await show(desk, (await doubted(desk)).operation)
    with pytest.raises(SettlementError):
        await resolve(desk, seen, Failed(failure=NO, charges=((Unit.CALLS, -1),)))
    assert desk.balance() == (3, 0)


async def test_a_repeat_gets_what_table_3_2_says_in_every_state(desk):
    ask = tool_ask(key="same")
    reservation = await desk.reserve(ask=ask, claims=[claim(amount=3)])
    assert (await desk.ledger.find(reservation.key, ask.digest)).reason == "operation.in_progress"
    settlement = desk.settlement(reservation, Unknown(failure=NOBODY_KNOWS))
    await desk.ledger.settle(msgspec.structs.replace(settlement, look_unix_us=NOON_US))
    assert (await desk.ledger.find(reservation.key, ask.digest)).operation.state is State.UNKNOWN
    (watched,) = await take(desk)
    assert (await desk.ledger.find(reservation.key, ask.digest)).operation.state is State.RECONCILING
    await conclude(desk, watched, Succeeded(result=b"{}"))
    assert (await desk.admit(ask=ask)).operation.state is State.SUCCEEDED
    assert (await desk.ledger.find(reservation.key, b"x" * 32)).reason == "operation.key_reused"
