"""The ledger as one unit of work sees it, whatever keeps its tables.

Every rule of the ledger is written once, as a *unit*: a value that says what it `reads` and that is called with a
`Book`. Units run one after the other; each changes all or nothing, and everything that a batch of them changed is
written and committed together. The book is memory: what a unit looks at comes from the backend's `Source`, what it
changes is kept until the backend takes `writes`. SQLite's source runs a statement inside of the one writer's
transaction for a first look at anything, and the book remembers its rows. PostgreSQL's source has what the whole batch
`reads` beforehand: remembered and looked at again when it is written, or locked and fetched in one statement;
`UnreadError` tells a unit that looks at something else.

To add something that rules look at by a key (a rate, a latch, a baseline): an entry in `tables.py`, its CREATE TABLE in
`sqlite_schema.py` and `postgres_schema.py`, there also its `_same`, and its keys in the unit's `Reads.rows`, or in
`Reads.watched` where the unit only looks (what is watched, all gateways can watch at once; what may be changed belongs
to one batch until its commit). To take operations by something else than their id, such as leases that ended: a
`Search`, or another condition in it and in both sources. To change an operation: `Book.change`, with its new state from
`states.following`. Every change needs a record: `Book.append`.
"""

from typing import Final, Generic, Protocol, TypeVar

import msgspec

from gateway.ledger.entries import NOTHING, Balance, Entry, Hold, KeyedRow, LastBoot, Reads, Search, Stored, Writes
from gateway.ledger.journal import Chain
from gateway.ledger.tables import BALANCES, Row, Table
from gateway.terms.ids import OperationId
from gateway.terms.operations import OperationKey, Receipt

Answer_co = TypeVar("Answer_co", covariant=True)
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


ROWS_MAX: Final = 4_096
"""Of rows that are remembered."""


class UnreadError(Exception):
    """A unit looked at what it had not named in `reads`: a defect of the gateway, and nothing was changed."""


class Source(Protocol):
    """What a book is read from: the tables as they stand before the batch. Each thing is asked for once a batch."""

    def row(self, table: Table, key: Row) -> Row | None:
        """The values of a keyed row."""
        ...

    def keyed(self, key: OperationKey) -> Stored | None:
        """The operation that has this idempotency key."""
        ...

    def stored(self, operation: OperationId) -> Stored | None:
        """The operation with this id."""
        ...

    def found(self, search: Search) -> list[Stored]:
        """What a search finds, in its order."""
        ...

    def last_boot(self) -> LastBoot | None:
        """The end of this instance's boot before this one. Raises `life.BootRepeatedError` for a used boot id."""
        ...


class Head(msgspec.Struct, frozen=True):
    """Where the chain stands: the next record's sequence and the link that it follows."""

    sequence: int
    previous: bytes


class Unit(Protocol[Answer_co]):
    """One rule at work: called once for each try of its batch, in which it runs alone."""

    def reads(self) -> Reads:
        """All that the call may look at."""
        ...

    def __call__(self, book: "Book", /) -> Answer_co:
        """Do it; what it raises, its caller gets, and nothing of it was done."""
        ...


class _Step(Protocol):
    """One change of the book's memory."""

    def undo(self) -> None: ...


class _Replaced(msgspec.Struct, Generic[_Key, _Value]):
    memory: dict[_Key, _Value]
    key: _Key
    before: _Value

    def undo(self) -> None:
        self.memory[self.key] = self.before


class _Added(msgspec.Struct, Generic[_Key, _Value]):
    memory: dict[_Key, _Value]
    key: _Key

    def undo(self) -> None:
        del self.memory[self.key]


