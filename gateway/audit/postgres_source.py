"""The records of a ledger in PostgreSQL, read in one transaction that changes nothing and sees one moment.

The client waits in an event loop of its own, so a caller must not be in one.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

import asyncpg

from gateway.audit.amounts import Sum
from gateway.audit.sources import (
    BALANCES,
    HOLDS,
    BalanceRow,
    Database,
    Entry,
    HoldsRow,
    StoredBalance,
    StoredHolds,
    StoredOperation,
    UnreadableAuditError,
    read_holds,
)
from gateway.terms.ids import BootId, InstanceId, OperationId
from gateway.terms.operations import Receipt

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_S: Final = 10.0
_ROWS_AT_ONCE: Final = 256

_COUNT: Final = "SELECT count(*) FROM audit"
_ENTRIES: Final = "SELECT instance, boot, sequence, record, leaf, link FROM audit ORDER BY position"
_OPERATIONS: Final = (
    "SELECT id, state, intent_instance, intent_boot, intent_sequence, intent_leaf, outcome_instance, outcome_boot,"
    ' outcome_sequence, outcome_leaf FROM operations ORDER BY id COLLATE "C"'
)

_Receipt = tuple[InstanceId, BootId, int, bytes]


@contextmanager
def reading(database: Database) -> Iterator["PostgresRecords"]:
    """The database, in its transaction. Raises `UnreadableAuditError`, in no sentence of which the address stands."""
    with asyncio.Runner() as runner:
        try:
            connection = runner.run(_connected(database))
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise UnreadableAuditError(_unreachable(error)) from None
        try:
            yield PostgresRecords(runner, connection)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise UnreadableAuditError(f"the database is no ledger, or it was lost: {error}") from error
        finally:
            connection.terminate()


class PostgresRecords:
    """See `Source`."""

    def __init__(self, runner: asyncio.Runner, connection: Connection) -> None:
        self._runner = runner
        self._connection = connection
        self.total = cast("int", runner.run(connection.fetchval(_COUNT)))

    def entries(self) -> Iterator[Entry]:
        """See `Source`."""
        for row in self._rows(_ENTRIES):
            instance, boot, sequence, record, leaf, link = cast("tuple[str, str, int, bytes, bytes, bytes]", tuple(row))
            yield Entry(InstanceId(instance), BootId(boot), sequence, record, leaf, link)

    def operations(self) -> Iterator[StoredOperation]:
        """See `Source`."""
        for row in self._rows(_OPERATIONS):
            name, state, *receipts = row
            intent, outcome = cast("_Receipt", tuple(receipts[:4])), cast("_Receipt", tuple(receipts[4:]))
            ended = None if receipts[4] is None else _receipt(outcome)
            yield StoredOperation(cast("OperationId", name), cast("str", state), _receipt(intent), ended)

    def holds(self) -> Iterator[StoredHolds]:
        """See `LedgerSource`."""
        for row in self._rows(HOLDS + ' COLLATE "C"'):
            yield read_holds(cast("HoldsRow", tuple(row)))

    def balances(self) -> Iterator[StoredBalance]:
        """See `LedgerSource`."""
        for row in self._rows(BALANCES + 'scope COLLATE "C", unit COLLATE "C", time_window COLLATE "C"'):
            scope, unit, window, held, spent = cast("BalanceRow", row)
            yield (scope, unit, window), Sum(held, spent)

    def _rows(self, statement: str) -> Iterator[Sequence[object]]:
        cursor = self._runner.run(_waited(lambda: self._connection.cursor(statement)))
        while rows := self._runner.run(cursor.fetch(_ROWS_AT_ONCE)):
            yield from (tuple(row.values()) for row in rows)


async def _waited(
    cursor: "Callable[[], asyncpg.cursor.CursorFactory[asyncpg.Record]]",
) -> "asyncpg.cursor.Cursor[asyncpg.Record]":
    return await cursor()


async def _connected(database: Database) -> Connection:
    connection: Connection = await asyncpg.connect(database.url, timeout=CONNECT_S)
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    return connection


def _receipt(told: _Receipt) -> Receipt:
    instance, boot, sequence, leaf = told
    return Receipt(instance=instance, boot=boot, sequence=sequence, leaf_hash=leaf)


def _unreachable(error: Exception) -> str:
    if isinstance(error, asyncpg.PostgresError):
        return f"PostgreSQL does not let you read the database of GATEWAY_DATABASE_URL: {type(error).__name__}"
    why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return f"cannot reach PostgreSQL at GATEWAY_DATABASE_URL: {why}. Start it, or look at its address"
