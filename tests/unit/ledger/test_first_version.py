"""A ledger that the first version of the gateway left in the middle of its work is a ledger of this one.

`first_version.sql` is such a file, written by that version itself and killed: one call done, one failed, one whose
reply was lost, one order and one stream under way.
"""

import asyncio
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

import asyncpg
import pytest
from made_calls import CALLER, claim, rooms, tool_ask
from made_desks import PostgresDesk, SqliteDesk

from gateway.ledger import postgres_schema, sqlite_schema
from gateway.terms.money import Unit
from gateway.terms.operations import Replay, State
from gateway.terms.overview import Page

WRITTEN = Path(__file__).with_name("first_version.sql").read_text()
TABLES = ("operations", "balances", "holds", "boots", "audit")


def old_file(path):
    """The file as it was left."""
    connection = sqlite3.connect(path)
    connection.executescript(WRITTEN)
    connection.execute(f"PRAGMA application_id = {sqlite_schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    return connection


def sqlite_desk(request):
    path = request.getfixturevalue("tmp_path") / "ledger.db"
    old_file(path).close()
    return SqliteDesk(path)


def postgres_desk(request):
    """The same rows in a database with the tables of the first version."""
    url = request.getfixturevalue("postgres_url")
    with closing(old_file(":memory:")) as told:
        rows = {table: told.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES}
    asyncio.run(_filled(url, rows))
    # An instance of its own: the old one's boots are counted by the old one.
    return PostgresDesk(url, instance="gateway-2")


async def _filled(url, rows):
    connection = await asyncpg.connect(url)
    for statement in postgres_schema.MIGRATIONS[0]:
        await connection.execute(statement)
    await connection.execute("CREATE TABLE gateway_schema(version BIGINT PRIMARY KEY)")
    await connection.execute("INSERT INTO gateway_schema VALUES (1)")
    rows["boots"] = [(*boot, 9) for boot in rows["boots"]]
    for table, told in rows.items():
        values = ", ".join(f"${number}" for number in range(1, len(told[0]) + 1))
        overriding = "OVERRIDING SYSTEM VALUE" if table in ("operations", "boots", "audit") else ""
        await connection.executemany(f"INSERT INTO {table} {overriding} VALUES ({values})", told)
    await connection.execute("SELECT setval(pg_get_serial_sequence('operations', 'number'), 5)")
    await connection.execute("SELECT setval(pg_get_serial_sequence('audit', 'position'), 9)")
    await connection.execute("SELECT setval(pg_get_serial_sequence('boots', 'number'), 1)")
    await connection.close()


@pytest.fixture(params=[sqlite_desk, postgres_desk])
def desk(request):
    made = request.param(request)
    made.boots, made.names = count(2), count(6)
    made.clock.now_us += 3_600_000_001  # the stream's lease, too, has ended
    return made


async def repeat(desk, key):
    return await desk.admit(ask=tool_ask(key=key))


async def test_what_the_first_version_left_is_kept_and_goes_on(desk):
    async with desk.open() as ledger:
        states = {key: await repeat(desk, key) for key in ("done", "failed")}
        assert {key: replay.operation.state for key, replay in states.items()} == {
            "done": State.SUCCEEDED,
            "failed": State.FAILED,
        }
        assert states["done"].operation.result == b'{"status":"filled"}'
        # Nobody wrote down whom to ask for them: a person decides, and until then everything stays held.
        for key in ("doubted", "running"):
            replay = await repeat(desk, key)
            assert isinstance(replay, Replay)
            assert replay.operation.state is State.UNKNOWN
        assert await ledger.take(rooms(10), lease_ms=1_000) == ()
        persons = await ledger.listed(Page(states=(State.UNKNOWN,), size=10))
        assert [(one.operation.key.key, one.needs_person) for one in persons] == [("running", True), ("doubted", True)]
        # The stream's hold of 5 is charged in full, beside the 1 of what was done.
        assert desk.balance() == (6, 6)
        assert desk.balance("account:paper", Unit.EXPOSURE) == (60, -7)
        assert (await ledger.get("op-5", CALLER)).failure.reason == "operation.charged_in_full"
        await desk.do(ask=tool_ask(key="new"), claims=[claim(scope="agent:trader/A", unit=Unit.POSITION, amount=1)])
    assert desk.checked() == ()
    assert desk.verified().ok


def test_what_was_released_is_never_changed():
    """The file's own statements are the first version's; a ledger that has run them never runs them again."""
    with closing(old_file(":memory:")) as old, closing(sqlite3.connect(":memory:")) as new:
        for statement in sqlite_schema.MIGRATIONS[0]:
            new.execute(statement)
        tables = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        assert old.execute(tables).fetchall() == new.execute(tables).fetchall()


async def test_an_older_gateway_that_still_runs_fails_closed(postgres_url):
    """What it wrote into its own table nobody would ever give back."""
    async with PostgresDesk(postgres_url).open():
        connection = await asyncpg.connect(postgres_url)
        for statement in (
            "INSERT INTO holds VALUES (1, 'agent:trader', 'calls', 'total', 1, 0, 'held')",
            "UPDATE holds SET state = 'settled'",
        ):
            with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
                await connection.execute(statement)
        await connection.close()
