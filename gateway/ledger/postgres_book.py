"""What a book is read from and written to in PostgreSQL: a whole batch at once, in one statement or in three.

What this process wrote or read last it remembers (`recall`), and most batches need nothing else. They are one statement
and one round trip:

    lock all that the batch looked at, see whether it is as it was remembered, and write all that the batch changed

What another instance changed meanwhile makes that statement change nothing, and the batch is run again from the tables.
As long as instances are in each other's way, and for what nothing is remembered of, it is so from the beginning:

    BEGIN, and a lock for everything that the batch reads
    one statement that reads it all
    (the units run, in memory)
    one statement that writes all that they changed
    COMMIT

The locks are advisory, end with the transaction, and are taken in one order that is the same for all gateways. They
guard keys, not rows, so that a balance or a switch which does not exist yet is guarded as well: what may be changed is
locked for one batch, what is only watched is shared by many. So nothing is admitted after a halt's commit: the halt
waits for every batch that watches its switch, and every later one looks after it. Keys share `STRIPES` locks a table;
that two keys meet in one costs a wait and nothing else.

Operations are not locked. A key that another instance has claimed meanwhile, or an operation that it has changed, is
found when the batch is written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Final, NamedTuple, cast
from zlib import crc32

from gateway.ledger import rows
from gateway.ledger.book import UnreadError
from gateway.ledger.entries import KeyedRow, LastBoot, Reads, Search, Stored, Writes
from gateway.ledger.postgres_schema import LOCK_CLASS, Connection
from gateway.ledger.tables import BALANCES, Row, Table, storable
from gateway.terms.ids import OperationId
from gateway.terms.money import OWN
from gateway.terms.operations import OperationKey

STRIPES: Final = 1_024
"""Locks of each table. All gateways of a database must agree on it."""

OPERATION: Final = "ROW(" + ", ".join(f"o.{name}" for name in (*rows.WRITTEN, "number")) + ")"
"""What `rows.stored` reads, of a row `o`."""

LOCKS: Final = (
    "SELECT CASE WHEN alone THEN pg_advisory_xact_lock(kind, stripe)"
    " ELSE pg_advisory_xact_lock_shared(kind, stripe) END FROM"
)
"""Takes locks in the order of the rows after it, of the columns kind, stripe and alone."""


MEMORY_MAX: Final = 4_096
"""Rows, and operations that go on, of which the last state is remembered."""


class Written(NamedTuple):
    """What PostgreSQL told of a batch that it wrote."""

    writer: int
    """The transaction, as `xmin` tells it of everything that it wrote."""
    numbers: Mapping[OperationId, int]
    """Of the operations that were added."""


class _Open(NamedTuple):
    """An operation that this process began and that goes on."""

    stored: Stored
    writer: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What a batch looked at in memory; what it writes may count only while all of it is so in the tables."""

    locks: list[tuple[int, int, bool]]
    """In the order in which they are taken: class, number, and whether for this batch alone."""
    rows: dict[Table, list[tuple[Row, Row | None]]]
    operations: list[tuple[int, int]]
    """The number of each, and the transaction that wrote it."""
    keys: list[OperationKey]
    """No operation has one of these."""


