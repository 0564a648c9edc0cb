"""Agents with different limits on one account: no profile's windows loosen what another profile bounds.

Rows that agents share are read with parameters that they do not share. Each test is run in one file, and over two
instances on one PostgreSQL; the models are naive lists of all that ever happened.
"""

import asyncio
import struct
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_calls import StillClock, act, claim
from made_desks import PostgresDesk, SqliteDesk

from gateway.ledger import sightings
from gateway.terms.latches import Reset
from gateway.terms.limits import BarrierLimit
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Failure, Latch, Reservation, Similar, Succeeded
from gateway.terms.verdict import Refusal

NO = Failure(reason="venue.rejected", message="The venue said no.")
ACCOUNT = "account:paper/desk"
LONG = Similar(scope=ACCOUNT, digest=b"\x07" * 32, window_ms=60_000)
SHORT = msgspec.structs.replace(LONG, window_ms=1_000)
NEAR = msgspec.structs.replace(SHORT, digest=b"\x07" + b"\x01" * 31)
"""Another order, whose sightings are in the same row."""
SLOW = BarrierLimit(gamma_bps=5_000, window_ms=60_000)
FAST = BarrierLimit(gamma_bps=5_000, window_ms=1_000)
SECOND_US = 1_000_000
FIRST_VERSION = struct.Struct(">16s8sq")
"""A sighting as the first version wrote and read it."""


@dataclass
class Pair:
    """One instance or two on the same tables and with the same clock; each admission is another one's turn."""

    desks: list
    clock: StillClock
    turns: object = field(default_factory=count)
    names: object = field(default_factory=lambda: count(1))

    async def admit(self, **wanted):
        desk = self.desks[next(self.turns) % len(self.desks)]
        return desk, await desk.admit(**wanted)

    async def reason(self, **wanted):
        """Why it is refused; empty for a reservation."""
        _, verdict = await self.admit(**wanted)
        return verdict.reason if isinstance(verdict, Refusal) else ""

    async def do(self, outcome, **wanted):
        desk, reservation = await self.admit(**wanted)
        assert isinstance(reservation, Reservation), reservation
        await desk.settle(reservation, outcome)


def one_file(request, clock):
    return [SqliteDesk(request.getfixturevalue("tmp_path") / "ledger.db", clock=clock)]


def two_instances(request, clock):
    url = request.getfixturevalue("postgres_url")
    return [PostgresDesk(url, clock=clock, instance=f"gateway-{number}", names=named(number)) for number in range(2)]


def named(number):
    """Names for operations that no other instance gives."""
    return (f"op-{number}-{turn}" for turn in count(1))


@pytest.fixture(params=[one_file, two_instances])
def closed_pair(request):
    clock = StillClock()
    return Pair(request.param(request, clock), clock)


@pytest.fixture
async def pair(closed_pair):
    async with AsyncExitStack() as stack:
        for desk in closed_pair.desks:
            await stack.enter_async_context(desk.open())
        yield closed_pair
    assert closed_pair.desks[0].verified().ok
    assert closed_pair.desks[0].checked() == ()


def barred(amount, barrier=SLOW, limit=1_000, steps_ms=(), scope=ACCOUNT):
    made = claim(scope=scope, unit=Unit.EXPOSURE, window="total", limit=limit, amount=amount)
    return msgspec.structs.replace(made, barrier=barrier, steps_ms=steps_ms)


def held(pair, scope=ACCOUNT):
    return pair.desks[0].balance(scope, Unit.EXPOSURE)[0]


# Barriers


@pytest.mark.parametrize("other", [0, 1])
async def test_the_shorter_steps_of_another_agent_begin_no_longer_one_anew(pair, other):
    """Nor do its sales, which take nothing: 500 of 1,000 is all that a minute may take."""
    assert await pair.reason(claims=[barred(500 - 8 * other)]) == ""
    for _ in range(8):
        pair.clock.now_us += SECOND_US
        assert await pair.reason(claims=[barred(other, FAST)]) == ""
        assert await pair.reason(claims=[barred(50)]) == "limit.barrier"
    assert held(pair) == 500
    pair.clock.now_us += 60 * SECOND_US
    assert [await pair.reason(claims=[barred(amount)]) for amount in (251, 250)] == ["limit.barrier", ""]


