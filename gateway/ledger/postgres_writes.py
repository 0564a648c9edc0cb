"""All writes of a batch as one statement for PostgreSQL: a step for each table, its rows as arrays of its columns.

Where the batch looked at what is remembered, two steps come first: one takes the locks, one looks whether everything is
as it was remembered. The functions of the second take a snapshot of their own each, after the locks; that of the
statement was taken before them. It does no harm: what the other steps change they change as it is then (INSERT ... ON
CONFLICT, and UPDATE in READ COMMITTED), and none of them has a row before the first two are done, as each is joined
with them.

The text of the statement depends on its shape alone: which steps it has, not how many rows or what is in them. There
are a few dozen shapes, and each is put together once.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import count
from typing import Final, NamedTuple

import msgspec

from gateway.ledger import rows
from gateway.ledger.entries import Stored, Writes
from gateway.ledger.journal import Chain
from gateway.ledger.postgres_book import LOCKS, Seen, Written
from gateway.ledger.postgres_schema import Connection
from gateway.ledger.tables import Row, Table, storable

_Columns = tuple[tuple[str, str], ...]

_ADDED: Final[_Columns] = (*rows.CLAIMED, *rows.BECOMING)
_CHANGED: Final[_Columns] = (("was_number", "bigint"), ("was_fence", "bigint"), ("was_state", "text"), *rows.BECOMING)
_ENTRY: Final[_Columns] = (("sequence", "bigint"), ("record", "bytea"), ("leaf", "bytea"), ("link", "bytea"))
_KEYS: Final = ("text",) * 4
_OPERATIONS: Final = ("bigint", "bigint")
_LOCKS: Final = ("int", "int", "boolean")

_ENCODE: Final = msgspec.json.Encoder().encode


class _Shape(NamedTuple):
    """What a statement does; see `_values` for what it does it with."""

    guarded: bool
    looks: tuple[Table, ...]
    operations: bool
    keys: bool
    begins_boot: bool
    adds: bool
    changes: bool
    puts: tuple[Table, ...]
    appends: bool


async def write(connection: Connection, writes: Writes, chain: Chain, batch: int, seen: Seen | None = None) -> Written:
    """Write it all, as batch number `batch` of this boot.

    Without `seen` the transaction has the locks already; with it, this is the whole transaction. Raises
    `asyncpg.SerializationError` where another instance changed what the batch looked at: nothing was written then.
    """
    shape = _Shape(
        guarded=seen is not None and bool(seen.rows or seen.operations or seen.keys),
        looks=() if seen is None else tuple(seen.rows),
        operations=seen is not None and bool(seen.operations),
        keys=seen is not None and bool(seen.keys),
        begins_boot=writes.begins_boot,
        adds=bool(writes.added),
        changes=bool(writes.changed),
        puts=tuple(writes.rows),
        appends=bool(writes.records),
    )
    values = _values(writes, chain, batch, seen if shape.guarded else None)
    [told] = await connection.fetch(_text(shape), *values)
    return Written(told["writer"], dict(told["numbers"] or ()))


def _values(writes: Writes, chain: Chain, batch: int, seen: Seen | None) -> list[object]:
    """The values of the statement, in the order in which `_text` names them."""
    values: list[object] = []
    if seen is not None:
        for table, told in seen.rows.items():
            nothing = (None,) * len(table.values)
            looks = [(*key, known is not None, *(nothing if known is None else known)) for key, known in told]
            values += _arrays(_look_kinds(table), looks)
        if seen.operations:
            values += _arrays(_OPERATIONS, seen.operations)
        if seen.keys:
            values += _arrays(_KEYS, list(map(rows.key_row, seen.keys)))
        values += _arrays(_LOCKS, seen.locks)
    values += (chain.instance, chain.boot, batch)
    if writes.added:
        values += _arrays(_kinds(_ADDED), [(*rows.claimed(one), *rows.becoming(one)) for one in writes.added])
    if writes.changed:
        values += _arrays(_kinds(_CHANGED), list(map(_changed, sorted(writes.changed, key=_number))))
    for table, changed in writes.rows.items():
        values += _arrays(_kinds((*table.key, *table.values)), [(*key, *now) for key, now in changed])
    if writes.records:
        values += _arrays(_kinds(_ENTRY), writes.records)
    return values + [len(told) for told in (writes.added, writes.changed) if told]


def _arrays(kinds: tuple[str, ...], told: Sequence[Row]) -> Iterator[object]:
    """The rows by columns, each as `_Text.array` takes it."""
    columns: Iterable[Row] = zip(*told, strict=True) if told else [()] * len(kinds)
    for kind, column in zip(kinds, columns, strict=True):
        yield column if kind == "bytea" else _array(column)


def _array(column: Row) -> str:
    """A column as the text of an array: in JSON's words, but for the brackets and what has to be escaped.

    asyncpg asks of each member of a list whether it is a list too, which took more than all the rest of its work for a
    batch.
    """
    try:
        told = _ENCODE(column)
    except UnicodeEncodeError:  # half a surrogate pair
        told = None
    members = ",".join(map(_quoted, column)) if told is None or b"\\" in told else told[1:-1].decode()
    return f"{{{members}}}"


def _quoted(value: object) -> str:
    """A member of an array's text (PostgreSQL manual, 8.15.6)."""
    if not isinstance(value, str):
        return msgspec.json.encode(value).decode()
    text = str(storable(value)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _changed(changed: tuple[Stored, Stored]) -> Row:
    before, after = changed
    return (before.number, before.fence, before.operation.state, *rows.becoming(after))


def _number(changed: tuple[Stored, Stored]) -> int:
    before, _ = changed
    return before.number


@cache
def _kinds(columns: _Columns) -> tuple[str, ...]:
    return tuple(kind for _, kind in columns)


@cache
def _look_kinds(table: Table) -> tuple[str, ...]:
    """The keys' columns, whether each row is there, the values' columns."""
    return (*_kinds(table.key), "boolean", *_kinds(table.values))


@cache
def _text(shape: _Shape) -> str:
    """Steps (PostgreSQL's data-modifying WITH); steps without rows are left out."""
    text = _Text("same" if shape.guarded else "")
    if shape.guarded:
        _guard(text, shape)
    instance, boot, number = text.value(), text.value(), f"{text.value()}::bigint"
    text.steps["batches"] = _counting(text, instance, boot, number, begins=shape.begins_boot)
    if shape.adds:
        text.steps["added"] = (
            f"INSERT INTO operations ({_names(_ADDED)}) SELECT {_names(_ADDED)} FROM {text.rows(_ADDED)}"  # noqa: S608 - constants
            " ORDER BY ordinal ON CONFLICT DO NOTHING RETURNING number, id"
        )
    if shape.changes:
        sets = ", ".join(f"{name} = r.{name}" for name, _ in rows.BECOMING)
        text.steps["changed"] = (
            f"UPDATE operations o SET {sets} FROM {text.rows(_CHANGED)}"  # noqa: S608 - constants
            " WHERE o.number = r.was_number AND o.fence = r.was_fence AND o.state = r.was_state RETURNING 1"
        )
    for table in shape.puts:
        columns = (*table.key, *table.values)
        sets = ", ".join(f"{name} = excluded.{name}" for name in table.value_names)
        text.steps[f"put_{table.name}"] = (
            f"INSERT INTO {table.name} ({_names(columns)}) SELECT {_names(columns)} FROM {text.rows(columns)}"  # noqa: S608 - constants
            f" ON CONFLICT ({_names(table.key)}) DO UPDATE SET {sets}"
        )
    if shape.appends:
        text.steps["recorded"] = (
            f"INSERT INTO audit (instance, boot, {_names(_ENTRY)}) SELECT {instance}, {boot}, {_names(_ENTRY)}"  # noqa: S608 - constants
            f" FROM {text.rows(_ENTRY)} ORDER BY ordinal"
        )
    return text.whole()


class _Text:
    """A statement that is put together; its values are named in the order in which they are asked for."""

    def __init__(self, after: str) -> None:
        self.steps: dict[str, str] = {}
        self.after = f", {after}" if after else ""
        """Joined with every step's rows: it has none before that step is done."""
        self._numbers = count(1)

    def value(self) -> str:
        """The name of one more value."""
        return f"${next(self._numbers)}"

    def array(self, kind: str) -> str:
        """The same for an array; all but bytes are handed over as texts."""
        return f"{self.value()}{'' if kind == 'bytea' else '::text'}::{kind}[]"

    def arrays(self, kinds: Iterable[str]) -> str:
        """Several."""
        return ", ".join(map(self.array, kinds))

    def rows(self, columns: _Columns) -> str:
        """Rows of these columns, in their order."""
        return f"unnest({self.arrays(_kinds(columns))}) WITH ORDINALITY AS r({_names(columns)}, ordinal){self.after}"

    def whole(self) -> str:
        """All of it; of these steps each must have had so many rows."""
        expected = {"batches": "1"}
        expected |= {name: self.value() for name in ("added", "changed") if name in self.steps}
        checks = ", ".join(
            f"gateway_expect('{name}', (SELECT count(*) FROM {name}), {rows_}::bigint)"  # noqa: S608 - constants
            for name, rows_ in expected.items()
        )
        steps = ", ".join(f"{name} AS MATERIALIZED ({text})" for name, text in self.steps.items())
        numbers = "(SELECT array_agg(ROW(id, number)) FROM added)" if "added" in self.steps else "NULL"
        return f"WITH {steps} SELECT {checks}, {numbers} AS numbers, pg_current_xact_id()::xid::text::bigint AS writer"


def _guard(text: _Text, shape: _Shape) -> None:
    """Lock what was looked at, and see whether it is still the same."""
    looks = [f"gateway_same_{table.name}({text.arrays(_look_kinds(table))})" for table in shape.looks]
    if shape.operations:
        looks.append(f"gateway_same_operations({text.arrays(_OPERATIONS)})")
    if shape.keys:
        looks.append(f"gateway_new_keys({text.arrays(_KEYS)})")
    text.steps["locked"] = (
        f"SELECT count(*) FROM ({LOCKS} unnest({text.arrays(_LOCKS)}) AS r(kind, stripe, alone)) AS one"  # noqa: S608 - constants
    )
    text.steps["same"] = f"SELECT {' AND '.join(looks)} FROM locked"  # noqa: S608 - constants


def _counting(text: _Text, instance: str, boot: str, number: str, *, begins: bool) -> str:
    """Count the batch: what a lost connection leaves open, this row tells. Until the commit it is locked, too."""
    if begins:
        return (
            f"INSERT INTO boots (instance, boot, batch) SELECT {instance}, {boot}, {number}"  # noqa: S608 - constants
            f" FROM (SELECT 1) AS r{text.after} RETURNING 1"
        )
    return (
        f"UPDATE boots SET batch = {number} FROM (SELECT 1) AS r{text.after}"  # noqa: S608 - constants
        f" WHERE instance = {instance} AND boot = {boot} AND batch = {number} - 1 RETURNING 1"
    )


def _names(columns: _Columns) -> str:
    return ", ".join(name for name, _ in columns)
