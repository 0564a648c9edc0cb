"""What a book is read from and written to in one SQLite file: statements inside of the one writer's transaction."""

import sqlite3
from functools import cache
from typing import Final, cast

from gateway.ledger import rows
from gateway.ledger.entries import LastBoot, Search, Stored, Writes
from gateway.ledger.journal import Chain
from gateway.ledger.life import BootRepeatedError
from gateway.ledger.tables import Row, Table
from gateway.terms.ids import BootId, OperationId
from gateway.terms.operations import OperationKey, Receipt

BY_KEY: Final = f"SELECT {rows.COLUMNS} FROM operations WHERE tenant = ? AND principal = ? AND tool = ? AND key = ?"  # noqa: S608 - constants
BY_ID: Final = f"SELECT {rows.COLUMNS} FROM operations WHERE id = ?"  # noqa: S608 - constants

_NUMBER: Final = "SELECT coalesce(max(number), 0) FROM operations"
_ADD: Final = (
    f"INSERT INTO operations ({', '.join(rows.WRITTEN)}, number)"  # noqa: S608 - constants
    f" VALUES ({', '.join('?' * len(rows.WRITTEN))}, ?)"
)
_CHANGE: Final = (
    f"UPDATE operations SET {', '.join(f'{name} = ?' for name, _ in rows.BECOMING)}"  # noqa: S608 - constants
    " WHERE number = ? AND fence = ? AND state = ?"
)
"""Compare and set: with another state or fence, no row is changed."""

_APPEND: Final = "INSERT INTO audit (instance, boot, sequence, record, leaf, link) VALUES (?, ?, ?, ?, ?, ?)"
_BOOT_USED: Final = "SELECT 1 FROM boots WHERE instance = ? AND boot = ?"
_LAST_BOOT: Final = "SELECT boot FROM boots WHERE instance = ? ORDER BY number DESC LIMIT 1"
_LAST_RECORD: Final = (
    "SELECT sequence, leaf, link FROM audit WHERE instance = ? AND boot = ? ORDER BY sequence DESC LIMIT 1"
)
_BEGIN_BOOT: Final = "INSERT INTO boots (instance, boot) VALUES (?, ?)"


MEMORY_MAX: Final = 4_096
"""Operations that go on, of which the last state is remembered."""


