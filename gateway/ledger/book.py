"""The ledger as one unit of work sees it: the writer's open transaction and the end of the chain in it."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.ledger.journal import Chain
from gateway.terms.operations import Receipt

Value = str | int | bytes | None
"""What SQLite stores."""

Row = tuple[Value, ...]


def texts(row: Row) -> tuple[str, ...]:
    """A row whose values are all texts."""
    return tuple(str(value) for value in row)


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain stands: the next record's sequence and the link that it follows."""

    sequence: int
    previous: bytes


class Book:
    """Used by one thread at a time. What a unit did can be undone as a whole, records and chain included."""

    __slots__ = ("_before", "chain", "connection", "head")

    def __init__(self, connection: sqlite3.Connection, chain: Chain, head: Head) -> None:
        self.connection = connection
        self.chain = chain
        self.head = head
        self._before = head

    def begin_unit(self) -> None:
        """From here on `undo` undoes."""
        self._before = self.head
        self.connection.execute("SAVEPOINT unit")

    def undo(self) -> None:
        """Everything since `begin_unit` did not happen; the unit may go on or end."""
        self.connection.execute("ROLLBACK TO unit")
        self.head = self._before

    def end_unit(self) -> None:
        """What the unit did becomes durable with the next commit."""
        self.connection.execute("RELEASE unit")

    def all(self, statement: str, values: Row = ()) -> list[Row]:
        """Every row of a statement."""
        return self.connection.execute(statement, values).fetchall()

    def change(self, statement: str, values: Row = ()) -> int:
        """How many rows a statement changed."""
        return self.connection.execute(statement, values).rowcount

    def insert(self, statement: str, values: Row) -> int:
        """The number that the new row got."""
        return self.connection.execute(statement, values).lastrowid or 0

    def change_each(self, statement: str, rows: Iterable[Row]) -> None:
        """The statement once for each row."""
        self.connection.executemany(statement, rows)

    def append(self, record: bytes) -> Receipt:
        """Put a record at the end of the chain."""
        head = self.head
        leaf, link = self.chain.seal(head.sequence, head.previous, record)
        self.connection.execute(
            "INSERT INTO audit (instance, boot, sequence, record, leaf, link) VALUES (?, ?, ?, ?, ?, ?)",
            (self.chain.instance, self.chain.boot, head.sequence, record, leaf, link),
        )
        self.head = Head(head.sequence + 1, link)
        return Receipt(instance=self.chain.instance, boot=self.chain.boot, sequence=head.sequence, leaf_hash=leaf)
