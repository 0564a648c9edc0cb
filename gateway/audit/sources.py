"""Where a verifier reads records from: a ledger, opened so that nothing can be changed, or an export.

Of the ledger, in SQLite or PostgreSQL, it reads two tables and nothing else of the gateway, so that it can be read
against this page:

    audit(position, instance, boot, sequence, record, leaf, link)
        one row a record, `position` in the order of writing
    operations(id, state, intent_instance, intent_boot, intent_sequence, intent_leaf,
               outcome_instance, outcome_boot, outcome_sequence, outcome_leaf, ...)
        one row an operation, with the receipts of its records

Who adds up the amounts again (`recount`) reads one more, and of `operations` the column

    holds
        a JSON array with [scope, unit, window, amount, charged, state] for each balance that the operation holds of

    balances(scope, unit, time_window, held, spent)

An exported file is lines of JSON: a head `{"format": "agentic-gateway-audit", "version": 1, "records": N}`, then for
every record `{"instance", "boot", "sequence", "leaf", "link", "record"}`, hashes in hex, the record as the text whose
UTF-8 bytes were hashed (or as `record_hex`, where it is no UTF-8), then `{"end": N}`.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol, cast

import msgspec

from gateway.audit.amounts import Hold, Sum
from gateway.audit.amounts import Place as BalancePlace
from gateway.terms.ids import BootId, InstanceId, OperationId
from gateway.terms.operations import Receipt

Progress = Callable[[int, int], None]
"""Told how many records are done, and how many there are; of all of them once, at the end."""

PROGRESS_EVERY: Final = 1_000
FORMAT: Final = "agentic-gateway-audit"
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""One exported record: far above the largest that a recorder writes."""

_SQLITE_MAGIC: Final = b"SQLite format 3\x00"
_ROWS_AT_ONCE: Final = 256
_ENTRY_TYPES: Final = (str, str, int, bytes, bytes, bytes)
_HOLD_TYPES: Final = (str, str)
_HOLDS: Final = msgspec.json.Decoder(tuple[tuple[str, str, str, int, int, str], ...])
_BALANCE_TYPES: Final = (str, str, str, int, int)
_RECEIPT_TYPES: Final = {str, int, bytes, type(None)}


class UnreadableAuditError(Exception):
    """The file cannot be read as a ledger or an export; the sentence says what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record in its place, as the file has it; nothing of it is believed yet."""

    instance: InstanceId
    boot: BootId
    sequence: int
    record: bytes
    leaf: bytes
    link: bytes


@dataclass(frozen=True, slots=True)
class StoredOperation:
    """What a ledger's table says of an operation."""

    id: OperationId
    state: str
    intent: Receipt
    outcome: Receipt | None


StoredHolds = tuple[OperationId, dict[BalancePlace, Hold]]
"""The operation's id and what it holds of each balance, as the ledger's table says."""

StoredBalance = tuple[BalancePlace, Sum]
"""What a balance is, as the ledger's table says."""

HoldsRow = tuple[OperationId, str]
"""What `HOLDS` selects."""

BalanceRow = tuple[str, str, str, int, int]
"""What `BALANCES` selects."""

HOLDS: Final = "SELECT id, holds FROM operations WHERE holds <> '[]' ORDER BY id"
"""Ids are to be compared by their bytes: say so where that is no default."""

BALANCES: Final = "SELECT scope, unit, time_window, held, spent FROM balances ORDER BY "


@dataclass(frozen=True, slots=True)
class Database:
    """A ledger in PostgreSQL. The address may hold a password, so it is never shown."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        return "the database"


Place = Path | Database
"""Where records are."""


class Source(Protocol):
    """A ledger or file that was opened for reading."""

    @property
    def total(self) -> int:
        """How many records it says to have."""
        ...

    def entries(self) -> Iterator[Entry]:
        """The records in the order of writing. Raises `UnreadableAuditError`."""
        ...

    def operations(self) -> Iterator[StoredOperation] | None:
        """The operations by id; None when the file has only records."""
        ...


class LedgerSource(Source, Protocol):
    """A ledger: records together with the tables that they account for."""

    def holds(self) -> Iterator[StoredHolds]:
        """What operations hold, in the order of their ids' bytes. Raises `UnreadableAuditError`."""
        ...

    def balances(self) -> Iterator[StoredBalance]:
        """The balances in the order of their places' bytes. Raises `UnreadableAuditError`."""
        ...


