"""Where usage is read from while a gateway writes: the record in pages, from the first one that can be of the time.

Positions follow the commits, and a record is made shortly before its commit; so the place where a time begins is found
by halving, and only a margin around the time that is asked for is read, however long the whole record is.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, Protocol

from gateway.audit.usage import UsageSum, time_of
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.usage import UsageQuery, UsageReport

MARGIN_US: Final = 600_000_000
"""Ten minutes: how far a record's time may be from that of its neighbours. Clocks of instances differ by seconds, and
nobody waits for a commit as long as this."""

PAGE: Final = 200
"""Records that are added up at once: less than a millisecond of the event loop (4 us each, measured)."""

_BUSY_S: Final = 5.0


class Pages(Protocol):
    """The record by positions, which rise with the commits and may have gaps."""

    async def after(self, position: int, limit: int) -> list[tuple[int, bytes]]:
        """At most so many records behind a position. Raises `LedgerUnavailableError`."""
        ...

    async def last(self) -> int:
        """The highest position; 0 where there is no record. Raises `LedgerUnavailableError`."""
        ...


class SqlitePages:
    """The record of a SQLite ledger that is in use. Every page is read in a thread, by a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def after(self, position: int, limit: int) -> list[tuple[int, bytes]]:
        """See `Pages`."""
        statement = "SELECT position, record FROM audit WHERE position > ? ORDER BY position LIMIT ?"
        return await asyncio.to_thread(self._read, statement, (position, limit))

    async def last(self) -> int:
        """See `Pages`."""
        ((position, _),) = await asyncio.to_thread(self._read, "SELECT coalesce(max(position), 0), x'' FROM audit", ())
        return position

    def _read(self, statement: str, values: tuple[int, ...]) -> list[tuple[int, bytes]]:
        address = f"{self._path.resolve().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as connection:
                return connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerUnavailableError(f"the record cannot be read: {error}") from error


class RecordedUsage:
    """See `gateway.call.stations.Usage`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def used(self, query: UsageQuery) -> UsageReport:
        """What was used. Raises `UsageTooWideError` and `LedgerUnavailableError`."""
        found = UsageSum(query)
        position = await self._begin(query.from_unix_us - MARGIN_US)
        while page := await self._pages.after(position, PAGE):
            for _, record in page:
                found.add(record)
            position, last = page[-1]
            if time_of(last) > query.to_unix_us + MARGIN_US:
                break
        return found.report()

    async def _begin(self, time_us: int) -> int:
        """A position behind which every record of this time and later is, if their times are in order."""
        low, high = 0, await self._pages.last()
        while low < high:
            middle = (low + high) // 2
            (found,) = await self._pages.after(middle, 1) or [(high, b"")]
            if not found[1] or time_of(found[1]) >= time_us:
                high = middle
            else:
                low = found[0]
        return low
