"""Whether the records tell whole stories: one intent, one ending and what came after it, as the table says."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Final

from gateway.audit.amounts import Told, charged_in, held_in
from gateway.audit.contents import Contents
from gateway.audit.continuity import Bad
from gateway.audit.sources import Entry, StoredOperation
from gateway.terms.ids import BootId, InstanceId, OperationId
from gateway.terms.operations import Receipt

_TABLE: Final = """
CREATE TABLE seen(
    operation TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    intent_instance TEXT NOT NULL, intent_boot TEXT NOT NULL,
    intent_sequence INTEGER NOT NULL, intent_leaf BLOB NOT NULL,
    ending_instance TEXT, ending_boot TEXT, ending_sequence INTEGER, ending_leaf BLOB,
    stored INTEGER NOT NULL DEFAULT 0,
    claims BLOB, charges BLOB, booked BLOB, as_held INTEGER
) STRICT, WITHOUT ROWID
"""

SCRATCH_CACHE_KIB: Final = 32_000
"""Of the temporary file, in memory: operations have random names, so their rows are met in no order."""

_OPEN: Final = "dispatched"

_AFTER: Final = {
    "outcome": _OPEN,
    "lost": _OPEN,
    "reconciled": "unknown",
    "resolved": "unknown",
    "followed": "succeeded",
}
"""What an operation must have come to before a record of this kind tells how it went on."""

_RECORDED_AS: Final = {"reconciling": "unknown"}
"""An operation whose service is being asked is still unknown to the records."""


class Stories:
    """Every operation that the records told of, kept in a temporary file of SQLite's, so that memory stays bounded."""

    def __init__(self, scratch: sqlite3.Connection, *, amounts: bool = False) -> None:
        """With `amounts`, what the records say of them is kept for `amounts`."""
        self.scratch = scratch
        self._keeps_amounts = amounts
        scratch.execute(f"PRAGMA cache_size = -{SCRATCH_CACHE_KIB}")
        scratch.execute("PRAGMA journal_mode=OFF")
        scratch.execute(_TABLE)
        scratch.execute("BEGIN")

    def tell(self, entry: Entry, contents: Contents) -> str | None:
        """What is wrong with this record after those before; None for nothing."""
        place = (entry.instance, entry.boot, entry.sequence, entry.leaf)
        if contents.kind == "intent":
            added = self.scratch.execute(
                "INSERT INTO seen"
                " (operation, state, intent_instance, intent_boot, intent_sequence, intent_leaf, claims)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (contents.operation, _OPEN, *place, held_in(contents) if self._keeps_amounts else None),
            )
            return None if added.rowcount else f"a second intent of the operation {contents.operation}"
        if contents.kind in _AFTER:
            ended = self.scratch.execute(
                "UPDATE seen SET state = ?, ending_instance = ?, ending_boot = ?, ending_sequence = ?, ending_leaf = ?,"
                " charges = ?, booked = ?, as_held = ? WHERE operation = ? AND state = ?",
                (contents.state, *place, *self._charged(contents), contents.operation, _AFTER[contents.kind]),
            )
            return None if ended.rowcount else self._unexpected(contents)
        return None

    def amounts(self) -> Iterator[tuple[OperationId, Told]]:
        """By operation, in the order of their bytes, what its records say that it holds or was charged."""
        rows = self.scratch.execute(
            "SELECT operation, state, claims, charges, booked, as_held FROM seen ORDER BY operation"
        )
        for operation, state, claims, charges, booked, as_held in rows:
            yield operation, Told(state, claims, charges, booked, bool(as_held))

    def _charged(self, contents: Contents) -> tuple[bytes | None, bytes | None, bool | None]:
        return charged_in(contents) if self._keeps_amounts else (None, None, None)

    def open_operations(self) -> Iterator[tuple[OperationId, InstanceId, BootId]]:
        """Operations with an intent and no ending, and the boot of the intent."""
        yield from self.scratch.execute(
            "SELECT operation, intent_instance, intent_boot FROM seen WHERE state = ? ORDER BY operation", (_OPEN,)
        )

    def disagreement(self, stored: Iterable[StoredOperation]) -> Bad | None:
        """The first operation of which the ledger's table and the records say different things."""
        for operation in stored:
            problem = self._compared(operation)
            if problem is not None:
                return _bad(operation.id, problem, operation.outcome or operation.intent)
        row = self.scratch.execute("SELECT * FROM seen WHERE stored = 0 ORDER BY operation").fetchone()
        if row is None:
            return None
        intent = Receipt(instance=row[2], boot=row[3], sequence=row[4], leaf_hash=row[5])
        return _bad(row[0], "its records are there and the table has no such operation", intent)

    def _unexpected(self, contents: Contents) -> str:
        known = self.scratch.execute("SELECT state FROM seen WHERE operation = ?", (contents.operation,)).fetchone()
        if known and contents.kind in ("outcome", "lost"):
            return f"a second ending of the operation {contents.operation}"
        if known:
            return f"the operation {contents.operation} is {contents.kind}, and before it was {known[0]}"
        return f"an ending of the operation {contents.operation}, which has no intent"

    def _compared(self, stored: StoredOperation) -> str | None:
        row = self.scratch.execute(
            "UPDATE seen SET stored = 1 WHERE operation = ? RETURNING *", (stored.id,)
        ).fetchone()
        if row is None:
            return "the table has it and no record does: its records are missing"
        if row[2:6] != _place(stored.intent):
            return "its intent is not the record that the table names"
        if row[6:10] != _place(stored.outcome):
            return "its ending is not the record that the table names: one of them is missing or was changed"
        if row[1] != _RECORDED_AS.get(stored.state, stored.state):
            return f"the records end in {row[1]} and the table says {stored.state}"
        return None


@contextmanager
def stories(*, amounts: bool = False) -> Iterator[Stories]:
    """An empty collection, in a temporary file that is gone at the end."""
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        yield Stories(scratch, amounts=amounts)


def _bad(operation: OperationId, problem: str, place: Receipt) -> Bad:
    problem = f"the operation {operation}: {problem}"
    return Bad(instance=place.instance, boot=place.boot, sequence=place.sequence, problem=problem)


def _place(receipt: Receipt | None) -> tuple[str | int | bytes | None, ...]:
    if receipt is None:
        return (None, None, None, None)
    return (receipt.instance, receipt.boot, receipt.sequence, receipt.leaf_hash)
