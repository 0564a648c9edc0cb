"""The care beside all calls: what was lost is found out, what is open is followed, what is halted is withdrawn.

Any instance does it for all of them: an operation is taken with a lease and a fence, so that two never look after one
at the same time, and one that was paused in between changes nothing any more.

Two beats: one tells the truth about leases and switches, which only the ledger is asked for; the other takes what is
due, and leaves each look to a task in a place of its own (`slots.py`). Neither ever waits for an upstream.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from gateway.call.slots import Slots
from gateway.call.stations import Stations
from gateway.terms.aftercare import Finding, NotYet, Unknowable, Watched
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.operations import Failure, Operation, Succeeded

PAUSE_S: Final = 0.5
"""Between two beats; half of the second in which a kill switch must work everywhere."""

LEASE_MS: Final = 60_000
"""How long one look may take, with what it makes durable."""

LOOK_S: Final = 45.0
"""How long an upstream may take for it. Far above a venue's timeout; a tool's may be longer, its look may not."""

LOOKS_MAX: Final = 24
"""Then a person decides: after about eighty minutes, more than any acceptance window."""

WITHDRAWN_LOOKS_MAX: Final = 1_000
"""The same time for what is to be withdrawn, which is looked for every few seconds: a venue may be away just then."""

LOOK_FIRST_US: Final = 1_000_000
LOOK_LAST_US: Final = 300_000_000
FOLLOW_LAST_US: Final = 60_000_000
WITHDRAW_LAST_US: Final = 5_000_000

_NO_ANSWER: Final = NotYet(
    failure=Failure(reason="tool.look_up_late", message="Looking for it took too long; it is looked for again.")
)


class Recovery:
    """One for each process. `run` goes on until it is cancelled; `sweep` is all that is due now, once."""

    def __init__(self, at: Stations) -> None:
        self._at = at
        self._slots = Slots(at.tools.upstreams)

    async def run(self) -> None:
        """Both beats, the second sooner when somebody rings; a ledger that is away is tried again.

        Ends when it is cancelled: looks are cut, and what they looked for is given back.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_truths())
            while True:
                await self._tried(lambda: self._begin(group))
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_S):
                        await self._at.bell.wait()
                self._at.bell.clear()

    async def sweep(self) -> int:
        """Do everything that is due now; gives the number of operations that were looked for.

        Raises `LedgerUnavailableError`; what was not done stays due.
        """
        for step in (self._settle_again, self._expire, self._mark):
            await step()
        looked = 0
        while taken := await self._take():
            looked += len(taken)
            async with asyncio.TaskGroup() as group:
                for one in taken:
                    group.create_task(self._look(one))
        return looked

    async def _tell_truths(self) -> None:
        """The first beat. A step that fails keeps none of the others."""
        while True:
            for step in (self._settle_again, self._expire, self._mark):
                await self._tried(step)
            await asyncio.sleep(PAUSE_S)

    async def _tried(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except LedgerUnavailableError as error:
            self._at.witness.tell("recovery.failed", {"error": str(error)})
        except Exception as error:  # noqa: BLE001 - the care of all operations must not end with one
            self._at.witness.tell("recovery.failed", {"error": repr(error)})

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        """The second beat."""
        for one in await self._take():
            group.create_task(self._look(one))

    async def _take(self) -> tuple[Watched, ...]:
        """What is due and has a place, and has it from now on."""
        rooms = self._slots.rooms()
        taken = await self._at.ledger.take(rooms, lease_ms=LEASE_MS) if rooms else ()
        for one in taken:
            self._slots.take(one)
        return taken

    async def _expire(self) -> None:
        for operation in await self._at.ledger.expire():
            self._at.witness.tell("operation.lost", {"operation": operation})
            self._at.changes.tell(operation)
            self._at.bell.set()  # it is due at once

    async def _mark(self) -> None:
        """Whoever set a switch did this already, unless it was cut off between the two commits."""
        await self._at.ledger.mark()

    async def _settle_again(self) -> None:
        """Outcomes that could not be recorded. One that has another owner by now was told by it."""
        while (settlement := self._at.unsettled.take()) is not None:
            operation = settlement.reservation.operation
            try:
                settled = await self._at.ledger.settle(settlement)
            except LedgerUnavailableError:
                self._at.unsettled.keep(settlement)
                raise
            except Exception as error:  # noqa: BLE001 - settled by another owner, or never to be settled so
                self._at.witness.tell("outcome.record_failed", {"operation": operation, "error": repr(error)})
            else:
                self._at.witness.tell("outcome.recorded_late", {"operation": operation, "state": settled.state.value})
                self._at.changes.tell(operation)

    async def _look(self, watched: Watched) -> None:
        """Ask its service. What fails here is due again when the lease ends."""
        try:
            found = await self._asked(watched)
        except asyncio.CancelledError:
            # Whoever goes on looks at once, not only when this lease has ended.
            self._at.effects.start(self._told(watched, None))
            raise
        except Exception as error:  # noqa: BLE001 - one that cannot be looked for must not keep the others
            self._failed(watched, error)
        else:
            # As an effect: what is found out is made durable also if the process is told to end meanwhile.
            await self._at.effects.start(self._told(watched, found))
        finally:
            if self._slots.give(watched):
                self._at.bell.set()

    async def _asked(self, watched: Watched) -> Finding:
        if watched.withdraw:
            await self._at.ledger.note(self._at.recorder.withdrawal(watched.operation))
        try:
            async with asyncio.timeout(LOOK_S):
                return await self._at.tools.look(watched)
        except TimeoutError:
            return _NO_ANSWER

    async def _told(self, watched: Watched, found: Finding | None) -> None:
        """Make durable what its service says; without a finding, give it back."""
        name = watched.operation.id
        try:
            if found is None:
                operation = await self._at.ledger.postpone(watched, self._at.clock.unix_us())
            else:
                operation = await self._kept(watched, found)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(watched, error)
            return
        self._at.changes.tell(name)
        told = "given back" if found is None else type(found).__name__.lower()
        self._at.witness.tell(
            "operation.looked_for", {"operation": name, "state": operation.state.value, "found": told}
        )

    def _failed(self, watched: Watched, error: Exception) -> None:
        self._at.witness.tell("operation.look_failed", {"operation": watched.operation.id, "error": repr(error)})

    async def _kept(self, watched: Watched, found: Finding) -> Operation:
        ledger = self._at.ledger
        if isinstance(found, NotYet | Unknowable):
            given_up = isinstance(found, Unknowable) or (watched.lost and watched.looks + 1 >= _looks_max(watched))
            look_us = None if given_up else self._later(watched, LOOK_LAST_US)
            if given_up and watched.lost:
                self._at.witness.tell(
                    "operation.needs_person", {"operation": watched.operation.id, "reason": found.failure.reason}
                )
            return await ledger.postpone(watched, look_us)
        record = self._at.recorder.finding(watched, found)
        goes_on = isinstance(found, Succeeded) and found.live
        return await ledger.conclude(watched, found, record, self._later(watched, FOLLOW_LAST_US) if goes_on else None)

    def _later(self, watched: Watched, last_us: int) -> int:
        """When to look again: ever more rarely, and soon while something is to be withdrawn."""
        if watched.withdraw:
            last_us = WITHDRAW_LAST_US
        return self._at.clock.unix_us() + min(LOOK_FIRST_US << min(watched.looks, 16), last_us)


def _looks_max(watched: Watched) -> int:
    return WITHDRAWN_LOOKS_MAX if watched.withdraw else LOOKS_MAX