class SqliteSource:
    """See `Source`. Only one process writes the file: an open operation is as it wrote it last."""

    __slots__ = ("_chain", "_last_open", "_number", "connection")

    def __init__(self, connection: sqlite3.Connection, chain: Chain) -> None:
        self.connection = connection
        self._chain = chain
        self._number = int(connection.execute(_NUMBER).fetchone()[0])
        self._last_open: dict[OperationId, Stored] = {}

    def begin(self) -> None:
        """Open the transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        if len(self._last_open) > MEMORY_MAX:
            self._last_open.clear()

    def forget(self) -> None:
        """What was written was rolled back, or may have been: look at everything again."""
        self._last_open.clear()

    def write(self, writes: Writes) -> None:
        """Write all of a batch; only the commit is left then."""
        execute_many, chain = self.connection.executemany, self._chain
        if writes.begins_boot:
            self.connection.execute(_BEGIN_BOOT, (chain.instance, chain.boot))
        for table, changed in writes.rows.items():
            execute_many(_put(table), [(*key, *values) for key, values in changed])
        self._add(writes.added)
        for before, after in writes.changed:
            self._last_open.pop(after.operation.id, None)
            standing = (before.number, before.fence, before.operation.state)
            if not self.connection.execute(_CHANGE, (*rows.becoming(after), *standing)).rowcount:
                raise sqlite3.IntegrityError(f"another program changed the operation {after.operation.id}")
        execute_many(_APPEND, [(chain.instance, chain.boot, *entry) for entry in writes.records])

    def commit(self) -> None:
        """Make the batch durable."""
        self.connection.execute("COMMIT")

    def row(self, table: Table, key: Row) -> Row | None:
        """See `Source`."""
        return cast("Row | None", self.connection.execute(_get(table), key).fetchone())

    def keyed(self, key: OperationKey) -> Stored | None:
        """See `Source`."""
        return self._one(BY_KEY, rows.key_row(key))

    def stored(self, operation: OperationId) -> Stored | None:
        """See `Source`."""
        return self._last_open.get(operation) or self._one(BY_ID, (operation,))

    def found(self, search: Search) -> list[Stored]:
        """See `Source`."""
        return list(map(rows.stored, self.connection.execute(*_search(search)).fetchall()))

    def last_boot(self) -> LastBoot | None:
        """See `Source`."""
        instance, boot = self._chain.instance, self._chain.boot
        if self.connection.execute(_BOOT_USED, (instance, boot)).fetchone():
            raise BootRepeatedError(f"the boot id {boot} of {instance} was used before: start with a new one")
        for (last,) in self.connection.execute(_LAST_BOOT, (instance,)).fetchall():
            for sequence, leaf, link in self.connection.execute(_LAST_RECORD, (instance, last)).fetchall():
                receipt = Receipt(instance=instance, boot=BootId(last), sequence=sequence, leaf_hash=leaf)
                return LastBoot(receipt, link)
        return None

    def _add(self, added: list[Stored]) -> None:
        numbered = [stored._replace(number=number) for number, stored in enumerate(added, self._number + 1)]
        self._number += len(added)
        self.connection.executemany(
            _ADD, [(*rows.claimed(stored), *rows.becoming(stored), stored.number) for stored in numbered]
        )
        self._last_open.update((stored.operation.id, stored) for stored in numbered)

    def _one(self, statement: str, values: Row) -> Stored | None:
        row = self.connection.execute(statement, values).fetchone()
        return None if row is None else rows.stored(row)


def _search(search: Search) -> tuple[str, list[str | int]]:
    """The statement and its values. The states stand in the text, so that the index over the open ones is used."""
    states = ", ".join(f"'{state}'" for state in search.states)
    conditions, values = [f"state IN ({states})"], list[str | int]()
    if search.owner is not None:
        conditions.append("owner_instance = ? AND owner_boot = ?")
        values.extend(search.owner)
    if search.lease_before_unix_us is not None:
        conditions.append("lease_until_unix_us < ?")
        values.append(search.lease_before_unix_us)
    if search.due_unix_us is not None:
        conditions.append("look_unix_us <= ?")
        values.append(search.due_unix_us)
    if search.unfinished:
        conditions.append(f"number IN ({rows.UNFINISHED})")
    if search.halted_by is not None:
        # A scope has no quotes, so one in quotes is a whole member of the JSON array.
        conditions.append("instr(halts, ?) > 0")
        values.append(f'"{search.halted_by}"')
    if search.named is not None:
        conditions.append("id = ?")
        values.append(search.named)
    if search.marked is not None:
        conditions.append("withdraw = ?")
        values.append(int(search.marked))
    if search.tools or not search.other_tools:
        names = ", ".join("?" * len(search.tools))
        conditions.append(f"tool {'NOT IN' if search.other_tools else 'IN'} ({names})")
        values.extend(search.tools)
    where = " AND ".join(conditions)
    order = "+number" if search.due_unix_us is None else "look_unix_us, number"
    return f"SELECT {rows.COLUMNS} FROM operations WHERE {where} ORDER BY {order} LIMIT ?", [*values, search.limit]  # noqa: S608 - constants


@cache
def _get(table: Table) -> str:
    where = " AND ".join(f"{name} = ?" for name in table.key_names)
    return f"SELECT {', '.join(table.value_names)} FROM {table.name} WHERE {where}"  # noqa: S608 - constants


@cache
def _put(table: Table) -> str:
    names = (*table.key_names, *table.value_names)
    changes = ", ".join(f"{name} = excluded.{name}" for name in table.value_names)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - constants
        f" ON CONFLICT DO UPDATE SET {changes}"
    )
