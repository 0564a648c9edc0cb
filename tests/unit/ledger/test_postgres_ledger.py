"""Several instances on one PostgreSQL: what must hold between them, and at the beginning and the end of each."""

import asyncio
import random
from contextlib import AsyncExitStack

import asyncpg
import msgspec
import pytest
from made_calls import CALLER, claim, rooms, tool_ask
from made_desks import PostgresDesk

from gateway.ledger.postgres_link import LedgerDatabaseError
from gateway.ledger.postgres_schema import MIGRATIONS
from gateway.ledger.settlement import AlreadySettledError
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.money import Unit
from gateway.terms.operations import Replay, Reservation, State, Succeeded
from gateway.terms.verdict import Kind, Refusal


def instance(url, number):
    """A desk of its own, whose operations have names of their own."""
    names = (f"op-{number}-{count}" for count in range(1, 1_000_000))
    return PostgresDesk(url, instance=f"gateway-{number}", names=names)


@pytest.fixture
async def desks(postgres_url):
    """Three instances that run."""
    async with AsyncExitStack() as stack:
        desks = [instance(postgres_url, number) for number in range(3)]
        for desk in desks:
            await stack.enter_async_context(desk.open())
        yield desks
    assert desks[0].verified().ok
    assert desks[0].checked() == ()


async def test_instances_that_start_at_the_same_moment_make_the_tables_once(postgres_url):
    desks = [instance(postgres_url, number) for number in range(8)]
    await asyncio.gather(*(desk.make().start() for desk in desks))
    await asyncio.gather(*(desk.do(claims=[claim()]) for desk in desks))
    await asyncio.gather(*(desk.ledger.close() for desk in desks))
    versions = [(number,) for number in range(1, len(MIGRATIONS) + 1)]
    assert desks[0].rows("SELECT version FROM gateway_schema ORDER BY version") == versions
    assert desks[0].verified().ok


async def test_two_hundred_racing_calls_on_three_instances_get_exactly_what_is_there(desks):
    """Attack row 24."""
    scopes = [claim(scope="tenant:acme", limit=1_000), claim(limit=37)]
    verdicts = await asyncio.gather(*(desks[turn % 3].admit(claims=scopes) for turn in range(200)))
    assert sum(isinstance(verdict, Reservation) for verdict in verdicts) == 37
    assert desks[0].balance() == desks[0].balance("tenant:acme") == (37, 0)
    assert {verdict.reason for verdict in verdicts if isinstance(verdict, Refusal)} == {"budget.calls"}


async def test_of_instances_that_race_for_one_key_one_runs_it(desks):
    for turn in range(20):
        ask = tool_ask(key=f"same-{turn}")
        verdicts = await asyncio.gather(*(desk.admit(ask=ask, claims=[claim(limit=1_000)]) for desk in desks * 5))
        [granted] = [verdict for verdict in verdicts if isinstance(verdict, Reservation)]
        others = [verdict for verdict in verdicts if isinstance(verdict, Refusal)]
        assert {(one.kind, one.operation_id) for one in others} == {(Kind.IN_PROGRESS, granted.operation)}
    assert desks[0].balance() == (20, 0)


async def test_a_repeat_at_another_instance_gets_the_stored_outcome(desks):
    ask = tool_ask(key="same")
    operation = await desks[0].do(ask=ask)
    assert await desks[1].admit(ask=ask) == Replay(operation=operation)
    assert await desks[2].ledger.get(operation.id, CALLER) == operation


async def test_an_operation_can_be_settled_by_one_of_racing_instances(desks):
    """The proof may be on its way at two of them, such as a paused owner and who took over."""
    for _ in range(10):
        reservation = await desks[0].reserve(claims=[claim(limit=1_000, amount=2)])
        done = await asyncio.gather(*(desk.settle(reservation) for desk in desks), return_exceptions=True)
        assert sorted(type(one).__name__ for one in done) == ["AlreadySettledError"] * 2 + ["Operation"]
    assert desks[0].balance() == (0, 20)


