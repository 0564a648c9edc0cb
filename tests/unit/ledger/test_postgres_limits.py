"""Limits over time where three instances on one PostgreSQL race: together they let pass what one would (row 24)."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace

import msgspec
import pytest
from made_accounts import LOST, SELL, SHORTS, Account, reason_of
from made_calls import act, claim
from made_desks import PostgresDesk

from gateway.ledger.postgres_link import connect
from gateway.ledger.postgres_schema import MIGRATIONS, migrate
from gateway.terms.gcra import Pace
from gateway.terms.latches import Reset
from gateway.terms.limits import BarrierLimit, Scopes
from gateway.terms.money import NANO, Unit
from gateway.terms.operations import Failed, Failure, Latch, Rate, Reservation, Similar
from gateway.terms.verdict import Refusal

RATE = Rate(scope="agent:trader@paper", pace=Pace(interval_us=10**9, burst=7))
SIMILAR = Similar(scope="account:paper/desk", digest=b"\x07" * 32, window_ms=60_000)
LATCH = Latch(scope="agent:trader/place_order", digest=b"\x09" * 32, executions=7, window_ms=60_000)
POSITION = claim(scope="agent:trader/AAPL", unit=Unit.POSITION, window="total", limit=23, amount=3)
HALF = BarrierLimit(gamma_bps=5_000, window_ms=60_000)
EXPOSURE = msgspec.structs.replace(claim(unit=Unit.EXPOSURE, window="total", limit=140, amount=10), barrier=HALF)


def instance(url, number):
    """A desk of its own, whose operations have names of their own."""
    names = (f"op-{number}-{count}" for count in range(1, 1_000_000))
    return PostgresDesk(url, instance=f"gateway-{number}", names=names)


@pytest.fixture
async def desks(postgres_url):
    async with AsyncExitStack() as stack:
        desks = [instance(postgres_url, number) for number in range(3)]
        for desk in desks:
            await stack.enter_async_context(desk.open())
        yield desks
    assert desks[0].verified().ok
    assert desks[0].checked() == ()


async def raced(desks, count=200, **wanted):
    """How many of so many admissions, spread over the instances, ended how."""
    verdicts = await asyncio.gather(*(desks[turn % 3].admit(**wanted) for turn in range(count)))
    return Counter(one.reason if isinstance(one, Refusal) else "" for one in verdicts)


@pytest.mark.parametrize(
    "wanted, granted, reason",
    [
        ({"guards": [RATE]}, 7, "limit.rate"),
        ({"guards": [SIMILAR]}, 1, "limit.duplicate"),
        ({"guards": [LATCH]}, 7, "limit.latched"),
        ({"claims": [POSITION]}, 7, "limit.position"),
        ({"claims": [EXPOSURE]}, 7, "limit.barrier"),
        ({"claims": [POSITION, EXPOSURE], "guards": [RATE, LATCH]}, 7, None),
    ],
    ids=["rate", "duplicate", "latch", "position", "barrier", "all"],
)
async def test_two_hundred_racing_calls_on_three_instances_get_exactly_what_is_there(desks, wanted, granted, reason):
    found = await raced(desks, **wanted)
    assert found[""] == granted
    assert reason is None or found == {"": granted, reason: 200 - granted}


async def test_three_instances_sell_together_exactly_what_the_account_holds(desks):
    """Each reads the ledger, asks the venue and admits by itself, and what is lost on one is counted by all."""
    account = Account(held=70)
    lost = await account.order(desks[2], SELL, 10)
    await desks[2].settle(lost, LOST)
    verdicts = await asyncio.gather(*(account.order(desks[turn % 3], SELL, 10) for turn in range(60)))
    found = Counter(map(reason_of, verdicts))
    assert found[""] == 6
    assert set(found) <= {"", "limit.uncovered", "limit.short_sale"}
    assert [reason_of(await account.order(desk, SELL, 1)) for desk in desks] == ["limit.short_sale"] * 3


async def test_three_instances_are_short_together_by_no_more_than_the_limit(desks):
    account = Account(limits=replace(SHORTS, position_max=Scopes(account=65 * NANO)))
    verdicts = await asyncio.gather(*(account.order(desks[turn % 3], SELL, 10) for turn in range(60)))
    assert Counter(map(reason_of, verdicts)) == {"": 6, "limit.position": 54}


async def test_a_latch_that_one_instance_engaged_another_shows_and_resets(desks):
    await raced(desks, guards=[LATCH])
    shown = await asyncio.gather(*(desk.ledger.latches() for desk in desks))
    assert [[one.scope for one in latches] for latches in shown] == [[LATCH.scope]] * 3
    wanted = Reset(scope=LATCH.scope, reason="fixed", by="eve")
    done = await asyncio.gather(
        *(desk.ledger.reset_latch(wanted, desk.records.unlatched(wanted, act())) for desk in desks)
    )
    assert sum(receipt is not None for receipt in done) == 1
    for desk in desks:
        desk.clock.now_us += 1
    assert (await raced(desks, guards=[LATCH]))[""] == 7


async def test_what_failed_at_one_instance_may_be_placed_at_another(desks):

    reservation = await desks[0].reserve(guards=[SIMILAR])
    await desks[0].settle(reservation, Failed(failure=Failure(reason="no", message="No.")))
    assert isinstance(await desks[1].admit(guards=[SIMILAR]), Reservation)


async def test_weighing_at_one_instance_takes_nothing_from_the_others(desks):
    weighed = await asyncio.gather(
        *(desk.ledger.weigh(desk.admission(guards=[RATE, SIMILAR])) for desk in desks for _ in range(20))
    )
    assert set(weighed) == {None}
    assert desks[0].rows("SELECT count(*) FROM rates") == [(0,)]
    assert (await raced(desks, 10, guards=[SIMILAR]))[""] == 1


async def test_a_database_of_the_first_version_keeps_what_it_held(postgres_url):
    connection = await connect(postgres_url)
    try:
        for statement in (*MIGRATIONS[0], "CREATE TABLE gateway_schema(version BIGINT PRIMARY KEY)"):
            await connection.execute(statement)
        await connection.execute("INSERT INTO gateway_schema VALUES (1)")
        await connection.execute("INSERT INTO balances VALUES ('account:a', 'exposure_micro_usd', 'total', 0, -7)")
        await migrate(connection)
        await connection.execute("INSERT INTO balances VALUES ('agent:a/X', 'position_nano', 'total', 0, -1)")
        assert await connection.fetchval("SELECT sum(spent)::bigint FROM balances") == -8
    finally:
        await connection.close()
