"""What the ledger's tables hold, as values, and what a unit of work says that it will read of them."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from gateway.ledger.states import UNFINISHED
from gateway.ledger.tables import Row, Table
from gateway.terms.ids import BootId, InstanceId, OperationId
from gateway.terms.operations import Aftercare, Operation, OperationKey, Receipt, State

KeyedRow = tuple[Table, Row]
"""A table and the key of one of its rows."""


class Balance(NamedTuple):
    """A row of `BALANCES`."""

    held: int
    spent: int


NOTHING: Final = Balance(0, 0)
"""Where there is no row."""


class Owner(NamedTuple):
    """The boot of the instance that works on an operation."""

    instance: InstanceId
    boot: BootId


class Hold(msgspec.Struct, frozen=True, order=True):
    """What an operation holds, or what was charged for it, of one balance."""

    place: Row
    """The key of the balance: scope, unit, window."""
    amount: int
    charged: int = 0
    state: str = "held"
    """held: the operation runs. kept: it is unknown. settled: `charged` took its place. released: nothing did."""


HOLDING: Final = frozenset({"held", "kept"})
"""The states of a hold whose amount is held of its balance."""


class Stored(NamedTuple):
    """An operation with what only the ledger knows of it."""

    operation: Operation
    kind: str
    """`tool`, `chat` or `count`."""
    run: str
    owner: Owner
    fence: int
    """Rises with every owner; who settles must have the present one."""
    number: int = 0
    """Its place in the table; 0 until it is written."""
    care: Aftercare = Aftercare()
    looks: int = 0
    """How often it was looked for without finding out."""
    look_unix_us: int | None = None
    """When it is to be looked for: what is unknown, or an effect that goes on after its call succeeded."""
    withdraw: bool = False
    """A halt of its scope was set: what is open of it is to be cancelled."""
    holds: tuple[Hold, ...] = ()
    """What it holds, and what was charged for it or given back."""

    @property
    def held(self) -> tuple[Hold, ...]:
        """What it holds now."""
        return tuple([hold for hold in self.holds if hold.state in HOLDING])

    @property
    def live(self) -> bool:
        """Whether its effect goes on."""
        return self.operation.state is State.SUCCEEDED and self.look_unix_us is not None


class Entry(NamedTuple):
    """A record in its place in this boot's chain."""

    sequence: int
    record: bytes
    leaf: bytes
    link: bytes


class LastBoot(NamedTuple):
    """The end of an instance's boot before."""

    last: Receipt
    link: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Operations in one of `states`, at most `limit`, for which everything else that is said is true.

    The oldest come first; of those that are due, the ones that are longest due.
    """

    states: tuple[State, ...]
    owner: Owner | None = None
    lease_before_unix_us: int | None = None
    """Their lease ended before this moment."""
    due_unix_us: int | None = None
    """They are to be looked for by now."""
    unfinished: bool = False
    """They run, go on, or nobody knows what became of them."""
    halted_by: str | None = None
    """The scope of a switch that stops them."""
    named: OperationId | None = None
    """Its id: one at most."""
    marked: bool | None = None
    """Whether they are to be withdrawn."""
    tools: tuple[str, ...] = ()
    """The names of the tools that they are calls of."""
    other_tools: bool = True
    """Calls of all tools but `tools`, not of these."""
    limit: int = 256

    def matches(self, stored: Stored) -> bool:
        """Whether it is one of them."""
        operation = stored.operation
        return (
            operation.state in self.states
            and (self.owner is None or stored.owner == self.owner)
            and (self.lease_before_unix_us is None or operation.lease_until_unix_us < self.lease_before_unix_us)
            and (self.due_unix_us is None or _due(stored, self.due_unix_us))
            and (not self.unfinished or operation.state in UNFINISHED or stored.look_unix_us is not None)
            and (self.halted_by is None or self.halted_by in stored.care.halts)
            and (self.named is None or self.named == operation.id)
            and (self.marked is None or self.marked == stored.withdraw)
            and ((operation.key.tool in self.tools) != self.other_tools)
        )

    def rank(self, stored: Stored) -> tuple[int, bool, int]:
        """What comes first has the least. What is not written yet is the youngest."""
        due_us = 0 if self.due_unix_us is None else stored.look_unix_us or 0
        return due_us, stored.number == 0, stored.number


def _due(stored: Stored, now_unix_us: int) -> bool:
    return stored.look_unix_us is not None and stored.look_unix_us <= now_unix_us


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit may look at."""

    rows: tuple[KeyedRow, ...] = ()
    """Keyed rows that it may change: they belong to its batch alone until the commit."""
    watched: tuple[KeyedRow, ...] = ()
    """Keyed rows that it only looks at: nobody changes them before the commit."""
    keys: tuple[OperationKey, ...] = ()
    operations: tuple[OperationId, ...] = ()
    """The balances of their holds are among `rows`."""
    searches: tuple[Search, ...] = ()
    """The balances of what is found may be changed, too."""


class Writes(msgspec.Struct, frozen=True, kw_only=True):
    """All that a batch changed, to be written and committed as one."""

    rows: dict[Table, list[tuple[Row, Row]]]
    """Keys and their new values."""
    added: list[Stored]
    changed: list[tuple[Stored, Stored]]
    """Operations as they were read and as they are now; one that no longer stands as it was read spoils the batch."""
    records: list[Entry]
    begins_boot: bool

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.rows or self.added or self.changed or self.records or self.begins_boot)