async def test_the_longer_step_of_another_agent_does_not_hold_up_a_shorter_one(pair):
    assert await pair.reason(claims=[barred(100)]) == ""
    assert [await pair.reason(claims=[barred(amount, FAST)]) for amount in (450, 1)] == ["", "limit.barrier"]
    pair.clock.now_us += SECOND_US
    assert [await pair.reason(claims=[barred(amount, FAST)]) for amount in (225, 1)] == ["", "limit.barrier"]


@pytest.mark.parametrize("barrier", [FAST, None], ids=["shorter", "none"])
async def test_what_another_agent_took_first_is_taken_in_the_same_step(pair, barrier):
    """Also one that no barrier binds: the step began before it came."""
    steps = (FAST.window_ms, SLOW.window_ms)
    assert await pair.reason(claims=[barred(300, barrier, steps_ms=steps)]) == ""
    pair.clock.now_us += 2 * SECOND_US
    assert [await pair.reason(claims=[barred(amount, steps_ms=steps)]) for amount in (201, 200, 1)] == [
        "limit.barrier",
        "",
        "limit.barrier",
    ]


async def test_what_adds_nothing_notes_no_beginning(pair):
    await pair.do(Succeeded(result=b"{}", charges=((Unit.EXPOSURE, -10),)), claims=[barred(0, steps_ms=(1_000,))])
    assert pair.desks[0].rows("SELECT * FROM barriers") == []


async def test_each_length_of_step_has_one_row_however_many_come(pair):
    for _ in range(5):
        assert await pair.reason(claims=[barred(10, FAST, steps_ms=(1_000, 60_000))]) == ""
        pair.clock.now_us += 61 * SECOND_US
    kept = pair.desks[0].rows("SELECT scope, unit, time_window, taken FROM barriers ORDER BY time_window")
    assert kept == [(ACCOUNT, Unit.EXPOSURE.value, f"total/{each}ms", 40) for each in (1_000, 60_000)]


async def test_agents_of_two_profiles_that_race_take_what_one_step_has(pair):
    """Whoever comes first: both steps began before anyone came."""
    pair.clock.now_us += 30 * SECOND_US
    both = (FAST.window_ms, SLOW.window_ms)
    wanted = [barred(10, barrier, steps_ms=both) for barrier in [SLOW] * 50 + [FAST] * 50]
    found = Counter(await asyncio.gather(*(pair.reason(claims=[one]) for one in wanted)))
    assert found == {"": 50, "limit.barrier": 50}


@dataclass(frozen=True)
class Profile:
    """What one agent may take of an exposure that all share."""

    barrier: BarrierLimit | None
    limit: int


@dataclass
class Takings:
    """All that was ever taken of it, one after the other: when, and what had been taken before.

    What is below zero, as older gateways left it, makes no room: it counts as zero.
    """

    taken: int = 0
    events: list = field(default_factory=list)

    def allows(self, profile, amount, now_us):
        """In exact arithmetic: h afterwards is at least (1 - gamma) x h at the step's beginning, and never below 0."""
        left = profile.limit - max(0, self.taken) - amount
        if amount == 0 or profile.barrier is None or left < 0:
            return amount == 0 or left >= 0
        began = now_us - now_us % (profile.barrier.window_ms * 1_000)
        then = profile.limit - next((before for at, before in self.events if at >= began), max(0, self.taken))
        return left * 10_000 >= (10_000 - profile.barrier.gamma_bps) * then

    def take(self, amount, now_us):
        if amount > 0:
            self.events.append((now_us, max(0, self.taken)))
        self.taken += amount


PROFILES = st.lists(
    st.builds(
        Profile,
        st.one_of(
            st.none(),
            st.builds(BarrierLimit, gamma_bps=st.integers(1, 10_000), window_ms=st.sampled_from([1, 1_000, 60_000])),
        ),
        st.sampled_from([500, 1_000, 1_700]),
    ),
    min_size=2,
    max_size=4,
)
PAUSES_US = st.sampled_from([0, 0, 0, 700, 400_000, 2_500_000, 61_000_000])
ORDERS = st.lists(st.tuples(PAUSES_US, st.integers(0, 3), st.integers(-150, 300)), min_size=2, max_size=16)
MODEL = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@MODEL
@given(PROFILES, ORDERS)
async def test_many_barriers_before_one_exposure_agree_with_a_list_of_all_takings(pair, profiles, orders):
    scope, takings = f"account:{next(pair.names)}", Takings()
    windows = tuple({one.barrier.window_ms for one in profiles if one.barrier is not None})
    for pause_us, turn, amount in orders:
        pair.clock.now_us += pause_us
        profile = profiles[turn % len(profiles)]
        wanted = barred(max(0, amount), profile.barrier, profile.limit, windows, scope)
        desk, verdict = await pair.admit(claims=[wanted])
        allowed = takings.allows(profile, wanted.amount, pair.clock.now_us)
        assert isinstance(verdict, Reservation) == allowed
        if allowed:
            takings.take(amount, pair.clock.now_us)
        if allowed and amount:
            await desk.settle(verdict, Succeeded(result=b"{}", charges=((Unit.EXPOSURE, amount),)))
    assert sum(pair.desks[0].balance(scope, Unit.EXPOSURE)) == takings.taken


