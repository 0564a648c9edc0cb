"""Balances that are not what their holds add up to are found and named."""

import sqlite3
from contextlib import closing

import pytest
from made_calls import Desk, claim
from written_holds import writable

from gateway.ledger.check import check
from gateway.ledger.sqlite_files import LedgerFileError
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Failure, Succeeded, Unknown

NO = Failure(reason="no", message="No.")


@pytest.fixture
async def path(tmp_path):
    desk = Desk(tmp_path / "ledger.db")
    async with desk.open():
        for outcome in (Succeeded(result=b"{}"), Failed(failure=NO), Unknown(failure=NO)):
            await desk.settle(await desk.reserve(claims=[claim(amount=2), claim(unit=Unit.COST)]), outcome)
        await desk.reserve(claims=[claim(amount=2)])
        assert check(desk.path) == ()
    assert check(desk.path) == ()
    return desk.path


def changed(path, statement):
    with closing(sqlite3.connect(path)) as connection:
        writable(connection)
        connection.execute(statement)
        connection.commit()
    return check(path)


def test_a_changed_balance(path):
    [difference] = changed(path, "UPDATE balances SET spent = spent - 1 WHERE unit = 'calls'")
    assert difference.what == "balance agent:trader calls day:2026-11-29"
    assert difference.problem == "held 4 and spent 1, but its holds add up to 4 and 2"


def test_a_missing_balance(path):
    [difference] = changed(path, "DELETE FROM balances WHERE unit = 'calls'")
    assert difference.problem == "held 0 and spent 0, but its holds add up to 4 and 2"


def test_a_missing_hold(path):
    [difference] = changed(path, "DELETE FROM holds WHERE unit = 'calls' AND state = 'settled'")
    assert difference.problem == "held 4 and spent 2, but its holds add up to 4 and 0"


def test_a_hold_of_another_state_than_its_operation(path):
    [difference] = changed(path, "UPDATE holds SET state = 'held' WHERE operation = 3 AND unit = 'calls'")
    assert difference.what == "operation op-3"
    assert difference.problem == "it is unknown and has a hold that is held"


def test_a_file_that_is_no_ledger(tmp_path):
    (tmp_path / "x").write_bytes(b"x" * 5000)
    for path in (tmp_path / "x", tmp_path / "none"):
        with pytest.raises(LedgerFileError):
            check(path)
