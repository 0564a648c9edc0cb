"""PostgreSQL is lost in the worst moments: what was told is true, and what is not known is found out."""

import asyncio
from contextlib import AsyncExitStack

import asyncpg
import pytest
from commit_proxy import Cut, commit_proxy
from made_calls import CALLER, claim
from made_desks import PostgresDesk

from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.operations import Operation, Reservation, State


@pytest.fixture
async def proxied(postgres_url):
    """A ledger whose connections can be cut at their commits."""
    async with AsyncExitStack() as stack:
        proxy, url = await stack.enter_async_context(commit_proxy(postgres_url))
        desk = PostgresDesk(url)
        await stack.enter_async_context(desk.open())
        desk.path = postgres_url  # what a test looks at, it looks at without the proxy
        yield proxy, desk
    assert desk.verified().ok
    assert desk.checked() == ()


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("cut", Cut)
async def test_a_commit_whose_answer_is_lost_is_found_out(proxied, cut, locked):
    """Once, whichever way it went: never twice, and never taken for the other."""
    proxy, desk = proxied
    proxy.at_writes, desk.ledger._opened.writer._wary = not locked, 1_000 * locked
    for turn in range(4):
        proxy.cut = cut
        done = await asyncio.gather(*(desk.reserve(claims=[claim(limit=1_000)]) for _ in range(5)))
        assert proxy.cuts == 2 * turn + 1
        proxy.cut = cut
        settled = await asyncio.gather(*(desk.settle(reservation) for reservation in done))
        assert [operation.state for operation in settled] == [State.SUCCEEDED] * 5
        assert desk.balance() == (0, 5 * (turn + 1))
    kinds = [record["kind"] for record in desk.records_stored()]
    assert (kinds.count("intent"), kinds.count("outcome")) == (20, 20)


async def test_backends_that_are_killed_under_load_lose_and_double_nothing(postgres_url):
    """Both of the gateway's connections, again and again, wherever its batches are."""
    desk = PostgresDesk(postgres_url)
    told = []
    turn = asyncio.Lock()

    async def caller(killing):
        for _ in range(15):
            reservation = await desk.reserve(claims=[claim(limit=10**6)])
            told.append((await desk.settle(reservation)).id)
            if len(told) % 20 == 0:
                async with turn:  # a second caller may count to here while the first one's query runs
                    await killing.fetch(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND application_name = 'agentic-gateway'"
                    )

    async with desk.open() as ledger:
        killing = await asyncpg.connect(postgres_url)
        await asyncio.gather(*(caller(killing) for _ in range(12)))
        await killing.close()
        states = [(await ledger.get(name, CALLER)).state for name in told]
        assert states == [State.SUCCEEDED] * 180
    assert desk.rows("SELECT count(*) FROM operations") == [(180,)]
    assert desk.balance() == (0, 180)
    assert desk.verified().ok
    assert desk.checked() == ()


async def test_without_postgresql_it_refuses_and_goes_on_later(postgres_url):
    async with commit_proxy(postgres_url) as (proxy, url):
        desk = PostgresDesk(url)
        async with desk.open() as ledger:
            reservation = await desk.reserve(claims=[claim()])
            proxy.refuse = True
            for link in ledger._opened.links:
                link.drop()
            ledger._opened.writer._queue.patience_s = 0.1
            for call in (desk.admit(), desk.refuse(), ledger.get(reservation.operation, CALLER)):
                with pytest.raises(LedgerUnavailableError, match="PostgreSQL"):
                    await call
            proxy.refuse = False
            ledger._opened.writer._queue.patience_s = 5.0
            assert isinstance(await desk.settle(reservation), Operation)
            assert isinstance(await desk.admit(), Reservation)
    assert desk.ledger._opened is None
    seen = PostgresDesk(postgres_url)
    assert seen.verified().ok
    assert seen.checked() == ()


async def test_a_commit_that_nobody_waits_for_any_more_is_counted_all_the_same(postgres_url):
    """The answer is lost, the database stays away for longer than the callers' patience, and comes back."""
    async with commit_proxy(postgres_url) as (proxy, url):
        desk = PostgresDesk(url)
        async with desk.open() as ledger:
            queue = ledger._opened.writer._queue
            queue.patience_s, proxy.cut, proxy.refuse = 0.3, Cut.AFTER, True
            admission = desk.admission(claims=[claim()])
            with pytest.raises(LedgerUnavailableError, match="not known"):
                await ledger.admit(admission)
            queue.patience_s, proxy.refuse = 5.0, False
            await desk.do(claims=[claim()])
            assert (await ledger.get(admission.operation, CALLER)).state is State.DISPATCHED
            assert PostgresDesk(postgres_url).rows("SELECT held, spent FROM balances") == [(1, 1)]
    seen = PostgresDesk(postgres_url)
    assert seen.verified().ok
    assert seen.checked() == ()


async def test_a_database_that_forgot_what_it_confirmed_is_written_no_more(postgres_url):
    """As after a failover to a replica that had not everything."""
    desk = PostgresDesk(postgres_url)
    await desk.make().start()
    await desk.do(claims=[claim()])
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("UPDATE boots SET batch = batch - 1")
    await connection.close()
    desk.ledger._opened.links[0].connection.terminate()
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="lost what it confirmed"):
            await desk.admit(claims=[claim()])
    with pytest.raises(LedgerUnavailableError, match="start anew"):
        await desk.ledger.close()
    assert desk.rows("SELECT count(*) FROM operations") == [(1,)]


async def test_a_commit_is_not_forgotten_because_finding_out_fails(proxied, postgres_url):
    """The database is back, and for a while it has another error for the question."""
    proxy, desk = proxied
    writer = desk.ledger._opened.writer
    proxy.cut, proxy.refuse = Cut.AFTER, True
    ordered = asyncio.gather(*(desk.do(claims=[claim(limit=100)]) for _ in range(3)))
    await until(lambda: proxy.cuts)
    await asyncio.sleep(0.06)
    other = await asyncpg.connect(postgres_url)
    await other.execute("ALTER TABLE boots RENAME TO away")
    proxy.refuse = False
    await until(lambda: "UndefinedTable" in writer._why)
    await other.execute("ALTER TABLE away RENAME TO boots")
    await other.close()
    assert len(await ordered) == 3
    assert desk.balance() == (0, 3)


async def until(condition):
    """Wait until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - no event tells of what goes on inside
            await asyncio.sleep(0.005)
