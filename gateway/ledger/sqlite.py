"""The ledger in one SQLite file: for a gateway of one instance, with nothing else to run."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from gateway.ledger import rows
from gateway.ledger.book import Book, Head
from gateway.ledger.book import Unit as LedgerUnit
from gateway.ledger.entries import Search, Stored
from gateway.ledger.journal import Chain, Diary
from gateway.ledger.life import NOTHING_BEFORE, Beginning, BootRepeatedError, Ending
from gateway.ledger.losing import Losing
from gateway.ledger.repeats import repeat_of, shown
from gateway.ledger.sqlite_book import BY_ID, BY_KEY, SqliteSource
from gateway.ledger.sqlite_files import FileLock, LedgerFileError, open_for_reading, open_for_writing, prepare
from gateway.ledger.sqlite_overview import counted, engaged_scopes, halts, latches, listed, overview, record, stopped
from gateway.ledger.sqlite_writer import Writer
from gateway.ledger.states import OPEN
from gateway.ledger.tables import Row
from gateway.ledger.written import CLOSED, WrittenLedger
from gateway.terms.caller import Caller
from gateway.terms.clock import Clock
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.ids import OperationId
from gateway.terms.latches import Latched
from gateway.terms.money import Unit
from gateway.terms.operations import (
    Counted,
    Operation,
    OperationKey,
    Receipt,
    Replay,
    Reservation,
)
from gateway.terms.overview import HaltStanding, Overview, Page
from gateway.terms.verdict import Refusal

Answer = TypeVar("Answer")

_RUNNING: Final = Search(states=OPEN, limit=1_000_000)
"""Only one process has the file: whatever runs at its start or its close, nobody works on after it."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is there between start and close."""

    lock: FileLock
    source: SqliteSource
    reader: sqlite3.Connection
    writer: Writer


class SqliteLedger(WrittenLedger):
    """See `Ledger` in `gateway.call.stations`; besides, it is started, closed, and takes halts.

    Reads happen in the caller's thread: by a unique key in a file that this process keeps in memory, they cost less
    than any other thread's waking up. Writes wait for their commit in the one writer's thread.
    """

    def __init__(self, path: Path, *, clock: Clock, chain: Chain, diary: Diary) -> None:
        super().__init__(clock, chain, diary)
        self._path = path
        self._opened: _Opened | None = None

    async def start(self) -> Receipt:
        """Open the file, settle the truth about what an earlier process left, and begin this boot's chain.

        Gives the boot record's receipt. Raises `LedgerFileError` with what to do; then the gateway must not start.
        Nobody is served yet, so it may block.
        """
        if self._opened is not None:
            raise LedgerFileError("the ledger is open already")
        prepare(self._path)
        with ExitStack() as undoing:
            lock = FileLock(self._path)
            undoing.callback(lock.release)
            connection = open_for_writing(self._path)
            undoing.callback(connection.close)
            try:
                source = SqliteSource(connection, self._chain)
                book = Book(source, self._chain, Head(0, NOTHING_BEFORE), alone=True)
                receipt = _begun(book, source, self._diary, self._clock.unix_us())
                reader = open_for_reading(self._path)
            except (BootRepeatedError, sqlite3.Error) as error:
                raise LedgerFileError(f"cannot use {self._path} as ledger: {error}") from error
            self._opened = _Opened(lock, source, reader, Writer(book, source))
            undoing.pop_all()
        return receipt

    async def close(self) -> Receipt:
        """Write what was ordered, then the closing record, and let the file go. Later orders are refused.

        An operation that still runs is recorded as lost: nobody will record its outcome. Gives the closing record's
        receipt. Raises `LedgerUnavailableError` when it cannot be written; the file is let go all the same.
        """
        opened = self._now_open()
        self._opened = None
        now_us = self._clock.unix_us()
        try:
            return await opened.writer.do(lambda book: _ended(book, self._diary, now_us))
        finally:
            _let_go(opened)

    @property
    def commits(self) -> int:
        """How many were made since the start, of those that had something in them; 0 while it is not open."""
        return 0 if self._opened is None else self._opened.writer.durable

    async def find(self, key: OperationKey, digest: bytes) -> Replay | Refusal | None:
        """What an earlier call with this key means for one with this digest; None where there was none."""
        earlier = self._read(BY_KEY, rows.key_row(key))
        return None if earlier is None else repeat_of(earlier.operation, digest)

    async def get(self, operation: OperationId, caller: Caller) -> Operation | None:
        """An operation of this caller; another's is as absent as none."""
        stored = self._read(BY_ID, (operation,))
        return shown(stored, caller)

    async def tally(self, places: tuple[tuple[str, Unit], ...]) -> tuple[Counted, ...]:
        """See `gateway.call.stations.Ledger`. Raises `LedgerUnavailableError`."""
        return self._look(lambda reader: counted(reader, places))

    async def stopped(self, reservation: Reservation, halts: tuple[str, ...]) -> Refusal | None:
        """See `Ledger`. Reads what is committed; raises `LedgerUnavailableError` when it cannot."""
        return self._look(lambda reader: stopped(reader, reservation, halts))

    async def halts(self) -> tuple[HaltStanding, ...]:
        """See `Oversight`."""
        return self._look(halts)

    async def listed(self, page: Page) -> tuple[Overview, ...]:
        """See `Oversight`."""
        return self._look(lambda reader: listed(reader, page))

    async def shown(self, operation: OperationId) -> Overview | None:
        """See `Oversight`."""
        return self._look(lambda reader: overview(reader, operation))

    async def record(self, receipt: Receipt) -> bytes | None:
        """See `Oversight`."""
        return self._look(lambda reader: record(reader, receipt))

    async def latches(self) -> tuple[Latched, ...]:
        """See `Oversight`."""
        return self._look(latches)

    async def _do(self, unit: LedgerUnit[Answer]) -> Answer:
        return await self._now_open().writer.do(unit)

    async def _engaged_scopes(self) -> Sequence[str]:
        return self._look(engaged_scopes)

    def _now_open(self) -> _Opened:
        if self._opened is None:
            raise LedgerUnavailableError(CLOSED)
        return self._opened

    def _read(self, statement: str, values: Row) -> Stored | None:
        found = self._look(lambda reader: reader.execute(statement, values).fetchall())
        return rows.stored(found[0]) if found else None

    def _look(self, read: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Read what is committed."""
        try:
            return read(self._now_open().reader)
        except sqlite3.Error as error:
            raise LedgerUnavailableError(f"the ledger cannot read: {error}") from error


def _begun(book: Book, source: SqliteSource, diary: Diary, now_unix_us: int) -> Receipt:
    """Begin the boot in a commit of its own."""
    source.begin()
    book.begin_batch()
    receipt = Beginning(diary)(book)
    Losing(diary, _RUNNING, now_unix_us)(book)
    source.write(book.writes())
    source.commit()
    return receipt


def _ended(book: Book, diary: Diary, now_unix_us: int) -> Receipt:
    """What still runs is lost first: nobody will record its outcome."""
    Losing(diary, _RUNNING, now_unix_us)(book)
    return Ending(diary)(book)


def _let_go(opened: _Opened) -> None:
    """Close everything; if the writer's thread hangs, only what it does not use: the file stays locked then."""
    opened.reader.close()
    opened.writer.stop()
    opened.source.connection.close()
    opened.lock.release()