async def test_claims_in_any_order_never_wait_for_each_other_in_a_circle(desks):
    """Every batch takes its locks in one order, whatever the order of its claims; a deadlock would cost a second."""
    chance = random.Random(7)
    places = [("agent:a", Unit.CALLS), ("agent:b", Unit.CALLS), ("team:c", Unit.TOKENS), ("team:d", Unit.COST)]

    async def caller(desk):
        for _ in range(10):
            told = [claim(scope=scope, unit=unit, limit=10**9) for scope, unit in chance.sample(places, 3)]
            await desk.do(claims=told)

    before = desks[0].rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    await asyncio.gather(*(caller(desk) for desk in desks * 4))
    assert desks[0].rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == before
    assert desks[0].rows("SELECT count(*), sum(charged)::bigint FROM holds") == [(360, 360)]


async def test_after_a_halt_has_returned_no_instance_admits(desks):
    """Attack row 29, over instances: the halt waits for what is being admitted, and what comes later sees it."""
    halted = asyncio.Event()
    late = []

    async def caller(desk):
        while True:
            known = halted.is_set()
            verdict = await desk.admit(claims=[claim(limit=10**6)])
            if isinstance(verdict, Refusal):
                assert verdict.reason == "halt.engaged"
                return
            late.extend([verdict] * known)

    async def operator():
        await asyncio.sleep(0.02)
        await desks[2].halt("tenant:acme", reason="stop")
        halted.set()

    await asyncio.gather(operator(), *(caller(desk) for desk in desks * 6))
    assert late == []


async def test_a_start_leaves_other_instances_operations_alone(postgres_url):
    """Only what no lease covers any more is lost; its owner, who was paused, cannot settle it then."""
    first, second = instance(postgres_url, 1), instance(postgres_url, 2)
    async with first.open():
        old = await first.reserve(claims=[claim(amount=2)])
        first.clock.now_us += 20_000_000
        young = await first.reserve(claims=[claim(amount=3)])
        second.clock.now_us = first.clock.now_us + 15_000_000
        async with second.open() as ledger:
            lost = await ledger.get(old.operation, CALLER)
            assert (lost.state, lost.failure.reason, lost.outcome.instance) == (
                State.UNKNOWN,
                "operation.lost",
                "gateway-2",
            )
            assert (await ledger.get(young.operation, CALLER)).state is State.DISPATCHED
        with pytest.raises(AlreadySettledError, match="another owner"):
            await first.settle(old)
        await first.settle(young)
        assert first.balance() == (2, 3)
    assert first.verified().ok
    assert first.checked() == ()


async def test_instances_that_start_together_lose_each_operation_once(postgres_url):
    first = instance(postgres_url, 1)
    await first.make().start()
    for _ in range(10):
        await first.reserve(claims=[claim(limit=100)])
    await first.crash_now()
    others = [instance(postgres_url, number) for number in (2, 3, 4)]
    for other in others:
        other.clock.now_us += 60_000_000
    await asyncio.gather(*(other.make().start() for other in others))
    kinds = [record["kind"] for record in others[0].records_stored()]
    assert kinds.count("lost") == 10
    await asyncio.gather(*(other.ledger.close() for other in others))
    assert others[0].verified().ok
    assert others[0].checked() == ()


async def test_more_than_a_commit_takes_is_lost_in_several(postgres_url):
    desk = instance(postgres_url, 1)
    await desk.make().start()
    await asyncio.gather(*(desk.reserve(claims=[claim(limit=1_000)]) for _ in range(300)))
    await desk.ledger.close()
    assert desk.rows("SELECT state, count(*) FROM operations GROUP BY state") == [("unknown", 300)]
    assert desk.verified().ok


async def test_a_boot_follows_the_one_before_of_the_same_instance(postgres_url):
    desk = instance(postgres_url, 1)
    for _ in range(2):
        async with desk.open():
            await desk.refuse()
    befores = [record["before"] for record in desk.records_stored() if record["kind"] == "boot"]
    assert befores[0] is None
    assert (befores[1]["boot"], befores[1]["sequence"]) == ("boot-1", 2)
    desk.boots = iter([1])
    with pytest.raises(LedgerDatabaseError, match="used before"):
        await desk.make().start()


