"""What is due is found in PostgreSQL by an index that has it in its order, however much of it waits."""

import asyncpg
import pytest

from gateway.ledger.aftercare import Taking
from gateway.ledger.postgres_book import _hints
from gateway.ledger.postgres_schema import migrate
from gateway.terms.aftercare import Room

TOOLS = ("place_order", "cancel_order")


@pytest.mark.parametrize("kind", [{}, {"tools": TOOLS, "other_tools": False}, {"tools": TOOLS}])
async def test_what_is_due_is_read_in_its_order(postgres_url, kind):
    (search,) = Taking(now_unix_us=5, lease_ms=1, rooms=(Room(withdraw=True, most=8, **kind),)).reads().searches
    statement, values = _hints(search)
    connection = await asyncpg.connect(postgres_url)
    try:
        await migrate(connection)
        # An empty table is read whole, because nothing is cheaper; a full one is not.
        await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
        plan = [row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *values)]
    finally:
        await connection.close()
    assert any("Index Scan using due_operations" in line for line in plan), plan
    assert not any("Sort" in line for line in plan), plan
