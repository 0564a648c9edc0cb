"""`gateway ledger check`, and the commands that read a database, as an operator uses them."""

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

from made_calls import Desk, claim
from made_desks import PostgresDesk, SqliteDesk
from made_stories import rewrite

from gateway.commands.line import commands


def run(*arguments, url=None):
    """Exit code, standard output and standard error."""
    env = {"GATEWAY_DATABASE_URL": url}
    done = CliRunner(env=env).invoke(commands, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


async def used(desk):
    """A boot with one order done and one running at its end."""
    async with desk.open():
        await desk.do(claims=[claim(amount=2)])
        await desk.reserve(claims=[claim(amount=3)])


@pytest.fixture
def file(tmp_path):
    asyncio.run(used(Desk(tmp_path / "ledger.db")))
    return tmp_path / "ledger.db"


@pytest.fixture
def database(postgres_url):
    asyncio.run(used(PostgresDesk(postgres_url)))
    return postgres_url


def change_file(file, statement):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
        connection.commit()


def change_database(url, statement):
    async def changed():
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(changed())


RIGHT = "ok: balances and holds add up, to what 6 records of 2 operations say\n"
WRONG = (
    "balance agent:trader calls day:2026-11-29: held 4 and spent 2, but its holds add up to 3 and 2\n"
    "WHAT     SCOPE         WINDOW          UNIT   LEDGER SAYS      RECORDS SAY\n"
    "balance  agent:trader  day:2026-11-29  calls  held 4, spent 2  held 3, spent 2\n"
    "NOT ok: 2 differences; 6 records of 2 operations were added up\n"
)
LOWERED = (
    """UPDATE operations SET holds = replace(holds, '2,2,"settled"', '2,1,"settled"')""",
    "UPDATE balances SET spent = 1",
)
"""A charge, with its balance: no sum over the holds can tell."""

FOUND = {
    "operation": "op-1",
    "scope": "agent:trader",
    "window": "day:2026-11-29",
    "unit": "calls",
    "ledger": {"state": "settled", "amount": 2, "charged": 1},
    "records": {"state": "settled", "amount": 2, "charged": 2},
}


def test_a_file_is_added_up(file):
    assert run("ledger", "check", file) == (0, RIGHT, "")
    change_file(file, "UPDATE balances SET held = 4")
    assert run("ledger", "check", file) == (1, WRONG, "")
    code, out, _ = run("ledger", "check", "--json", file)
    assert (code, [one["what"] for one in json.loads(out)["differences"]]) == (
        1,
        ["balance agent:trader calls day:2026-11-29"],
    )
    assert "LEDGER SAYS" not in out


def test_a_database_is_added_up(database):
    assert run("ledger", "check", "--database", url=database) == (0, RIGHT, "")
    change_database(database, "UPDATE balances SET held = 4")
    assert run("ledger", "check", "--database", url=database) == (1, WRONG, "")


def told(code, out):
    """The exit code, and what a person or a program is shown of the recount."""
    report = json.loads(out)
    assert report["ok"] is (code == 0)
    return code, report["differences"], report["recount"]


def test_what_was_changed_in_a_file_to_add_up_is_told_from_the_records(file):
    for statement in LOWERED:
        change_file(file, statement)
    code, differences, recount = told(*run("ledger", "check", "--json", file)[:2])
    assert (code, differences, recount["difference_count"]) == (1, [], 2)
    assert recount["differences"][0] == FOUND
    assert recount["bad"] is None
    code, out, _ = run("ledger", "check", file)
    assert code == 1
    assert "op-1     agent:trader  day:2026-11-29  calls  state settled, amount 2, charged 1  state settled" in out


def test_what_was_changed_in_a_database_to_add_up_is_told_from_the_records(database):
    for statement in LOWERED:
        change_database(database, statement)
    code, differences, recount = told(*run("ledger", "check", "--database", "--json", url=database)[:2])
    assert (code, differences, recount["differences"][0]) == (1, [], FOUND)


def test_a_record_that_does_not_verify_is_said(file):
    changed = """CAST(replace(CAST(record AS TEXT), '"amount":2', '"amount":3') AS BLOB)"""
    change_file(file, f"UPDATE audit SET record = {changed} WHERE sequence = 1")
    code, out, _ = run("ledger", "check", file)
    assert code == 1
    assert "state settled, amount 2, charged 2  state settled, amount 3, charged 3\n" in out
    assert "BAD: record 1 of gateway-1/boot-1: its bytes are not those that were hashed" in out
    assert "proves nothing" in out
    bad = told(*run("ledger", "check", "--json", file)[:2])[2]["bad"]
    assert (bad["boot"], bad["sequence"]) == ("boot-1", 1)


def test_operations_whose_records_do_not_tell_their_amounts_are_never_passed_silently(tmp_path):
    desk = SqliteDesk(tmp_path / "ledger.db")
    asyncio.run(used(desk))
    rewrite(desk, "op-2", "intent", lambda record: record.pop("claims"))
    code, out, _ = run("ledger", "check", desk.path)
    assert code == 1
    assert out.startswith("NOT recomputable: 1 operations, whose records do not tell their amounts")
    assert ": op-2\n" in out
    recount = told(*run("ledger", "check", "--json", desk.path)[:2])[2]
    assert (recount["not_recomputable"], recount["not_recomputable_count"]) == (["op-2"], 1)


def test_a_databases_record_is_verified_shown_and_exported(database, tmp_path):
    code, out, _ = run("audit", "verify", "--database", url=database)
    assert code == 0
    assert "ok: 6 records verified" in out
    code, out, _ = run("audit", "show", "--database", "--operation", "op-2", url=database)
    assert (code, out.count("  intent  ")) == (0, 1)
    code, out, _ = run("audit", "export", "--database", tmp_path / "out", url=database)
    assert code == 0
    code, out, _ = run("audit", "verify", tmp_path / "out")
    assert code == 0
    assert "6 records verified" in out


def test_a_databases_usage_is_added_up(database):
    code, out, _ = run("usage", "--database", "--json", "--from", "2026-11-29", "--to", "2026-11-29", url=database)
    assert code == 0
    assert json.loads(out)


def test_a_changed_record_in_a_database_is_named(database):
    change_database(database, "UPDATE audit SET record = record || ' '::bytea WHERE sequence = 2")
    code, out, _ = run("audit", "verify", "--database", url=database)
    assert code == 1
    assert "BAD: record 2 of gateway-1/boot-1: its bytes are not" in out


def test_an_operation_of_which_a_database_says_something_else_is_named(database):
    change_database(database, "UPDATE operations SET state = 'failed' WHERE id = 'op-2'")
    code, out, _ = run("audit", "verify", "--database", url=database)
    assert code == 1
    assert "op-2" in out


@pytest.mark.parametrize("words", [("ledger", "check"), ("audit", "verify"), ("audit", "show")])
def test_a_place_must_be_named_once(words, file):
    assert run(*words)[0] == 2
    assert "name a FILE, or give --database" in run(*words)[2]
    assert "not both" in run(*words, "--database", file, url="postgresql://x/y")[2]
    code, _, err = run(*words, "--database")
    assert (code, "set GATEWAY_DATABASE_URL" in err) == (2, True)


@pytest.mark.parametrize("words", [("ledger", "check"), ("audit", "verify"), ("audit", "show")])
def test_a_database_that_cannot_be_read_is_said_without_its_password(words, postgres_server, postgres_url):
    for url in (
        postgres_url.replace(postgres_server.password, "hunter2"),
        "postgresql://me:hunter2@127.0.0.1:1/ledger",
        "postgresql://me:hunter2@127.0.0.1:port/ledger",
        postgres_url,
    ):
        code, out, err = run(*words, "--database", url=url)
        assert (code, out) == (2, "")
        assert err.startswith("Error: ")
        assert "hunter2" not in err
        assert postgres_server.password not in err