# Duplicates and latches


async def test_the_shorter_window_of_another_agent_forgets_no_order(pair):
    assert await pair.reason(guards=[LONG]) == ""
    pair.clock.now_us += 5 * SECOND_US
    assert [await pair.reason(guards=[one]) for one in (LONG, NEAR, LONG)] == ["limit.duplicate", "", "limit.duplicate"]
    pair.clock.now_us += 55 * SECOND_US - 1
    assert await pair.reason(guards=[LONG]) == "limit.duplicate"
    pair.clock.now_us += 1
    assert await pair.reason(guards=[LONG]) == ""


async def test_each_agent_looks_back_for_its_own_window(pair):
    assert await pair.reason(guards=[LONG]) == ""
    pair.clock.now_us += 5 * SECOND_US
    assert [await pair.reason(guards=[SHORT]) for _ in range(2)] == ["", "limit.duplicate"]
    assert await pair.reason(guards=[LONG]) == "limit.duplicate"


@pytest.mark.parametrize("window_ms", [1_000, 0])
async def test_a_longer_window_sees_what_an_agent_with_a_shorter_one_did(pair, window_ms):
    """Also of an agent that looks back for nothing, whatever else came into the row since."""
    unseeing = msgspec.structs.replace(LONG, window_ms=window_ms, kept_ms=LONG.window_ms)
    assert await pair.reason(guards=[unseeing]) == ""
    pair.clock.now_us += 5 * SECOND_US
    assert [await pair.reason(guards=[one]) for one in (NEAR, LONG, unseeing)] == ["", "limit.duplicate", ""]


async def test_of_agents_of_two_profiles_that_race_in_one_row_none_forgets_the_others_order(pair):
    assert await pair.reason(guards=[LONG]) == ""
    pair.clock.now_us += 5 * SECOND_US
    found = Counter(await asyncio.gather(*(pair.reason(guards=[one]) for one in (NEAR, LONG) * 30)))
    assert found == {"": 1, "limit.duplicate": 59}


async def test_who_looks_back_for_nothing_is_stopped_by_no_clock_that_is_ahead(pair):
    unseeing = msgspec.structs.replace(LONG, window_ms=0, kept_ms=LONG.window_ms)
    assert await pair.reason(guards=[unseeing]) == ""
    pair.clock.now_us -= 5_000
    assert await pair.reason(guards=[unseeing]) == ""


async def test_a_row_is_crowded_until_its_first_sighting_is_nobodys(pair, monkeypatch):
    monkeypatch.setattr(sightings, "ENTRIES_MAX", 2)
    assert await pair.reason(guards=[LONG]) == ""
    pair.clock.now_us += 5 * SECOND_US
    assert await pair.reason(guards=[NEAR]) == ""
    third = msgspec.structs.replace(NEAR, digest=b"\x07" + b"\x02" * 31)
    _, refusal = await pair.admit(guards=[third])
    assert (refusal.reason, refusal.retry_after_ms) == ("limit.crowded", 1_000)
    pair.clock.now_us += SECOND_US
    assert await pair.reason(guards=[third]) == ""
    assert await pair.reason(guards=[LONG]) == "limit.duplicate"