@pytest.mark.parametrize(
    "statement, told",
    [
        ("CREATE TABLE operations(x TEXT)", "tables of another program"),
        ("CREATE TABLE gateway_schema(version BIGINT PRIMARY KEY)", None),
        ("CREATE TABLE gateway_schema AS SELECT 99::bigint AS version", "a newer gateway"),
    ],
)
async def test_a_database_of_something_else_is_refused(postgres_url, statement, told):
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(statement)
    await connection.close()
    desk = instance(postgres_url, 1)
    if told is None:  # a start that was cut before it made anything
        async with desk.open():
            return
    with pytest.raises(LedgerDatabaseError, match=told):
        await desk.make().start()


async def test_what_cannot_be_reached_or_entered_is_said_without_the_password(postgres_server, postgres_url):
    password = postgres_server.password
    wrong = {
        postgres_url.replace(password, "hunter2"): "refuses the role or the password",
        postgres_url.replace("test_", "none_"): "there is no database of the name",
        postgres_url.replace(f":{postgres_server.port}", ":1"): "cannot reach PostgreSQL at GATEWAY_DATABASE_URL",
        postgres_url + "?sslmode=require": "GATEWAY_DATABASE_URL",
        postgres_server.url(unix=True).replace(str(postgres_server.folder), "/nowhere"): "cannot reach PostgreSQL",
    }
    for url, told in wrong.items():
        with pytest.raises(LedgerDatabaseError, match=told) as caught:
            await PostgresDesk(url).make().start()
        assert password not in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert "hunter2" not in repr(caught.value.__cause__)


async def test_a_role_that_may_not_make_tables_is_told(postgres_server, postgres_url):
    connection = await asyncpg.connect(postgres_url)
    role = "poor_" + postgres_url.rpartition("_")[2]
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
    await connection.close()
    url = postgres_url.replace(f"gateway:{postgres_server.password}", f"{role}:p")
    with pytest.raises(LedgerDatabaseError, match="permission denied"):
        await PostgresDesk(url).make().start()


async def test_it_is_reached_through_a_socket_folder_too(postgres_server, postgres_url):
    desk = PostgresDesk(postgres_server.url(postgres_url.rpartition("/")[2], unix=True))
    async with desk.open():
        await desk.do(claims=[claim()])


async def test_a_switch_of_one_instance_stops_what_another_has_admitted(desks):
    reservation = await desks[0].reserve()
    await desks[2].halt("symbol:ACME")
    refusals = [await desk.ledger.stopped(reservation, desk.care.halts) for desk in desks]
    assert [refusal.reason for refusal in refusals] == ["halt.engaged"] * 3


async def test_what_one_instance_lost_another_finds_out_and_the_first_cannot_change(desks):
    reservation = await desks[0].reserve(claims=[claim(amount=3)])
    desks[1].clock.now_us += 31_000_000
    taken = await asyncio.gather(*(desk.ledger.expire() for desk in desks[1:]))
    assert [name for names in taken for name in names] == [reservation.operation]
    taken = await asyncio.gather(*(desk.ledger.take(rooms(5), lease_ms=1_000) for desk in desks[1:]))
    [watched] = [one for some in taken for one in some]
    found = Succeeded(result=b"{}", charges=((Unit.CALLS, 1),))
    with pytest.raises(AlreadySettledError):
        await desks[0].settle(reservation)
    await desks[2].ledger.conclude(watched, found, desks[2].records.finding(watched, found), None)
    assert (await desks[0].ledger.find(reservation.key, reservation.permit.ask.digest)).operation.result == b"{}"
    assert desks[0].balance() == (0, 1)


