"""What aftercare and operators need of the ledger, beyond what a call needs."""

from typing import Protocol

from gateway.terms.aftercare import Room, Watched
from gateway.terms.ids import OperationId
from gateway.terms.latches import Latched, Reset
from gateway.terms.operations import Failed, Operation, Receipt, Succeeded
from gateway.terms.overview import Halt, HaltStanding, Overview, Page


class Aftercare(Protocol):
    """Looking after effects, on whichever instance has the time. All of it raises `LedgerUnavailableError`."""

    async def expire(self) -> tuple[OperationId, ...]:
        """Tell the truth about operations whose lease has ended: unknown, or charged in full; give their ids."""
        ...

    async def mark(self) -> None:
        """Mark what runs or goes on in halted scopes to be withdrawn; what was marked before stays as it is."""
        ...

    async def take(self, rooms: tuple[Room, ...], *, lease_ms: int) -> tuple[Watched, ...]:
        """Operations that are due, for this owner alone until the lease ends: for each room those longest due."""
        ...

    async def conclude(
        self, watched: Watched, outcome: Succeeded | Failed, record: bytes, look_unix_us: int | None
    ) -> Operation:
        """Make durable what was found, once: its charges take the place of what was held, or charged before.

        Raises `AlreadySettledError` for who is not the owner any more. The record is written if anything changed.
        """
        ...

    async def postpone(self, watched: Watched, look_unix_us: int | None) -> Operation:
        """Give it back: nobody knows yet. Without a time to look again, an operator must decide. Raises as above."""
        ...


class Oversight(Protocol):
    """What operators see and decide. All of it raises `LedgerUnavailableError`."""

    async def halt(self, halt: Halt, record: bytes) -> Receipt:
        """Set or release a switch. Nothing of its scope is admitted after this, and what is open is withdrawn."""
        ...

    async def halts(self) -> tuple[HaltStanding, ...]:
        """Every switch that was ever set, in the order of the scopes."""
        ...

    async def latches(self) -> tuple[Latched, ...]:
        """The latches that are engaged, in the order of their scopes."""
        ...

    async def reset_latch(self, reset: Reset, record: bytes) -> Receipt | None:
        """Release a latch, with the record of who did it; None where none is engaged."""
        ...

    async def listed(self, page: Page) -> tuple[Overview, ...]:
        """Operations of everybody, the newest first."""
        ...

    async def shown(self, operation: OperationId) -> Overview | None:
        """One, with what it holds."""
        ...

    async def record(self, receipt: Receipt) -> bytes | None:
        """A record by its place."""
        ...

    async def resolve(self, seen: Overview, outcome: Succeeded | Failed, record: bytes) -> Operation:
        """Give an unknown operation its outcome. Raises `AlreadySettledError` if it no longer stands as it was seen."""
        ...
