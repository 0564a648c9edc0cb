"""The check of `check` for a ledger in PostgreSQL."""

from typing import Final

import asyncpg

from gateway.ledger.check import DIFFERENT, STRAY, Difference, differences
from gateway.ledger.postgres_link import LOST, LedgerDatabaseError, Link, connect_first, unreachable

_FOR_WHOLE_TABLES: Final = (
    "SET statement_timeout = 0; SET enable_seqscan = on; SET enable_hashjoin = on; SET enable_mergejoin = on"
)

CHECK_S: Final = 3_600.0
"""A ledger of years takes longer to add up than a call may wait."""


async def check_database(url: str) -> tuple[Difference, ...]:
    """See `check.check`. All is read in one moment. Raises `LedgerDatabaseError`."""
    link = Link(url, await connect_first(url))
    try:
        connection = await link.connected()
        await connection.execute(_FOR_WHOLE_TABLES)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            different = await connection.fetch(DIFFERENT, timeout=CHECK_S)
            stray = await connection.fetch(STRAY, timeout=CHECK_S)
    except asyncpg.PostgresError as error:
        raise LedgerDatabaseError(f"the database is no ledger that can be checked: {error}") from error
    except LOST as error:
        raise LedgerDatabaseError(unreachable(error)) from error
    finally:
        await link.close()
    return differences(map(tuple, different), map(tuple, stray))