@dataclass(slots=True)
class PostgresSource:
    """See `Source`. Holds what one batch may look at: what was fetched for it, or what is remembered."""

    before: LastBoot | None = None
    """The end of this instance's boot before this one."""
    _rows: dict[KeyedRow, Row | None] = field(default_factory=dict)
    _keys: dict[OperationKey, Stored | None] = field(default_factory=dict)
    _operations: dict[OperationId, Stored | None] = field(default_factory=dict)
    _searches: dict[Search, list[OperationId]] = field(default_factory=dict)
    _places: dict[KeyedRow, bool] = field(default_factory=dict)
    """What may be changed (true), and what is only watched."""
    _writers: dict[int, int] = field(default_factory=dict)
    """Of each operation's number, the transaction that wrote it."""
    _last_rows: dict[KeyedRow, Row | None] = field(default_factory=dict)
    _last_open: dict[OperationId, _Open] = field(default_factory=dict)

    def recall(self, reads: Sequence[Reads]) -> bool:
        """Take what is remembered for a batch, and no row and no key where nothing is; false where that will not do."""
        if any(one.searches or not self._last_open.keys() >= set(one.operations) for one in reads):
            return False
        self._forget()
        self._places = _places(reads)
        self._rows = {place: self._last_rows.get(place) for place in self._places}
        self._keys = dict.fromkeys(key for one in reads for key in one.keys)
        for name in {name for one in reads for name in one.operations}:
            stored, writer = self._last_open[name]
            self._operations[name], self._writers[stored.number] = stored, writer
        return True

    def learn(self, writes: Writes, written: Written) -> None:
        """Remember what the batch read and what became of it. It is committed."""
        for memory in (self._last_rows, self._last_open):
            if len(memory) > MEMORY_MAX:
                memory.clear()
        self._last_rows |= self._rows
        for table, changed in writes.rows.items():
            plain = table.plain
            self._last_rows.update(
                ((table, key), values if plain else tuple(map(storable, values))) for key, values in changed
            )
        for before, _ in writes.changed:
            self._last_open.pop(before.operation.id, None)
        for stored in writes.added:
            name = stored.operation.id
            self._last_open[name] = _Open(stored._replace(number=written.numbers[name]), written.writer)

    async def begin(self, connection: Connection, reads: Sequence[Reads]) -> None:
        """Open a transaction that has the locks for these reads, and read them."""
        self._forget()
        places = _places(reads)
        operations = dict.fromkeys(name for one in reads for name in one.operations)
        for search in {search for one in reads for search in one.searches}:
            # What is found is only a hint of what to lock; what is read under the locks is what counts.
            statement, values = _hints(search)
            hints = await connection.fetch(statement, *values)
            self._searches[search] = [hint["id"] for hint in hints]
            operations |= dict.fromkeys(self._searches[search])
            held = (hold.place for hint in hints for hold in rows.read_holds(hint["holds"]))
            places |= {(BALANCES, at): True for at in held if at[2] not in OWN}
        await connection.execute(_begin(places))
        keys = list(dict.fromkeys(key for one in reads for key in one.keys))
        await self._read(connection, places, keys, list(operations))

    def seen(self) -> Seen:
        """All that was taken from memory."""
        by_table: dict[Table, list[tuple[Row, Row | None]]] = {}
        for (table, key), values in self._rows.items():
            by_table.setdefault(table, []).append((key, values))
        return Seen(_locks(self._places), by_table, list(self._writers.items()), list(self._keys))

    def row(self, table: Table, key: Row) -> Row | None:
        """See `Source`."""
        try:
            return self._rows[table, key]
        except KeyError:
            raise UnreadError(f"{table.name} {key} is not among the unit's reads") from None

    def keyed(self, key: OperationKey) -> Stored | None:
        """See `Source`."""
        try:
            return self._keys[key]
        except KeyError:
            raise UnreadError(f"the key {key} is not among the unit's reads") from None

    def stored(self, operation: OperationId) -> Stored | None:
        """See `Source`."""
        try:
            return self._operations[operation]
        except KeyError:
            raise UnreadError(f"the operation {operation} is not among the unit's reads") from None

    def found(self, search: Search) -> list[Stored]:
        """See `Source`."""
        try:
            names = self._searches[search]
        except KeyError:
            raise UnreadError(f"{search} is not among the unit's reads") from None
        read = (self._operations[name] for name in names)
        return [one for one in read if one is not None and search.matches(one)]

    def last_boot(self) -> LastBoot | None:
        """See `Source`."""
        return self.before

    async def _read(
        self,
        connection: Connection,
        places: Iterable[KeyedRow],
        keys: list[OperationKey],
        operations: list[OperationId],
    ) -> None:
        by_table: dict[Table, list[Row]] = {}
        for table, key in places:
            by_table.setdefault(table, []).append(key)
        values: list[Sequence[object]] = [column for named in by_table.values() for column in zip(*named, strict=True)]
        if keys:
            values.extend(zip(*map(rows.key_row, keys), strict=True))
        if operations:
            values.append(operations)
        self._keys = dict.fromkeys(keys)
        self._operations = dict.fromkeys(operations)
        if not values:
            return
        statement = _reading(tuple(by_table), keyed=bool(keys), named=bool(operations))
        [told] = await connection.fetch(statement, *values)
        parts = (part or [] for part in cast("Iterable[list[Row] | None]", told.values()))
        for table, named in by_table.items():
            read = {cast("int", ordinal): values for ordinal, *values in next(parts)}
            self._rows.update(
                ((table, key), tuple(read[place]) if place in read else None) for place, key in enumerate(named, 1)
            )
        if keys:
            self._keys.update((one.operation.key, one) for one in map(rows.stored, next(parts)))
        if operations:
            self._operations.update((one.operation.id, one) for one in map(rows.stored, next(parts)))

    def _forget(self) -> None:
        """The batch before."""
        for memory in (self._rows, self._keys, self._operations, self._searches, self._writers):
            memory.clear()


