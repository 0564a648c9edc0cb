"""The care beside all calls: what was lost is found out, what is open is followed, what is halted is withdrawn.

Any instance does it for all of them: an operation is taken with a lease and a fence, so that two never look after one
at the same time, and one that was paused in between changes nothing any more.
"""

import asyncio
from contextlib import suppress
from typing import Final

from gateway.call.stations import Stations
from gateway.terms.aftercare import Finding, NotYet, Unknowable, Watched
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.operations import Operation, Succeeded

PAUSE_S: Final = 0.5
"""Between two sweeps; half of the second in which a kill switch must work everywhere."""

TAKEN_MAX: Final = 16
"""Operations that one instance looks for at once."""

LEASE_MS: Final = 60_000
"""How long one look may take; a venue's timeout is far below."""

LOOKS_MAX: Final = 24
"""Then a person decides: after about eighty minutes, more than any acceptance window."""

WITHDRAWN_LOOKS_MAX: Final = 1_000
"""The same time for what is to be withdrawn, which is looked for every few seconds: a venue may be away just then."""

LOOK_FIRST_US: Final = 1_000_000
LOOK_LAST_US: Final = 300_000_000
FOLLOW_LAST_US: Final = 60_000_000
WITHDRAW_LAST_US: Final = 5_000_000


class Recovery:
    """One for each process. `sweep` is all of it, once; `run` goes on until it is cancelled."""

    def __init__(self, at: Stations) -> None:
        self._at = at

    async def run(self) -> None:
        """Sweep again and again, sooner when somebody rings; a ledger that is away is tried again."""
        while True:
            try:
                await self.sweep()
            except LedgerUnavailableError as error:
                self._at.witness.tell("recovery.failed", {"error": str(error)})
            except Exception as error:  # noqa: BLE001 - the care of all operations must not end with one
                self._at.witness.tell("recovery.failed", {"error": repr(error)})
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await self._at.bell.wait()
            self._at.bell.clear()

    async def sweep(self) -> int:
        """Do everything that is due now; gives the number of operations that were looked for.

        Raises `LedgerUnavailableError`; what was not done stays due.
        """
        await self._settle_again()
        for operation in await self._at.ledger.expire():
            self._at.witness.tell("operation.lost", {"operation": operation})
            self._at.changes.tell(operation)
        # Whoever set a switch did this already, unless it was cut off between the two commits.
        await self._at.ledger.mark()
        looked = 0
        while taken := await self._at.ledger.take(most=TAKEN_MAX, lease_ms=LEASE_MS):
            looked += len(taken)
            # As effects: what is found out is made durable also if the process is told to end meanwhile.
            await asyncio.gather(*(self._at.effects.start(self._look(one)) for one in taken))
        return looked

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
        """Ask its service, and make durable what it says. What fails here is due again when the lease ends."""
        name = watched.operation.id
        try:
            if watched.withdraw:
                await self._at.ledger.note(self._at.recorder.withdrawal(watched.operation))
            found = await self._at.tools.look(watched)
            operation = await self._kept(watched, found)
        except Exception as error:  # noqa: BLE001 - one that cannot be looked for must not keep the others
            self._at.witness.tell("operation.look_failed", {"operation": name, "error": repr(error)})
            return
        self._at.changes.tell(name)
        told = {"operation": name, "state": operation.state.value, "found": type(found).__name__.lower()}
        self._at.witness.tell("operation.looked_for", told)

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