async def test_texts_that_postgresql_has_not_are_kept_readable(desks):
    await desks[0].halt("agent:other", reason="a\x00b\ud800")
    assert desks[0].rows("SELECT reason FROM halts") == [("a\ufffdb?",)]


async def test_an_order_whose_patience_ended_before_it_began_never_happens(postgres_url):
    desk = instance(postgres_url, 1)
    async with desk.open():
        blocker = await asyncpg.connect(postgres_url)
        await blocker.execute("BEGIN; LOCK TABLE balances IN ACCESS EXCLUSIVE MODE")
        writer = desk.ledger._opened.writer
        writer._queue.patience_s = 0.05
        first = asyncio.ensure_future(desk.admit(claims=[claim()]))
        await asyncio.sleep(0.01)
        second = asyncio.ensure_future(desk.admit(claims=[claim()]))
        done = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(one) for one in done] == [LedgerUnavailableError] * 2
        writer._queue.patience_s = 5.0
        await blocker.execute("ROLLBACK")
        await blocker.close()
        await desk.do(claims=[claim()])
        assert desk.rows("SELECT count(*) FROM operations WHERE state <> 'dispatched'") == [(1,)]
        assert desk.rows("SELECT count(*) <= 2 FROM operations") == [(True,)]
    assert desk.checked() == ()


async def test_a_poisonous_order_fails_alone(desks):
    """What PostgreSQL refuses of one order must not fail the others of its moment."""
    good = [desks[0].admit(claims=[claim(limit=1_000)]) for _ in range(5)]
    bad = msgspec.structs.replace(desks[0].admission(), lease_ms=2**62)
    done = await asyncio.gather(*good, desks[0].ledger.admit(bad), return_exceptions=True)
    assert [isinstance(one, Reservation) for one in done] == [True] * 5 + [False]
    assert isinstance(done[5], LedgerUnavailableError)
    assert desks[0].balance() == (5, 0)


@pytest.mark.parametrize(
    ("statement", "values", "why"),
    [("SELECT 1 / 0", (), "division by zero"), ("SELECT $1::text", ("\ud800",), "invalid input")],
)
async def test_a_poisonous_question_fails_alone(desks, statement, values, why):
    """Whether PostgreSQL refuses it, or asyncpg before it leaves."""
    operation = await desks[0].do()
    ledger = desks[0].ledger
    reader = ledger._opened.reader
    told = await asyncio.gather(
        ledger.get(operation.id, CALLER),
        reader.ask(lambda connection: connection.fetch(statement, *values)),
        ledger.find(operation.key, operation.fingerprint),
        return_exceptions=True,
    )
    assert [told[0], told[2]] == [operation, Replay(operation=operation)]
    assert isinstance(told[1], LedgerUnavailableError)
    assert why in str(told[1])


async def test_no_statement_of_a_call_reads_a_table_whole(postgres_url, monkeypatch):
    """Plans are made once, on empty tables: with a scan in them a call would cost more with every call before it."""
    desk = instance(postgres_url, 1)
    seen = {}
    fetch = asyncpg.Connection.fetch

    async def noted(connection, statement, *values, **options):
        seen[statement] = values
        return await fetch(connection, statement, *values, **options)

    async with desk.open() as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, "fetch", noted)
            operation = await desk.do(claims=[claim(), claim(unit=Unit.COST)])
            await ledger.get(operation.id, CALLER)
            await desk.admit(ask=tool_ask(key=operation.key.key))
            reservation = await desk.reserve()
            await asyncio.gather(
                ledger.find(operation.key, operation.fingerprint),
                ledger.stopped(reservation, ("all",)),
                ledger.tally((("agent:trader", Unit.CALLS),)),
            )
        connection = ledger._opened.links[0].connection
        plans = [
            "\n".join(row[0] for row in await connection.fetch("EXPLAIN " + statement, *values))
            for statement, values in seen.items()
        ]
    assert len(plans) >= 5
    # Of the switches that are set there are few.
    assert [plan for plan in plans if "Seq Scan" in plan.replace("Seq Scan on halts", "")] == []