def _places(reads: Sequence[Reads]) -> dict[KeyedRow, bool]:
    """The rows to look at; true for those that may be changed."""
    places = dict.fromkeys((place for one in reads for place in one.watched), False)
    return places | dict.fromkeys((place for one in reads for place in one.rows), True)


def _begin(places: dict[KeyedRow, bool]) -> str:
    """One round trip: the statement that opens the transaction and takes the locks, in their order.

    Locks are taken row by row, in the order of the rows; it is the same everywhere, so that no two batches wait for
    each other. A snapshot begins with a statement: the one after this sees all that was committed before the locks.
    """
    locks = _locks(places)
    if not locks:
        return "BEGIN"
    rows_of_locks = ", ".join(f"({group}, {stripe}, {alone})" for group, stripe, alone in locks)
    return f"BEGIN; {LOCKS} (VALUES {rows_of_locks}) AS r(kind, stripe, alone)"


def _locks(places: dict[KeyedRow, bool]) -> list[tuple[int, int, bool]]:
    locks: dict[tuple[int, int], bool] = {}
    for (table, key), alone in places.items():
        lock = _lock(table, key)
        locks[lock] = locks.get(lock, False) or alone
    return [(group, stripe, alone) for (group, stripe), alone in sorted(locks.items())]


@lru_cache(maxsize=MEMORY_MAX)
def _lock(table: Table, key: Row) -> tuple[int, int]:
    return LOCK_CLASS + table.lock, crc32("\x1f".join(map(str, key)).encode()) % STRIPES


@cache
def _reading(tables: tuple[Table, ...], *, keyed: bool, named: bool) -> str:
    """The statement that reads everything: a column a part, in it the rows as an array."""
    parts: list[str] = []
    used = 0
    for table in tables:
        arrays = ", ".join(f"${used + place}::{kind}[]" for place, (_, kind) in enumerate(table.key, 1))
        names = ", ".join(table.key_names)
        columns = ", ".join(f"t.{name}" for name in table.value_names)
        parts.append(
            f"(SELECT array_agg(ROW(k.ordinal, {columns}))"  # noqa: S608 - constants
            f" FROM unnest({arrays}) WITH ORDINALITY AS k({names}, ordinal) JOIN {table.name} t USING ({names}))"
        )
        used += len(table.key)
    if keyed:
        arrays = ", ".join(f"${used + place}::text[]" for place in range(1, 5))
        parts.append(
            f"(SELECT array_agg({OPERATION}) FROM unnest({arrays}) AS k(tenant, principal, tool, key)"  # noqa: S608 - constants
            " JOIN operations o USING (tenant, principal, tool, key))"
        )
        used += 4
    if named:
        these = f"unnest(${used + 1}::text[]) AS k(id) JOIN operations o USING (id)"
        parts.append(f"(SELECT array_agg({OPERATION}) FROM {these})")  # noqa: S608 - constants
    return "SELECT " + ", ".join(f"{part} AS part_{number}" for number, part in enumerate(parts))


def _hints(search: Search) -> tuple[str, list[object]]:
    """The statement, and its values, that names what a search would find, and the balances of its holds."""
    states = ", ".join(f"'{state}'" for state in search.states)
    conditions, values = [f"o.state IN ({states})"], list[object]()
    if search.owner is not None:
        conditions.append("o.owner_instance = $1 AND o.owner_boot = $2")
        values.extend(search.owner)
    if search.lease_before_unix_us is not None:
        conditions.append(f"o.lease_until_unix_us < ${len(values) + 1}")
        values.append(search.lease_before_unix_us)
    if search.due_unix_us is not None:
        conditions.append(f"o.look_unix_us <= ${len(values) + 1}")
        values.append(search.due_unix_us)
    if search.unfinished:
        conditions.append(f"o.number IN ({rows.UNFINISHED})")
    if search.halted_by is not None:
        # A scope has no quotes, so one in quotes is a whole member of the JSON array.
        conditions.append(f"position(${len(values) + 1}::text in o.halts) > 0")
        values.append(f'"{search.halted_by}"')
    if search.named is not None:
        conditions.append(f"o.id = ${len(values) + 1}")
        values.append(search.named)
    if search.marked is not None:
        conditions.append(f"o.withdraw = {int(search.marked)}")
    if search.tools or not search.other_tools:
        conditions.append(f"o.tool {'<> ALL' if search.other_tools else '= ANY'} (${len(values) + 1}::text[])")
        values.append(search.tools)
    order = "o.number" if search.due_unix_us is None else "o.look_unix_us, o.number"
    statement = (
        f"SELECT o.id, o.holds FROM operations o WHERE {' AND '.join(conditions)}"  # noqa: S608 - constants
        f" ORDER BY {order} LIMIT {search.limit}"
    )
    return statement, values
