"""What is asked of the ledger again and again reads an index, however long its history is."""

import sqlite3
from contextlib import closing

import pytest

from gateway.ledger import sqlite_book, sqlite_overview
from gateway.ledger.aftercare import Taking
from gateway.ledger.entries import Owner, Search
from gateway.ledger.halts import Marking
from gateway.ledger.losing import expired
from gateway.ledger.sqlite_schema import migrate
from gateway.ledger.states import OPEN
from gateway.terms.aftercare import Room
from gateway.terms.operations import State


def due(**kind):
    (search,) = Taking(now_unix_us=5, lease_ms=1, rooms=(Room(withdraw=True, most=8, **kind),)).reads().searches
    return search


SEARCHES = {
    "expired leases": expired(5),
    "what is due": due(),
    "what is due of some tools": due(tools=("place_order", "cancel_order"), other_tools=False),
    "what is due of all others": due(tools=("place_order", "cancel_order")),
    "what a halt marks": Marking("all", 1)._affected(),
    "one operation": Search(states=(State.RECONCILING,), named="op-1", limit=1),
    "what an owner runs": Search(states=OPEN, owner=Owner("gateway", "boot")),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_reads_no_history(name):
    assert scans(*sqlite_book._search(SEARCHES[name])) == []


@pytest.mark.parametrize("name", [name for name in SEARCHES if name.startswith("what is due")])
def test_what_is_due_is_read_in_its_order_and_no_further_than_asked_for(name):
    """However many wait: nothing is read to be sorted."""
    assert steps(*sqlite_book._search(SEARCHES[name])) == [
        "SEARCH operations USING INDEX due_operations (withdraw=? AND look_unix_us<?)"
    ]


def test_counting_what_a_switch_waits_for_reads_no_history():
    assert scans(sqlite_overview._WITHIN, ('"all"',)) == []


def scans(statement, values):
    """The steps that read the whole table, or an index over all of it."""
    read = [step for step in steps(statement, values) if step.startswith("SCAN operations")]
    return [step for step in read if step.split()[-1] not in {"unknown_operations", "due_operations"}]


def steps(statement, values):
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        found = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert found
    return found