@contextmanager
def opened_ledger(place: Place) -> Iterator[LedgerSource]:
    """The ledger there, also one in use, all of it as at one moment. Raises `UnreadableAuditError`."""
    if isinstance(place, Database):
        from gateway.audit.postgres_source import reading  # noqa: PLC0415 - only who has a database needs its client

        with reading(place) as source:
            yield source
        return
    with closing(_in_use(place)) as connection, _sqlite_errors(place):
        yield _Ledger(connection)


@contextmanager
def opened(place: Place) -> Iterator[Source]:
    """The ledger file, exported file or database. Raises `UnreadableAuditError`."""
    if isinstance(place, Database):
        from gateway.audit.postgres_source import reading  # noqa: PLC0415 - only who has a database needs its client

        with reading(place) as source:
            yield source
        return
    with _file(place) as source:
        yield source


@contextmanager
def _file(path: Path) -> Iterator[Source]:
    try:
        with path.open("rb") as file:
            if file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
                file.seek(0)
                yield _Export(file)
                return
    except OSError as error:
        raise UnreadableAuditError(f"cannot read {path}: {error.strerror}") from error
    with closing(_read_only(path)) as connection, _sqlite_errors(path):
        yield _Ledger(connection)


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            # Nothing is written to the ledger, so it is the reader's own temporary file.
            raise UnreadableAuditError("there is no room for temporary files: set SQLITE_TMPDIR") from error
        raise UnreadableAuditError(f"{path} is damaged or no ledger: {error}") from error


def export(place: Place, out: BinaryIO, progress: Progress | None = None) -> int:
    """Write the records of the ledger at `place` in the portable form; the number of records. Verifies nothing."""
    with opened(place) as source:
        count = 0
        out.write(_line({"format": FORMAT, "version": 1, "records": source.total}))
        for entry in source.entries():
            out.write(_line(_portable(entry)))
            count += 1
            if progress is not None and count % PROGRESS_EVERY == 0 and count < source.total:
                progress(count, source.total)
        out.write(_line({"end": count}))
        if progress is not None:
            progress(count, source.total)
        return count


