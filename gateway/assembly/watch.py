"""Whether the record can be written, as health tells it: no in the moment in which it cannot, yes when it can again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.call.stations import Witness
from gateway.terms.faults import LedgerUnavailableError
from gateway.wire.server import GatewayServer

BEAT_S: Final = 60.0
"""Without a failure for so long, a heartbeat proves that the ledger still takes records; it also bounds how long the
end of a chain can have been cut off unseen."""

RETRY_S: Final = 1.0
"""Between two tries while it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerWatch:
    """Looks after the ledger of one gateway. `beat` makes a heartbeat durable, or raises `LedgerUnavailableError`.

    A call that ended because nothing could be recorded is enough to say that the gateway is not ready: such calls are
    refused anyway (attack row 47), and a balancer should send them elsewhere. Only a durable heartbeat takes it back.
    """

    server: GatewayServer
    beat: Callable[[], Awaitable[object]]
    witness: Witness
    beat_s: float = BEAT_S
    retry_s: float = RETRY_S

    async def run(self) -> None:
        """Watch until it is cancelled."""
        while True:
            await self._until_doubted()
            if await self._takes_records(tell=True):
                continue
            self.server.readiness.set_serving(False)
            while not await self._takes_records(tell=False):  # noqa: ASYNC110 - no event tells of a ledger
                await asyncio.sleep(self.retry_s)
            self.witness.tell("ledger.writable_again", {})
            self.server.readiness.set_serving(True)

    async def _until_doubted(self) -> None:
        """Return when a call could not be recorded, or when it is time to make sure."""
        unrecorded = self.server.surroundings.load.unrecorded
        try:
            async with asyncio.timeout(self.beat_s):
                await unrecorded.wait()
        except TimeoutError:
            return
        unrecorded.clear()

    async def _takes_records(self, *, tell: bool) -> bool:
        try:
            await self.beat()
        except LedgerUnavailableError as error:
            if tell:
                self.witness.tell("ledger.unwritable", {"error": str(error)})
            return False
        return True


@asynccontextmanager
async def watched(watch: LedgerWatch) -> AsyncIterator[None]:
    """Watch while inside. An error inside comes out as it is, and not in a group with the watch."""
    group = await asyncio.TaskGroup().__aenter__()
    watching = group.create_task(watch.run())
    try:
        yield
    finally:
        watching.cancel()
        await group.__aexit__(None, None, None)
