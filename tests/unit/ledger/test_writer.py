"""Group commit: what waits together becomes durable together, and nothing that failed leaves a trace."""

import asyncio
import sqlite3
import threading
import time

import pytest
from made_calls import CALLER, Desk, claim

from gateway.audit.verify import verify
from gateway.ledger import sqlite_writer as writing
from gateway.ledger.check import check
from gateway.ledger.sqlite_writer import Writer
from gateway.ledger.tables import BALANCES, Table
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.operations import State


@pytest.fixture
async def desk(tmp_path):
    desk = Desk(tmp_path / "ledger.db")
    async with desk.open():
        yield desk
    assert verify(desk.path).ok
    assert check(desk.path) == ()


def connection_of(desk):
    return desk.ledger._opened.source.connection


def writer_of(desk):
    return desk.ledger._opened.writer


async def test_orders_of_one_moment_share_a_commit(desk):
    before = writer_of(desk)._commits
    await asyncio.gather(*(desk.refuse() for _ in range(100)))
    assert writer_of(desk)._commits - before <= 2


async def test_a_batch_is_bounded(desk):
    before = writer_of(desk)._commits
    await asyncio.gather(*(desk.refuse() for _ in range(writing.BATCH_MAX * 3)))
    assert writer_of(desk)._commits - before >= 3


async def test_too_many_waiting_orders_are_refused_at_once(desk, monkeypatch):
    monkeypatch.setattr(writing, "WAITING_MAX", 5)
    done = await asyncio.gather(*(desk.refuse() for _ in range(8)), return_exceptions=True)
    assert [isinstance(one, LedgerUnavailableError) for one in done] == [False] * 5 + [True] * 3
    await desk.refuse()


async def test_a_full_disk_refuses_and_recovers(desk):
    """Attack row 47: nothing is admitted that cannot be recorded."""
    reservation = await desk.reserve(claims=[claim(limit=10_000)])
    connection = connection_of(desk)
    [(pages,)] = connection.execute("PRAGMA page_count").fetchall()
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    done = await asyncio.gather(*(desk.admit(claims=[claim(limit=10_000)]) for _ in range(200)), return_exceptions=True)
    failed = [one for one in done if isinstance(one, LedgerUnavailableError)]
    assert failed
    assert "full" in str(failed[0])
    assert isinstance(failed[0].__cause__, sqlite3.Error)
    connection.execute("PRAGMA max_page_count = 1000000").fetchall()
    assert connection.in_transaction is False
    await desk.settle(reservation)
    await desk.do()


async def test_a_commit_that_fails_fails_its_whole_batch(desk):
    """A reference that is checked at the commit, so that it is the commit that fails."""
    await desk.do(claims=[claim()])

    def spoil(_):
        connection_of(desk).execute("CREATE TABLE here(name INTEGER PRIMARY KEY)")
        connection_of(desk).execute("CREATE TABLE spoiled(name REFERENCES here DEFERRABLE INITIALLY DEFERRED)")
        connection_of(desk).execute("INSERT INTO spoiled VALUES (1)")

    head = writer_of(desk)._book.head
    spoiling = writer_of(desk).do(spoil)
    admission = desk.admission(claims=[claim()])
    done = await asyncio.gather(desk.ledger.admit(admission), spoiling, desk.refuse(), return_exceptions=True)
    assert [type(one) for one in done] == [LedgerUnavailableError] * 3
    assert writer_of(desk)._book.head == head
    assert await desk.ledger.get(admission.operation, CALLER) is None
    await desk.do(claims=[claim()])


async def test_a_failing_unit_fails_its_own_order_only(desk):
    def spoil(book):
        book.append(b"this must not stay")
        book.put(BALANCES, ("agent:trader", "calls", "total"), (7, 7))
        book.get(Table("nowhere", key=(("scope", "text"),), values=(("held", "bigint"),), lock=99), ("x",))

    done = await asyncio.gather(desk.refuse(), writer_of(desk).do(spoil), desk.refuse(), return_exceptions=True)
    assert isinstance(done[1], LedgerUnavailableError)
    assert done[2].sequence == done[0].sequence + 1
    assert connection_of(desk).execute("SELECT * FROM balances").fetchall() == []


async def test_a_unit_that_ends_the_transaction_fails_its_batch(desk):
    """SQLite does so by itself on some disk errors."""

    def give_up(_):
        connection_of(desk).execute("ROLLBACK")
        raise RuntimeError("the disk is gone")

    done = await asyncio.gather(desk.refuse(), writer_of(desk).do(give_up), desk.refuse(), return_exceptions=True)
    assert [type(one) for one in done] == [LedgerUnavailableError] * 3
    await desk.refuse()


async def test_a_hanging_disk_is_told_and_its_end_too(desk):
    opened = desk.ledger._opened
    hanging = threading.Event()
    patient = Writer(opened.writer._book, opened.source, patience_s=0.02)
    first = asyncio.ensure_future(patient.do(lambda _: hanging.wait(30)))
    second = asyncio.ensure_future(patient.do(lambda _: "durable"))
    for waiting in (first, second):
        with pytest.raises(LedgerUnavailableError, match="disk"):
            await waiting
    with pytest.raises(LedgerUnavailableError, match="no commit"):
        await patient.do(lambda _: None)
    hanging.set()
    for _ in range(5_000):
        if not patient._stuck:
            break
        await asyncio.sleep(0.001)
    assert await patient.do(lambda _: "again") == "again"
    patient.stop()


async def test_a_busy_loop_does_not_starve_the_writer(desk):
    """Without lending, CPython's lock keeps the writer's thread out for as long as the loop is busy."""
    busy = True

    async def hog():
        while busy:
            end = time.perf_counter_ns() + 100_000
            while time.perf_counter_ns() < end:
                pass
            await asyncio.sleep(0)

    hogging = asyncio.ensure_future(hog())
    try:
        async with asyncio.timeout(5):
            for _ in range(40):
                await desk.do()
    finally:
        busy = False
        await hogging


async def test_an_idle_ledger_lends_nothing(desk):
    await desk.do()
    assert writer_of(desk)._handoff._timer is None
    assert not writer_of(desk)._waiting


async def test_a_caller_that_left_gets_its_operation_later(desk):
    admission = desk.admission(claims=[claim()])
    admitting = asyncio.ensure_future(desk.ledger.admit(admission))
    await asyncio.sleep(0)
    admitting.cancel()
    await desk.refuse()
    assert (await desk.ledger.get(admission.operation, CALLER)).state is State.DISPATCHED
