"""The record of a PostgreSQL ledger that is in use, in pages, over one connection of its own."""

import asyncio
from typing import TYPE_CHECKING, Final, cast

import asyncpg

from gateway.terms.faults import LedgerUnavailableError

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

WAIT_S: Final = 5.0
"""For a connection, and for a page."""

_AFTER: Final = "SELECT position, record FROM audit WHERE position > $1 ORDER BY position LIMIT $2"
_LAST: Final = "SELECT coalesce(max(position), 0) AS position, ''::bytea AS record FROM audit"


class PostgresPages:
    """See `usage_pages.Pages`. Connects when it is first asked, and again when the connection was lost.

    A position is given when a record is written, a moment before its commit: what another instance is committing just
    now may come to stand before what is seen already.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def after(self, position: int, limit: int) -> list[tuple[int, bytes]]:
        """See `Pages`."""
        return await self._read(_AFTER, position, limit)

    async def last(self) -> int:
        """See `Pages`."""
        ((position, _),) = await self._read(_LAST)
        return position

    async def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _read(self, statement: str, *values: int) -> list[tuple[int, bytes]]:
        async with self._one_at_a_time:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(self._url, timeout=WAIT_S, command_timeout=WAIT_S)
                return [
                    cast("tuple[int, bytes]", tuple(row)) for row in await self._connection.fetch(statement, *values)
                ]
            except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                await self.close()
                # The error may hold the address, and the address a password.
                raise LedgerUnavailableError(f"the record cannot be read: {type(error).__name__}") from None
