"""The ledger's keyed tables: rows that a rule looks up by their key, changes, and puts back.

A new one is an entry here, its CREATE TABLE in every backend's schema, in PostgreSQL's also the function that compares
its rows (`_same`), and the keys that a unit names in its `reads`; both books read and write it then without another
line.
"""

from dataclasses import dataclass
from typing import Final

Value = str | int | bytes | None
"""What a column holds: text, a 64-bit integer, or bytes."""

Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table with a primary key; each column with its type in PostgreSQL. Two entries are never the same table."""

    name: str
    key: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, str], ...]
    lock: int
    """Tells its locks from those of other tables where several gateways write; never changed once released."""

    @property
    def key_names(self) -> tuple[str, ...]:
        """The key's columns."""
        return tuple(name for name, _ in self.key)

    @property
    def value_names(self) -> tuple[str, ...]:
        """The other columns."""
        return tuple(name for name, _ in self.values)

    @property
    def plain(self) -> bool:
        """Whether it has no text, so that every backend keeps its values as they are (`storable`)."""
        return all(kind != "text" for _, kind in self.values)


BALANCES: Final = Table(
    "balances",
    key=(("scope", "text"), ("unit", "text"), ("time_window", "text")),
    values=(("held", "bigint"), ("spent", "bigint")),
    lock=1,
)
"""What is held and what is spent of a unit in one scope and window."""

HALTS: Final = Table(
    "halts",
    key=(("scope", "text"),),
    values=(("engaged", "bigint"), ("reason", "text"), ("set_by", "text"), ("set_unix_us", "bigint")),
    lock=2,
)
"""The switches that stop a scope."""

RATES: Final = Table("rates", key=(("scope", "text"),), values=(("due_unix_us", "bigint"),), lock=11)
"""When the next event of a rate would come at its long-run distance; one row for each agent and venue or quota."""

SIGHTINGS: Final = Table(
    "sightings",
    key=(("scope", "text"), ("bucket", "bigint")),
    values=(("entries", "bytea"),),
    lock=12,
)
"""What was executed lately, see `gateway.ledger.sightings`; 256 rows for each scope at most."""

LATCHES: Final = Table(
    "latches",
    key=(("scope", "text"),),
    values=(
        ("engaged", "bigint"),
        ("operation", "text"),
        ("set_unix_us", "bigint"),
        ("reset_by", "text"),
        ("reset_reason", "text"),
        ("reset_unix_us", "bigint"),
    ),
    lock=13,
)
"""What too many executions of one kind stopped, and who last let it go on."""

BARRIERS: Final = Table(
    "barriers",
    key=(("scope", "text"), ("unit", "text"), ("time_window", "text")),
    values=(("began_unix_us", "bigint"), ("taken", "bigint")),
    lock=14,
)
"""What was taken of a limit when the present step of a barrier began; `time_window` tells the step's length, too."""


def storable(value: Value) -> Value:
    """A text as every backend can keep it: no NUL, which PostgreSQL has not, and no half of a surrogate pair."""
    if not isinstance(value, str) or (value.isascii() and "\x00" not in value):
        return value
    return value.encode(errors="replace").decode().replace("\x00", "\ufffd")
