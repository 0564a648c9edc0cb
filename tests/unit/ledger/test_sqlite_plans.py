"""What is asked of the ledger again and again reads an index, however long its history is."""

import sqlite3
from contextlib import closing

import pytest

from gateway.ledger import sqlite_book, sqlite_overview
from gateway.ledger.entries import Owner, Search
from gateway.ledger.halts import Marking
from gateway.ledger.losing import expired
from gateway.ledger.sqlite_schema import migrate
from gateway.ledger.states import OPEN
from gateway.terms.operations import State

SEARCHES = {
    "expired leases": expired(5),
    "what is due": Search(states=(State.UNKNOWN, State.SUCCEEDED), due_unix_us=5),
    "what a halt marks": Marking("all", 1)._affected(),
    "one operation": Search(states=(State.RECONCILING,), named="op-1", limit=1),
    "what an owner runs": Search(states=OPEN, owner=Owner("gateway", "boot")),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_reads_no_history(name):
    assert scans(*sqlite_book._search(SEARCHES[name])) == []


def test_counting_what_a_switch_waits_for_reads_no_history():
    assert scans(sqlite_overview._WITHIN, ('"all"',)) == []


def scans(statement, values):
    """The steps that read the whole table."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert steps
    return [step for step in steps if step.startswith("SCAN operations") and "unknown_operations" not in step]