class _Ledger:
    """A SQLite ledger in one read transaction: what is written meanwhile is not seen."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("BEGIN")
        self.total = int(connection.execute("SELECT count(*) FROM audit").fetchone()[0])

    def entries(self) -> Iterator[Entry]:
        cursor = self._connection.execute(
            "SELECT instance, boot, sequence, record, leaf, link FROM audit ORDER BY position"
        )
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            for row in rows:
                if tuple(map(type, row)) != _ENTRY_TYPES:
                    raise UnreadableAuditError("a row of the audit table has values of other types than a ledger's")
                yield Entry(*row)

    def operations(self) -> Iterator[StoredOperation]:
        cursor = self._connection.execute(
            "SELECT id, state, intent_instance, intent_boot, intent_sequence, intent_leaf,"
            " outcome_instance, outcome_boot, outcome_sequence, outcome_leaf FROM operations ORDER BY id"
        )
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            for row in rows:
                if not {type(value) for value in row} <= _RECEIPT_TYPES:
                    raise UnreadableAuditError("a row of the operations table has values of other types")
                intent = Receipt(instance=row[2], boot=row[3], sequence=row[4], leaf_hash=row[5])
                outcome = None
                if row[6] is not None:
                    outcome = Receipt(instance=row[6], boot=row[7], sequence=row[8], leaf_hash=row[9])
                yield StoredOperation(row[0], row[1], intent, outcome)

    def holds(self) -> Iterator[StoredHolds]:
        for row in self._typed_rows(HOLDS, _HOLD_TYPES):
            yield read_holds(cast("HoldsRow", row))

    def balances(self) -> Iterator[StoredBalance]:
        for row in self._typed_rows(BALANCES + "scope, unit, time_window", _BALANCE_TYPES):
            scope, unit, window, held, spent = cast("BalanceRow", row)
            yield (scope, unit, window), Sum(held, spent)

    def _typed_rows(self, statement: str, types: tuple[type, ...]) -> Iterator[tuple[object, ...]]:
        cursor = self._connection.execute(statement)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            for row in rows:
                if tuple(map(type, row)) != types:
                    raise UnreadableAuditError("a row of the ledger's amounts has values of other types")
                yield row


def read_holds(row: HoldsRow) -> StoredHolds:
    """What a row of `HOLDS` says. Raises `UnreadableAuditError`."""
    operation, text = row
    try:
        told = _HOLDS.decode(text)
    except ValueError as error:
        raise UnreadableAuditError(f"what {operation} holds is not written as a ledger writes it: {error}") from error
    holds = {
        (scope, unit, window): Hold(state, amount, charged) for scope, unit, window, amount, charged, state in told
    }
    if len(holds) != len(told):
        raise UnreadableAuditError(f"{operation} holds something of one balance twice")
    return operation, holds


class _Head(msgspec.Struct):
    """The first line of an export."""

    format: str
    version: int
    records: int


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """Any later line of an export."""

    instance: str = ""
    boot: str = ""
    sequence: int = -1
    leaf: str = ""
    link: str = ""
    record: str | None = None
    record_hex: str | None = None
    end: int | None = None


class _Export:
    """An exported file, read once from its start to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        try:
            head = msgspec.json.decode(file.readline(LINE_BYTES_MAX), type=_Head)
        except msgspec.DecodeError as error:
            raise UnreadableAuditError("the file is neither a SQLite ledger nor an audit export") from error
        if head.format != FORMAT or head.version != 1:
            raise UnreadableAuditError("the export has another format or version: use the gateway that wrote it")
        self.total = head.records

    def entries(self) -> Iterator[Entry]:
        count = 0
        decoder = msgspec.json.Decoder(_Line)
        while line := self._file.readline(LINE_BYTES_MAX):
            try:
                told = decoder.decode(line)
                if told.end is not None:
                    self._finish(told.end, count)
                    return
                yield _entry(told)
            except ValueError as error:
                raise UnreadableAuditError(f"line {count + 2} is not one of an export: {error}") from error
            count += 1
        raise UnreadableAuditError(f"the export is cut off after {count} records: it has no last line")

    def operations(self) -> None:
        return None

    def _finish(self, told: int, count: int) -> None:
        if not count == told == self.total:
            raise UnreadableAuditError(
                f"the export says {self.total} records first, {told} at its end, and has {count}: export it again"
            )
        if self._file.read(1):
            raise UnreadableAuditError("the export goes on after its last line: export it again")


def _in_use(path: Path) -> sqlite3.Connection:
    """With the locks of a reader, so that a gateway may write, or start, meanwhile; without, if no gateway could."""
    try:
        return _connected(path, "")
    except UnreadableAuditError:
        return _read_only(path)


def _read_only(path: Path) -> sqlite3.Connection:
    """Without a write-ahead log beside it the file is complete, and is opened as one that never changes."""
    log = path.with_name(path.name + "-wal")
    return _connected(path, "" if log.exists() and log.stat().st_size else "&immutable=1")


def _connected(path: Path, immutable: str) -> sqlite3.Connection:
    connection = None
    try:
        address = path.resolve().as_uri() + "?mode=ro" + immutable
        connection = sqlite3.connect(address, uri=True, isolation_level=None)
        connection.execute("PRAGMA query_only=ON")
        connection.execute("SELECT 1 FROM audit LIMIT 1").fetchall()
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise UnreadableAuditError(
            f"cannot open {path} for reading: {error}. If a gateway uses it or was killed, its files with -wal and -shm"
            " belong to it: copy all of them to a folder that you can write to, and verify there"
        ) from error
    return connection


def _portable(entry: Entry) -> dict[str, object]:
    place = {"instance": entry.instance, "boot": entry.boot, "sequence": entry.sequence}
    hashes = {"leaf": entry.leaf.hex(), "link": entry.link.hex()}
    try:
        return {**place, **hashes, "record": entry.record.decode()}
    except UnicodeDecodeError:
        return {**place, **hashes, "record_hex": entry.record.hex()}


def _entry(told: _Line) -> Entry:
    if told.record is not None:
        record = told.record.encode()
    elif told.record_hex is not None:
        record = bytes.fromhex(told.record_hex)
    else:
        raise ValueError("no record in it")
    leaf, link = bytes.fromhex(told.leaf), bytes.fromhex(told.link)
    return Entry(InstanceId(told.instance), BootId(told.boot), told.sequence, record, leaf, link)


def _line(fields: dict[str, object]) -> bytes:
    return msgspec.json.encode(fields) + b"\n"
