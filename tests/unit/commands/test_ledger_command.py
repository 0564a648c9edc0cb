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
from made_desks import PostgresDesk

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


WRONG = (
    "balance agent:trader calls day:2026-11-29: held 4 and spent 2, but its holds add up to 3 and 2\n"
    "NOT ok: 1 differences\n"
)


def test_a_file_is_added_up(file):
    assert run("ledger", "check", file) == (0, "ok: balances and holds add up\n", "")
    change_file(file, "UPDATE balances SET held = 4")
    assert run("ledger", "check", file) == (1, WRONG, "")
    code, out, _ = run("ledger", "check", "--json", file)
    assert (code, [one["what"] for one in json.loads(out)["differences"]]) == (
        1,
        ["balance agent:trader calls day:2026-11-29"],
    )


def test_a_database_is_added_up(database):
    assert run("ledger", "check", "--database", url=database) == (0, "ok: balances and holds add up\n", "")
    change_database(database, "UPDATE balances SET held = 4")
    assert run("ledger", "check", "--database", url=database) == (1, WRONG, "")


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
