"""What operators see: an operation with all that the ledger knows of it, and a switch with what it waits for."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.terms.ids import InstanceId
from gateway.terms.money import Unit
from gateway.terms.operations import Operation, Similar, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An amount that an operation holds of a balance, or that was charged in its place."""

    scope: str
    unit: Unit
    window: str
    amount: int
    charged: int
    state: str
    """`held`, `kept` (nobody knows the outcome), `settled` or `released`."""

    @property
    def open(self) -> bool:
        """Whether it is not charged or given back yet."""
        return self.state in {"held", "kept"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """An operation and who looks after it."""

    operation: Operation
    number: int
    """Counts operations: a larger one is newer."""
    kind: str
    """`tool`, `chat` or `count`."""
    run: str
    owner: InstanceId
    halts: tuple[str, ...]
    looks: int
    """How often it was looked for without finding out."""
    look_unix_us: int | None
    """When somebody looks for it next."""
    fence: int
    held: tuple[Held, ...] = ()
    similar: tuple[Similar, ...] = ()
    """What is forgotten if nothing came of it."""

    @property
    def needs_person(self) -> bool:
        """Whether nobody but an operator can say what became of it."""
        return self.operation.state is State.UNKNOWN and self.look_unix_us is None

    @property
    def units(self) -> frozenset[Unit]:
        """In which something is held, and so can be charged."""
        return frozenset(held.unit for held in self.held if held.open)

    def charged(self, charges: Mapping[Unit, int], *, as_held: bool) -> tuple[tuple[Held, int], ...]:
        """What an outcome with these charges charges in the place of all that is held.

        Without a charge, what is held (`as_held`) or nothing, as the ledger does it.
        """
        return tuple((held, charges.get(held.unit, held.amount if as_held else 0)) for held in self.held if held.open)

    @property
    def live(self) -> bool:
        """Whether its effect goes on, as an open order does."""
        return self.operation.state is State.SUCCEEDED and self.look_unix_us is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which operations to list: the newest first."""

    states: tuple[State, ...] = ()
    """Only these; all where it is empty."""
    needs_person: bool = False
    """Only those that wait for an operator."""
    before: int = 0
    """Only those with a smaller number; 0 begins with the newest."""
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """A switch that stops new effects of its scope."""

    scope: str
    engaged: bool
    reason: str
    """Told to who is refused."""
    by: str
    """The operator's name."""
    set_unix_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltStanding:
    """A switch, and what of its scope is not at its end yet."""

    halt: Halt
    running: int
    """Operations whose outcome is not known yet: under way, or being asked for."""
    open: int
    """Effects that go on, such as open orders; while the switch is set they are being cancelled."""
    needs_person: int