async def test_sightings_of_a_first_version_are_kept_for_the_longest_window_that_asks(pair, monkeypatch):
    """In its bytes nothing says how long: what the gateway that took over knows of all profiles counts."""
    with monkeypatch.context() as before:
        before.setattr(sightings, "written", lambda kept: b"".join(FIRST_VERSION.pack(*one[:3]) for one in kept))
        assert await pair.reason(guards=[LONG]) == ""
    assert pair.desks[0].rows("SELECT length(entries) FROM sightings") == [(FIRST_VERSION.size,)]
    pair.clock.now_us += 5 * SECOND_US
    assert await pair.reason(guards=[LONG]) == "limit.duplicate"
    assert await pair.reason(guards=[msgspec.structs.replace(NEAR, kept_ms=LONG.window_ms)]) == ""
    assert await pair.reason(guards=[LONG]) == "limit.duplicate"


async def test_a_first_version_reads_what_this_one_writes(pair):
    """While both run on one database: their orders are told apart and found by kind, operation and time."""
    first_us = pair.clock.now_us
    assert await pair.reason(guards=[LONG]) == ""
    pair.clock.now_us += SECOND_US
    assert await pair.reason(guards=[NEAR]) == ""
    [(entries,)] = pair.desks[0].rows("SELECT entries FROM sightings")
    old = [(kind, at_us) for kind, _, at_us in FIRST_VERSION.iter_unpack(bytes(entries))]
    for guard, at_us in ((LONG, first_us), (NEAR, pair.clock.now_us)):
        assert [at for kind, at in old if kind == guard.digest[:16]] == [at_us]
    # What it does not know comes with the time of the latest that it is about, and so is not dropped before them.
    known = {LONG.digest[:16], NEAR.digest[:16]}
    assert sorted(at for kind, at in old if kind not in known) == [first_us, pair.clock.now_us]


@dataclass(frozen=True)
class Agent:
    """How one agent is guarded on the account that all share."""

    window_ms: int
    executions: int
    repeats_ms: int


@dataclass
class Seen:
    """All that was ever executed, but for what is known to have failed."""

    orders: list = field(default_factory=list)
    executed: list = field(default_factory=list)
    latched: dict = field(default_factory=dict)

    def reason(self, turn, agent, digest, now_us):
        if any(one == digest and at > now_us - agent.window_ms * 1_000 for at, one in self.orders):
            return "limit.duplicate"
        return "limit.latched" if self.latched.get(turn) else ""

    def add(self, turn, agent, digest, now_us):
        self.executed.append((now_us, turn, digest))
        since_us = now_us - agent.repeats_ms * 1_000
        alike = [at for at, whose, one in self.executed if (whose, one) == (turn, digest) and at > since_us]
        self.latched[turn] = len(alike) >= agent.executions

    def reset(self, turn):
        self.latched[turn] = False
        self.executed = [one for one in self.executed if one[1] != turn]


AGENTS = st.lists(
    st.builds(Agent, st.sampled_from([0, 1, 1_000, 60_000]), st.integers(1, 6), st.sampled_from([1_000, 60_000])),
    min_size=2,
    max_size=4,
)
TRADES = st.lists(
    st.tuples(PAUSES_US, st.integers(0, 3), st.sampled_from([b"\x07\x01", b"\x07\x02", b"\x08\x01"]), st.booleans()),
    min_size=2,
    max_size=16,
)


@MODEL
@given(AGENTS, TRADES)
async def test_many_windows_on_one_account_agree_with_a_list_of_all_orders(pair, agents, trades):
    name, seen = next(pair.names), Seen()
    kept_ms = max(agent.window_ms for agent in agents)
    for pause_us, place, start, fails in trades:
        pair.clock.now_us += pause_us + 1
        turn, digest = place % len(agents), start * 16
        agent, latch = agents[turn], f"agent:{name}-{turn}/place_order"
        similar = Similar(scope=f"account:{name}", digest=digest, window_ms=agent.window_ms, kept_ms=kept_ms)
        repeats = Latch(scope=latch, digest=digest, executions=agent.executions, window_ms=agent.repeats_ms)
        desk, verdict = await pair.admit(guards=[similar, repeats])
        expected = seen.reason(turn, agent, digest, pair.clock.now_us)
        assert (verdict.reason if isinstance(verdict, Refusal) else "") == expected
        if expected == "limit.latched":
            wanted = Reset(scope=latch, reason="looked at", by="eve")
            assert await desk.ledger.reset_latch(wanted, desk.records.unlatched(wanted, act(about=latch)))
            seen.reset(turn)
        elif not expected:
            seen.add(turn, agent, digest, pair.clock.now_us)
            if fails:
                await desk.settle(verdict, Failed(failure=NO))
            else:
                seen.orders.append((pair.clock.now_us, digest))