class Book:
    """One batch at a time: `begin_batch`, then `begin_unit` and a unit for each, then `writes`."""

    __slots__ = (
        "_added", "_alone", "_before", "_begins", "_changed", "_done", "_keys", "_operations", "_puts", "_records",
        "_rows", "_source", "chain", "head",
    )  # fmt: skip

    def __init__(self, source: Source, chain: Chain, head: Head, *, alone: bool = False) -> None:
        """`alone`: nobody else writes the tables, so what was looked at stays true from batch to batch."""
        self.chain = chain
        self._alone = alone
        self.head = head
        self._source = source
        self._rows: dict[KeyedRow, Row | None] = {}
        self._operations: dict[OperationId, Stored | None] = {}
        self._keys: dict[OperationKey, Stored | None] = {}
        self._puts: dict[KeyedRow, None] = {}
        self._added: dict[OperationId, None] = {}
        self._changed: dict[OperationId, Stored] = {}
        self._records: list[Entry] = []
        self._begins = False
        self._before = (head, 0)
        self._done: list[_Step] = []

    def begin_batch(self) -> None:
        """Forget everything but the head: nothing that was read before counts, but rows that are its own alone."""
        for memory in (self._operations, self._keys, self._puts, self._added, self._changed):
            memory.clear()
        if not self._alone or len(self._rows) > ROWS_MAX:
            self._rows.clear()
        self._records = []
        self._begins = False
        self.begin_unit()

    def forget(self) -> None:
        """The batch was rolled back, or may have been: look at everything again."""
        self._rows.clear()

    def begin_unit(self) -> None:
        """From here on `undo` undoes."""
        self._before = (self.head, len(self._records))
        self._done.clear()

    def undo(self) -> None:
        """Everything since `begin_unit` did not happen."""
        while self._done:
            self._done.pop().undo()
        self.head, records = self._before
        del self._records[records:]

    def writes(self) -> Writes:
        """All that the batch changed, in the order in which it did."""
        by_table: dict[Table, list[tuple[Row, Row]]] = {}
        for place in self._puts:
            values = self._rows[place]
            if values is not None:  # what was put was undone
                by_table.setdefault(place[0], []).append((place[1], values))
        now = self._operations
        return Writes(
            rows=by_table,
            added=[stored for name in self._added if (stored := now[name]) is not None],
            changed=[(before, after) for name, before in self._changed.items() if (after := now[name]) is not None],
            records=self._records,
            begins_boot=self._begins,
        )

    def get(self, table: Table, key: Row) -> Row | None:
        """The values of a row; None where there is none."""
        place = (table, key)
        try:
            return self._rows[place]
        except KeyError:
            read = self._rows[place] = self._source.row(table, key)
            return read

    def put(self, table: Table, key: Row, values: Row) -> None:
        """Make these the values of a row."""
        place, known = (table, key), self._rows
        self._done.append(_Replaced(known, place, known[place] if place in known else self.get(table, key)))
        known[place] = values
        self._puts[place] = None

    def balance(self, place: Row) -> Balance:
        """The balance of a place; nothing held and nothing spent where there is no row yet."""
        at = (BALANCES, place)
        try:
            row = self._rows[at]
        except KeyError:
            row = self.get(BALANCES, place)
        if isinstance(row, Balance):
            return row
        if row is None:
            return NOTHING
        read = self._rows[at] = _balance(row)
        return read

    def keyed(self, key: OperationKey) -> Stored | None:
        """The operation that has this idempotency key."""
        if key not in self._keys:
            read = self._keys[key] = self._source.keyed(key)
            if read is not None:
                self._operations.setdefault(read.operation.id, read)
        found = self._keys[key]
        return None if found is None else self._operations[found.operation.id]

    def stored(self, operation: OperationId) -> Stored | None:
        """The operation with this id."""
        if operation not in self._operations:
            self._operations[operation] = self._source.stored(operation)
        return self._operations[operation]

    def found(self, search: Search) -> list[Stored]:
        """What a search finds, in its order, as this batch left it: fewer than its limit may mean nothing."""
        for read in self._source.found(search):
            self._operations.setdefault(read.operation.id, read)
        matching = [one for one in self._operations.values() if one is not None and search.matches(one)]
        return sorted(matching, key=search.rank)[: search.limit]

    def add(self, stored: Stored) -> None:
        """Write a new operation."""
        name = stored.operation.id
        self._set(self._operations, name, stored)
        self._set(self._keys, stored.operation.key, stored)
        self._set(self._added, name, None)

    def change(self, before: Stored, after: Stored, holds: tuple[Hold, ...] = ()) -> None:
        """Write what an operation became, with those of its holds that changed, in their order.

        Its state, result, failure, outcome, lease, owner, fence and holds can change.
        """
        name = before.operation.id
        if len(holds) == len(before.holds):
            after = after._replace(holds=holds)
        elif holds:
            changed = {hold.place: hold for hold in holds}
            after = after._replace(holds=tuple(changed.get(hold.place, hold) for hold in before.holds))
        self._set(self._operations, name, after)
        if name not in self._added and name not in self._changed:
            self._set(self._changed, name, before)

    def append(self, record: bytes) -> Receipt:
        """Put a record at the end of the chain."""
        chain, head = self.chain, self.head
        leaf, link = chain.seal(head.sequence, head.previous, record)
        self._records.append(Entry(head.sequence, record, leaf, link))
        self.head = Head(head.sequence + 1, link)
        return Receipt(instance=chain.instance, boot=chain.boot, sequence=head.sequence, leaf_hash=leaf)

    def last_boot(self) -> LastBoot | None:
        """See `Source`."""
        return self._source.last_boot()

    def begin_boot(self, link: bytes) -> None:
        """Begin this boot's chain after the link; the first unit of a boot."""
        self._begins = True
        self.head = Head(0, link)

    def _set(self, memory: dict[_Key, _Value], key: _Key, value: _Value) -> None:
        self._done.append(_Replaced(memory, key, memory[key]) if key in memory else _Added(memory, key))
        memory[key] = value


def _balance(row: Row) -> Balance:
    held, spent = row
    if not isinstance(held, int) or not isinstance(spent, int):
        raise TypeError("a balance in the tables is no integer")
    return Balance(held, spent)
