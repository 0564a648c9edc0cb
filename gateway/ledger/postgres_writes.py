"""All writes of a batch as one statement for PostgreSQL: a step for each table, its rows as arrays of its columns.

Where the batch looked at what is remembered, two steps come first: one takes the locks, one looks whether everything is
as it was remembered. The functions of the second take a snapshot of their own each, after the locks; that of the
statement was taken before them. It does no harm: what the other steps change they change as it is then (INSERT ... ON
CONFLICT, and UPDATE in READ COMMITTED), and none of them has a row before the first two are done, as each is joined
with them.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from gateway.ledger import rows
from gateway.ledger.entries import Stored, Writes
from gateway.ledger.journal import Chain
from gateway.ledger.postgres_book import LOCKS, Seen, Written
from gateway.ledger.postgres_schema import Connection
from gateway.ledger.tables import Row, Table, storable

_Columns = tuple[tuple[str, str], ...]

_ENTRY: Final[_Columns] = (("sequence", "bigint"), ("record", "bytea"), ("leaf", "bytea"), ("link", "bytea"))
_STANDING: Final[_Columns] = (("was_number", "bigint"), ("was_fence", "bigint"), ("was_state", "text"))


async def write(connection: Connection, writes: Writes, chain: Chain, batch: int, seen: Seen | None = None) -> Written:
    """Write it all, as batch number `batch` of this boot.

    Without `seen` the transaction has the locks already; with it, this is the whole transaction. Raises
    `asyncpg.SerializationError` where another instance changed what the batch looked at: nothing was written then.
    """
    statement = _Statement()
    if seen is not None:
        _guard(statement, seen)
    expected = {
        "batches": _counted(statement, writes, chain, batch),
        "added": _add(statement, writes.added),
        "changed": _change(statement, writes.changed),
    }
    for table, changed in writes.rows.items():
        _put(statement, table, changed)
    _append(statement, writes, chain)
    [told] = await connection.fetch(statement.text(expected), *statement.values)
    return Written(told["writer"], dict(told["numbers"] or ()))


class _Statement:
    """Steps (PostgreSQL's data-modifying WITH) and their values; steps without rows are left out."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self.after = ""
        """Joined with every step's rows: it has none before the steps in it are done."""
        self._steps: dict[str, str] = {}

    def value(self, value: object) -> str:
        """The name of one value in the text."""
        self.values.append(value)
        return f"${len(self.values)}"

    def array(self, kind: str, values: Sequence[object]) -> str:
        """The text that stands for an array of these values.

        It is handed over as a text where that is the same: asyncpg asks of each member of a list whether it is a list
        too, which took more than all the rest of its work for a batch.
        """
        if kind != "bytea":
            told = msgspec.json.encode(values).decode()
            if "\\" not in told:  # what JSON escapes, an array's text escapes otherwise
                return f"{self.value(f'{{{told[1:-1]}}}')}::text::{kind}[]"
        return f"{self.value(values)}::{kind}[]"

    def rows(self, columns: _Columns, told: Sequence[Row]) -> str:
        """The text that stands for these rows, in their order."""
        arrays: list[str] = []
        for (_, kind), values in zip(columns, zip(*told, strict=True), strict=True):
            arrays.append(self.array(kind, list(map(storable, values) if kind == "text" else values)))
        return f"unnest({', '.join(arrays)}) WITH ORDINALITY AS r({_names(columns)}, ordinal){self.after}"

    def step(self, name: str, text: str) -> None:
        """One more step."""
        self._steps[name] = text

    def text(self, expected: dict[str, int]) -> str:
        """The whole; each of these steps must have had so many rows."""
        checks = [
            f"gateway_expect('{name}', (SELECT count(*) FROM {name}), {self.value(count)}::bigint)"  # noqa: S608 - constants
            for name, count in expected.items()
            if name in self._steps
        ]
        steps = ", ".join(f"{name} AS MATERIALIZED ({text})" for name, text in self._steps.items())
        numbers = "(SELECT array_agg(ROW(id, number)) FROM added)" if "added" in self._steps else "NULL"
        return (
            f"WITH {steps} SELECT {', '.join(checks)}, {numbers} AS numbers,"
            " pg_current_xact_id()::xid::text::bigint AS writer"
        )


def _guard(statement: _Statement, seen: Seen) -> None:
    """Lock what was looked at, and see whether it is still the same."""
    looks = [
        f"gateway_same_{table.name}({', '.join(_told(statement, table, told))})" for table, told in seen.rows.items()
    ]
    if seen.operations:
        named = (statement.array("bigint", column) for column in zip(*seen.operations, strict=True))
        looks.append(f"gateway_same_operations({', '.join(named)})")
    if seen.keys:
        columns = zip(*map(rows.key_row, seen.keys), strict=True)
        looks.append(f"gateway_new_keys({', '.join(statement.array('text', column) for column in columns)})")
    if not looks:
        return
    kinds, stripes, alone = zip(*seen.locks, strict=True) if seen.locks else ((), (), ())
    arrays = ", ".join(
        statement.array(kind, values) for values, kind in ((kinds, "int"), (stripes, "int"), (alone, "boolean"))
    )
    statement.step(
        "locked",
        f"SELECT count(*) FROM ({LOCKS} unnest({arrays}) AS r(kind, stripe, alone)) AS one",  # noqa: S608 - constants
    )
    statement.step("same", f"SELECT {' AND '.join(looks)} FROM locked")  # noqa: S608 - constants
    statement.after = ", same"


def _told(statement: _Statement, table: Table, told: list[tuple[Row, Row | None]]) -> Iterator[str]:
    """The arguments of `gateway_same_...`: the keys' columns, whether each row is there, the values' columns."""
    nothing = (None,) * len(table.values)
    kinds = [*(kind for _, kind in table.key), "boolean", *(kind for _, kind in table.values)]
    keys = zip(*(key for key, _ in told), strict=True)
    values = zip(*(values or nothing for _, values in told), strict=True)
    columns = (*keys, tuple(values is not None for _, values in told), *values)
    for kind, column in zip(kinds, columns, strict=True):
        yield statement.array(kind, column)


def _counted(statement: _Statement, writes: Writes, chain: Chain, batch: int) -> int:
    """Count the batch: what a lost connection leaves open, this row tells. Until the commit it is locked, too."""
    instance, boot, number = statement.value(chain.instance), statement.value(chain.boot), statement.value(batch)
    if writes.begins_boot:
        text = (
            f"INSERT INTO boots (instance, boot, batch) SELECT {instance}, {boot}, {number}::bigint"  # noqa: S608 - constants
            f" FROM (SELECT 1) AS r{statement.after} RETURNING 1"
        )
    else:
        text = (
            f"UPDATE boots SET batch = {number}::bigint FROM (SELECT 1) AS r{statement.after}"  # noqa: S608 - constants
            f" WHERE instance = {instance} AND boot = {boot} AND batch = {number}::bigint - 1 RETURNING 1"
        )
    statement.step("batches", text)
    return 1


def _add(statement: _Statement, added: list[Stored]) -> int:
    if not added:
        return 0
    columns = (*rows.CLAIMED, *rows.BECOMING)
    told = [(*rows.claimed(stored), *rows.becoming(stored)) for stored in added]
    statement.step(
        "added",
        f"INSERT INTO operations ({_names(columns)}) SELECT {_names(columns)} FROM {statement.rows(columns, told)}"  # noqa: S608 - constants
        " ORDER BY ordinal ON CONFLICT DO NOTHING RETURNING number, id",
    )
    return len(added)


def _change(statement: _Statement, changed: list[tuple[Stored, Stored]]) -> int:
    if not changed:
        return 0
    told = [
        (before.number, before.fence, before.operation.state, *rows.becoming(after))
        for before, after in sorted(changed, key=_number)
    ]
    sets = ", ".join(f"{name} = r.{name}" for name, _ in rows.BECOMING)
    statement.step(
        "changed",
        f"UPDATE operations o SET {sets} FROM {statement.rows((*_STANDING, *rows.BECOMING), told)}"  # noqa: S608 - constants
        " WHERE o.number = r.was_number AND o.fence = r.was_fence AND o.state = r.was_state RETURNING 1",
    )
    return len(changed)


def _put(statement: _Statement, table: Table, changed: list[tuple[Row, Row]]) -> None:
    columns = (*table.key, *table.values)
    sets = ", ".join(f"{name} = excluded.{name}" for name in table.value_names)
    told = [(*key, *values) for key, values in changed]
    statement.step(
        f"put_{table.name}",
        f"INSERT INTO {table.name} ({_names(columns)}) SELECT {_names(columns)} FROM {statement.rows(columns, told)}"  # noqa: S608 - constants
        f" ON CONFLICT ({_names(table.key)}) DO UPDATE SET {sets}",
    )


def _append(statement: _Statement, writes: Writes, chain: Chain) -> None:
    if writes.records:
        instance, boot = statement.value(chain.instance), statement.value(chain.boot)
        statement.step(
            "recorded",
            f"INSERT INTO audit (instance, boot, {_names(_ENTRY)}) SELECT {instance}, {boot}, {_names(_ENTRY)}"  # noqa: S608 - constants
            f" FROM {statement.rows(_ENTRY, writes.records)} ORDER BY ordinal",
        )


def _names(columns: _Columns) -> str:
    return ", ".join(name for name, _ in columns)


def _number(changed: tuple[Stored, Stored]) -> int:
    before, _ = changed
    return before.number
