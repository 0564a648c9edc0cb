"""What a book is read from and written to in PostgreSQL: a whole batch at once, in three statements and a commit.

    BEGIN, and a lock for everything that the batch reads, in one order that is the same for all gateways
    one statement that reads it all
    (the units run, in memory)
    one statement that writes all that they changed
    COMMIT

The locks are advisory and end with the transaction. They guard keys, not rows, so that a balance or a switch which does
not exist yet is guarded as well: what may be changed is locked for one batch, what is only watched is shared by many.
So nothing is admitted after a halt's commit: the halt waits for every batch that watches its switch, and every later
one reads after it. Keys share `STRIPES` locks a table; that two keys meet in one costs a wait and nothing else.

Operations are not locked. A key that another instance has claimed meanwhile, or an operation that it has changed, is
found when the batch is written: `StaleError`, and the batch is run again from its beginning.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final, cast
from zlib import crc32

from gateway.ledger import rows
from gateway.ledger.book import UnreadError
from gateway.ledger.entries import Hold, KeyedRow, LastBoot, Reads, Search, Stored
from gateway.ledger.postgres_schema import LOCK_CLASS, Connection
from gateway.ledger.tables import BALANCES, Row, Table
from gateway.terms.ids import OperationId
from gateway.terms.operations import OperationKey

STRIPES: Final = 1_024
"""Locks of each table. All gateways of a database must agree on it."""

_OPERATION: Final = "ROW(" + ", ".join(f"o.{name}" for name in (*rows.WRITTEN, "number")) + ")"


@dataclass(slots=True)
class PostgresSource:
    """See `Source`. Holds what was fetched for one batch; `read` fetches, for all reads of the batch together."""

    before: LastBoot | None = None
    """The end of this instance's boot before this one."""
    _rows: dict[KeyedRow, Row | None] = field(default_factory=dict)
    _keys: dict[OperationKey, Stored | None] = field(default_factory=dict)
    _operations: dict[OperationId, Stored | None] = field(default_factory=dict)
    _holds: dict[OperationId, tuple[Hold, ...]] = field(default_factory=dict)
    _searches: dict[Search, list[OperationId]] = field(default_factory=dict)

    async def begin(self, connection: Connection, reads: Sequence[Reads]) -> None:
        """Open a transaction that has the locks for these reads, and read them."""
        for memory in (self._rows, self._keys, self._operations, self._holds, self._searches):
            memory.clear()
        places = dict.fromkeys((place for one in reads for place in one.watched), False)
        places |= dict.fromkeys((place for one in reads for place in one.rows), True)
        operations = dict.fromkeys(name for one in reads for name in one.operations)
        for search in {search for one in reads for search in one.searches}:
            # What is found is only a hint of what to lock; what is read under the locks is what counts.
            statement, values = _hints(search)
            hints = await connection.fetch(statement, *values)
            self._searches[search] = [hint["id"] for hint in hints]
            operations |= dict.fromkeys(self._searches[search])
            places |= {(BALANCES, tuple(place)): True for hint in hints for place in hint["places"] or ()}
        await connection.execute(_begin(places))
        keys = list(dict.fromkeys(key for one in reads for key in one.keys))
        await self._read(connection, places, keys, list(operations))

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

    def holds(self, stored: Stored) -> tuple[Hold, ...]:
        """See `Source`."""
        name = stored.operation.id
        if name not in self._operations:
            raise UnreadError(f"the holds of {name} are not among the unit's reads")
        return self._holds.get(name, ())

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
            read_keys = map(rows.stored, next(parts))
            self._keys.update((one.operation.key, one) for one in read_keys)
        if operations:
            self._operations.update((one.operation.id, one) for one in map(rows.stored, next(parts)))
            self._hold(next(parts))

    def _hold(self, read: list[Row]) -> None:
        for name, scope, unit, window, amount, charged, state in cast(
            "list[tuple[OperationId, str, str, str, int, int, str]]", read
        ):
            hold = Hold((scope, unit, window), amount, charged, state)
            self._holds[name] = (*self._holds.get(name, ()), hold)


def _begin(places: dict[KeyedRow, bool]) -> str:
    """One round trip: the statement that opens the transaction and takes the locks, in their order.

    Locks are taken row by row, in the order of the rows; it is the same everywhere, so that no two batches wait for
    each other. A snapshot begins with a statement: the one after this sees all that was committed before the locks.
    """
    locks: dict[tuple[int, int], bool] = {}
    for (table, key), alone in places.items():
        lock = (LOCK_CLASS + table.lock, crc32("\x1f".join(map(str, key)).encode()) % STRIPES)
        locks[lock] = locks.get(lock, False) or alone
    if not locks:
        return "BEGIN"
    rows_of_locks = ", ".join(f"({group}, {stripe}, {alone})" for (group, stripe), alone in sorted(locks.items()))
    return (
        "BEGIN; SELECT CASE WHEN alone THEN pg_advisory_xact_lock(kind, stripe)"  # noqa: S608 - numbers
        " ELSE pg_advisory_xact_lock_shared(kind, stripe) END"
        f" FROM (VALUES {rows_of_locks}) AS locks(kind, stripe, alone)"
    )


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
            f"(SELECT array_agg({_OPERATION}) FROM unnest({arrays}) AS k(tenant, principal, tool, key)"  # noqa: S608 - constants
            " JOIN operations o USING (tenant, principal, tool, key))"
        )
        used += 4
    if named:
        these = f"unnest(${used + 1}::text[]) AS k(id) JOIN operations o USING (id)"
        parts.append(f"(SELECT array_agg({_OPERATION}) FROM {these})")  # noqa: S608 - constants
        parts.append(
            "(SELECT array_agg(ROW(o.id, h.scope, h.unit, h.time_window, h.amount, h.charged, h.state))"  # noqa: S608 - constants
            f" FROM {these} JOIN holds h ON h.operation = o.number)"
        )
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
    statement = (
        "SELECT o.id, (SELECT array_agg(ROW(h.scope, h.unit, h.time_window)) FROM holds h"  # noqa: S608 - constants
        " WHERE h.operation = o.number) AS places FROM operations o"
        f" WHERE {' AND '.join(conditions)} ORDER BY o.number LIMIT {search.limit}"
    )
    return statement, values
