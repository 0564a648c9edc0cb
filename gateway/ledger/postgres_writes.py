"""All writes of a batch as one statement for PostgreSQL: a step for each table, its rows as arrays of its columns."""

from collections.abc import Iterable, Sequence
from typing import Final

from gateway.ledger import rows
from gateway.ledger.entries import Hold, Stored, Writes
from gateway.ledger.journal import Chain
from gateway.ledger.postgres_schema import Connection
from gateway.ledger.tables import Row, Table, storable

_Columns = tuple[tuple[str, str], ...]

_HOLD: Final[_Columns] = (
    ("scope", "text"), ("unit", "text"), ("time_window", "text"), ("amount", "bigint"), ("charged", "bigint"),
    ("state", "text"),
)  # fmt: skip
_ENTRY: Final[_Columns] = (("sequence", "bigint"), ("record", "bytea"), ("leaf", "bytea"), ("link", "bytea"))
_STANDING: Final[_Columns] = (("was_number", "bigint"), ("was_fence", "bigint"), ("was_state", "text"))


class StaleError(Exception):
    """Another instance changed what the batch had read of operations: run it again."""


async def write(connection: Connection, writes: Writes, chain: Chain, batch: int) -> None:
    """Write it all, as batch number `batch` of this boot. Raises `StaleError`; nothing may be committed then."""
    statement = _Statement()
    expected = {
        "batches": _counted(statement, writes, chain, batch),
        "added": _add(statement, writes.added),
        "changed": _change(statement, writes.changed),
    }
    _change_holds(statement, writes.holds)
    for table, changed in writes.rows.items():
        _put(statement, table, changed)
    _append(statement, writes, chain)
    [told] = await connection.fetch(statement.text(tuple(expected)), *statement.values)
    for name, count in expected.items():
        if told[name] != count:
            raise StaleError(f"{told[name]} of {count} {name}")


class _Statement:
    """Steps (PostgreSQL's data-modifying WITH) and their values; steps without rows are left out."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._steps: dict[str, str] = {}

    def value(self, value: object) -> str:
        """The name of one value in the text."""
        self.values.append(value)
        return f"${len(self.values)}"

    def rows(self, columns: _Columns, told: Sequence[Row]) -> str:
        """The text that stands for these rows, in their order."""
        arrays: list[str] = []
        for (_, kind), values in zip(columns, zip(*told, strict=True), strict=True):
            stored: Iterable[object] = map(storable, values) if kind == "text" else values
            arrays.append(f"{self.value(list(stored))}::{kind}[]")
        return f"unnest({', '.join(arrays)}) WITH ORDINALITY AS r({_names(columns)}, ordinal)"

    def step(self, name: str, text: str) -> None:
        """One more step."""
        self._steps[name] = text

    def text(self, counted: tuple[str, ...]) -> str:
        """The whole, telling how many rows each of the counted steps had."""
        steps = ", ".join(f"{name} AS ({text})" for name, text in self._steps.items())
        counts = ", ".join(
            f"(SELECT count(*) FROM {name}) AS {name}" if name in self._steps else f"0 AS {name}"  # noqa: S608 - constants
            for name in counted
        )
        return f"WITH {steps} SELECT {counts}"


def _counted(statement: _Statement, writes: Writes, chain: Chain, batch: int) -> int:
    """Count the batch: what a lost connection leaves open, this row tells. Until the commit it is locked, too."""
    instance, boot, number = statement.value(chain.instance), statement.value(chain.boot), statement.value(batch)
    if writes.begins_boot:
        text = f"INSERT INTO boots (instance, boot, batch) VALUES ({instance}, {boot}, {number}::bigint) RETURNING 1"  # noqa: S608 - constants
    else:
        text = (
            f"UPDATE boots SET batch = {number}::bigint"  # noqa: S608 - constants
            f" WHERE instance = {instance} AND boot = {boot} AND batch = {number}::bigint - 1 RETURNING 1"
        )
    statement.step("batches", text)
    return 1


def _add(statement: _Statement, added: list[tuple[Stored, tuple[Hold, ...]]]) -> int:
    if not added:
        return 0
    columns = (*rows.CLAIMED, *rows.BECOMING)
    told = [(*rows.claimed(stored), *rows.becoming(stored)) for stored, _ in added]
    statement.step(
        "added",
        f"INSERT INTO operations ({_names(columns)}) SELECT {_names(columns)} FROM {statement.rows(columns, told)}"  # noqa: S608 - constants
        " ORDER BY ordinal ON CONFLICT DO NOTHING RETURNING number, id",
    )
    holds: list[Row] = [(stored.operation.id, *hold.place, *hold[1:]) for stored, held in added for hold in held]
    if holds:
        statement.step(
            "held",
            f"INSERT INTO holds (operation, {_names(_HOLD)}) SELECT added.number, {_names(_HOLD)}"  # noqa: S608 - constants
            f" FROM {statement.rows((('id', 'text'), *_HOLD), holds)} JOIN added USING (id)",
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


def _change_holds(statement: _Statement, holds: list[tuple[Stored, Hold]]) -> None:
    if holds:
        told: list[Row] = [(stored.number, *hold.place, *hold[1:]) for stored, hold in holds]
        statement.step(
            "charged",
            "UPDATE holds h SET charged = r.charged, state = r.state"  # noqa: S608 - constants
            f" FROM {statement.rows((('operation', 'bigint'), *_HOLD), told)} WHERE h.operation = r.operation"
            " AND h.scope = r.scope AND h.unit = r.unit AND h.time_window = r.time_window",
        )


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
