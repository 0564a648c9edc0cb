"""What both ledgers write, each as one unit of work that is ordered from their writer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, TypeVar

from gateway.ledger.admission import Admitting, Weighing
from gateway.ledger.aftercare import Concluding, Postponing, Resolving, Taking
from gateway.ledger.book import Unit
from gateway.ledger.guards import Metering
from gateway.ledger.halts import Marking, Setting
from gateway.ledger.journal import Chain, Diary
from gateway.ledger.latches import Resetting
from gateway.ledger.life import Noting
from gateway.ledger.losing import Losing, expired
from gateway.ledger.settlement import Settling
from gateway.terms.aftercare import Room, Watched
from gateway.terms.clock import Clock
from gateway.terms.ids import OperationId
from gateway.terms.latches import Reset
from gateway.terms.operations import (
    Admission,
    Failed,
    Operation,
    Rate,
    Receipt,
    Replay,
    Reservation,
    Settlement,
    Succeeded,
)
from gateway.terms.overview import Halt, Overview
from gateway.terms.verdict import Refusal

CLOSED: Final = "the ledger is not open: it was not started, or it is closing"

Answer = TypeVar("Answer")


class WrittenLedger(ABC):
    """The writing half of `Ledger`, `Aftercare` and `Oversight` in `gateway.call.stations`.

    Everything here raises `LedgerUnavailableError` when it cannot be made durable. Nothing was changed then, except
    perhaps where the disk or the connection failed in the middle of a commit.
    """

    def __init__(self, clock: Clock, chain: Chain, diary: Diary) -> None:
        self._clock = clock
        self._chain = chain
        self._diary = diary

    @abstractmethod
    async def _do(self, unit: Unit[Answer]) -> Answer:
        """Run a unit in the next commit, and give its answer when that is durable."""

    @abstractmethod
    async def _engaged_scopes(self) -> Sequence[str]:
        """The scopes whose switch is set, as committed."""

    async def admit(self, admission: Admission) -> Reservation | Replay | Refusal:
        """Make key, holds and intent durable in one commit, or nothing of it."""
        return await self._do(self._admitting(admission))

    async def weigh(self, admission: Admission) -> Refusal | None:
        """What `admit` would refuse this admission for now; nothing is taken."""
        return await self._do(Weighing(self._admitting(admission)))

    async def meter(self, rate: Rate) -> Refusal | None:
        """Count one event of a rate in a commit of its own, or refuse it."""
        return await self._do(Metering(rate, self._clock.unix_us()))

    async def settle(self, settlement: Settlement) -> Operation:
        """Make outcome, charges and record durable in one commit.

        Raises `AlreadySettledError` for a second time, and `SettlementError` for charges that cannot be.
        """
        return await self._do(Settling(settlement))

    async def note(self, record: bytes) -> Receipt:
        """Make a record durable that belongs to no operation, such as a refusal."""
        return await self._do(Noting(record))

    async def halt(self, halt: Halt, record: bytes) -> Receipt:
        """Set or release a halt switch, with its record. After this, no instance admits anything of its scope."""
        receipt = await self._do(Setting(halt, record, self._clock.unix_us()))
        await self.mark()
        return receipt

    async def expire(self) -> tuple[OperationId, ...]:
        """See `Aftercare`."""
        now_us = self._clock.unix_us()
        return await self._do(Losing(self._diary, expired(now_us), now_us))

    async def mark(self) -> None:
        """See `Aftercare`. Where no switch is set, nothing is written."""
        now_us = self._clock.unix_us()
        for scope in await self._engaged_scopes():
            while await self._do(Marking(scope, now_us)):
                pass

    async def take(self, rooms: tuple[Room, ...], *, lease_ms: int) -> tuple[Watched, ...]:
        """See `Aftercare`. Where nothing is due, nothing is written."""
        return await self._do(Taking(now_unix_us=self._clock.unix_us(), lease_ms=lease_ms, rooms=rooms))

    async def conclude(
        self, watched: Watched, outcome: Succeeded | Failed, record: bytes, look_unix_us: int | None
    ) -> Operation:
        """See `Aftercare`."""
        return await self._do(Concluding(watched=watched, outcome=outcome, record=record, look_unix_us=look_unix_us))

    async def postpone(self, watched: Watched, look_unix_us: int | None) -> Operation:
        """See `Aftercare`."""
        return await self._do(Postponing(watched=watched, look_unix_us=look_unix_us))

    async def resolve(self, seen: Overview, outcome: Succeeded | Failed, record: bytes) -> Operation:
        """See `Oversight`."""
        return await self._do(Resolving(seen=seen, outcome=outcome, record=record))

    async def reset_latch(self, reset: Reset, record: bytes) -> Receipt | None:
        """See `Oversight`."""
        return await self._do(Resetting(reset, record, self._clock.unix_us()))

    def _admitting(self, admission: Admission) -> Admitting:
        return Admitting(admission, self._clock.unix_us(), self._diary)
