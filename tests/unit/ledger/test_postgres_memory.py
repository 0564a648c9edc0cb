"""What an instance remembers of PostgreSQL saves round trips, and decides nothing that is not so in the tables."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import asyncpg
import pytest
from made_calls import claim
from made_desks import PostgresDesk

from gateway.ledger.postgres_book import _locks
from gateway.ledger.postgres_writer import MET_MAX
from gateway.ledger.tables import BALANCES, HALTS
from gateway.terms.operations import Failed, Failure, Replay, Reservation, State
from gateway.terms.verdict import Refusal

LIMITED = (claim(limit=3),)
WARY_MAX = 2 ** (MET_MAX // 2)
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture
async def desks(postgres_url):
    """Two instances that run."""
    async with AsyncExitStack() as stack:
        desks = []
        for number in range(2):
            desks.append(PostgresDesk(postgres_url, instance=f"gateway-{number}", names=count(1_000 * number)))
            await stack.enter_async_context(desks[-1].open())
        yield desks
    assert desks[0].verified().ok
    assert desks[0].checked() == ()


async def test_a_call_that_nobody_is_in_the_way_of_takes_two_round_trips(desks):
    desk, _ = desks
    await desk.do(claims=[claim()])
    with asked_of(desk) as asked:
        reservation = await desk.reserve(claims=[claim()])
        assert len(asked) == 1
        await desk.settle(reservation)
        assert len(asked) == 2
    assert desk.balance() == (0, 2)


async def test_what_another_instance_spent_is_not_spent_again(desks):
    one, other = desks
    await one.do(claims=LIMITED)
    await other.do(claims=LIMITED)
    await other.do(claims=LIMITED)
    with asked_of(one) as asked:
        verdict = await one.admit(claims=LIMITED)
    assert isinstance(verdict, Refusal)
    assert verdict.reason == "budget.calls"
    assert one.balance() == (0, 3)
    assert len(asked) > 1


async def test_what_another_instance_gave_back_can_be_taken(desks):
    """A refusal from memory counts as little as a grant."""
    one, other = desks
    reservations = [await other.reserve(claims=LIMITED) for _ in range(3)]
    assert isinstance(await one.admit(claims=LIMITED), Refusal)
    for reservation in reservations:
        await other.settle(reservation, failed())
    assert isinstance(await one.admit(claims=LIMITED), Reservation)


async def test_a_halt_of_another_instance_stops_what_is_remembered(desks):
    one, other = desks
    await one.do(claims=LIMITED)
    await other.halt("tenant:acme")
    verdict = await one.admit(claims=LIMITED)
    assert isinstance(verdict, Refusal)
    assert verdict.reason == "halt.engaged"
    await other.halt("tenant:acme", engaged=False)
    assert isinstance(await one.admit(claims=LIMITED), Reservation)


async def test_a_key_of_another_instance_is_found_before_a_budget_is_asked(desks):
    """Of several orders in one batch that has something to write, the repeated one gets its operation."""
    one, other = desks
    await one.do(claims=[claim(limit=1)])
    done = await other.do(key="same", claims=[claim(scope="agent:other")])
    repeated, _ = await asyncio.gather(
        one.admit(key="same", claims=[claim(limit=1)]), one.admit(claims=[claim(scope="agent:third")])
    )
    assert isinstance(repeated, Replay)
    assert repeated.operation.id == done.id


async def test_what_another_instance_noted_on_an_operation_stays(desks):
    """A switch marks what runs: the operation's owner settles it and does not take the mark away."""
    one, other = desks
    reservation = await one.reserve(claims=LIMITED)
    await other.halt("tenant:acme")
    assert one.rows("SELECT withdraw FROM operations") == [(1,)]
    assert (await one.settle(reservation)).state is State.SUCCEEDED
    assert one.rows("SELECT withdraw FROM operations") == [(1,)]


@pytest.mark.parametrize("table", [BALANCES, HALTS], ids=["balance", "halt"])
async def test_what_changes_while_a_batch_waits_for_its_locks_is_seen(desks, table):
    """Its statement began before the change, so its own snapshot has not got it."""
    desk, _ = desks
    await desk.do(claims=LIMITED)
    key = ("agent:trader", "calls", "day:2026-11-29") if table is BALANCES else ("tenant:acme",)
    async with locked(desk, table, key) as changing:
        ordered = asyncio.create_task(desk.admit(claims=LIMITED))
        await waited_for(changing)
        if table is BALANCES:
            await changing.execute("UPDATE balances SET spent = 3")
        else:
            await changing.execute("INSERT INTO halts VALUES ('tenant:acme', 1, 'no', 'oncall', 1)")
    verdict = await ordered
    assert isinstance(verdict, Refusal)
    assert verdict.reason == ("budget.calls" if table is BALANCES else "halt.engaged")
    async with connected(desk) as mending:
        await mending.execute("UPDATE balances SET spent = 1")


async def test_instances_that_are_in_each_others_way_lock_first(desks):
    """Else each of them would try in vain again and again."""
    one, other = desks
    wide = [claim(limit=10**6)]
    for _ in range(40):
        await one.do(claims=wide)
        await other.do(claims=wide)
    writers = [desk.ledger._opened.writer for desk in desks]
    assert 1 < max(writer._wary for writer in writers) <= WARY_MAX
    assert one.balance() == (0, 80)
    for _ in range(WARY_MAX + 2):
        await one.do(claims=wide)
    with asked_of(one) as asked:
        await one.do(claims=wide)
    assert len(asked) == 2


async def test_the_memory_is_bounded(desks, monkeypatch):
    monkeypatch.setattr("gateway.ledger.postgres_book.MEMORY_MAX", 20)
    desk, _ = desks
    open_ones = [await desk.reserve(claims=[claim(scope=f"run:{turn}")]) for turn in range(60)]
    source = desk.ledger._opened.writer._source
    assert len(source._last_rows) < 40
    assert len(source._last_open) < 40
    for reservation in open_ones:
        await desk.settle(reservation)
    assert desk.balance("run:0") == (0, 1)


class asked_of:  # noqa: N801 - used as a function
    """The statements that an instance's writer sends meanwhile."""

    def __init__(self, desk):
        self._connection = desk.ledger._opened.links[0].connection
        self._asked = []

    def __enter__(self):
        self._connection.add_query_logger(self._note)
        return self._asked

    def __exit__(self, *_):
        self._connection.remove_query_logger(self._note)

    def _note(self, query):
        self._asked.append(query.query)


def failed():
    """Nothing happened."""
    return Failed(failure=Failure(reason="venue.rejected", message="no"))


@asynccontextmanager
async def connected(desk):
    """A connection beside the gateways'."""
    connection = await asyncpg.connect(desk.path)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def locked(desk, table, key):
    """A transaction that has the lock of a row, as another instance's batch has it."""
    [(kind, stripe, _)] = _locks({(table, key): True})
    async with connected(desk) as connection, connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({kind}, {stripe})")
        yield connection


async def waited_for(connection):
    """Until somebody waits for an advisory lock."""
    async with asyncio.timeout(10):
        while not await connection.fetchval(WAITING):  # noqa: ASYNC110 - PostgreSQL does not tell of it by itself
            await asyncio.sleep(0.005)
