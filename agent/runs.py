"""The runs of one process: so many at once, and at the end of the process a time in which they may come to theirs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

RUNS_MAX: Final = 100
"""Cloud Run sends 80 requests at once to an instance unless told otherwise."""


class FullError(Exception):
    """No run can begin now; says why."""


class StoppedError(Exception):
    """A run was ended because the process ends."""


class Runs:
    """Counts runs, and can end them."""

    def __init__(self, runs_max: int = RUNS_MAX) -> None:
        self._max = runs_max
        self._running: set[asyncio.Timeout] = set()
        self._none = asyncio.Event()
        self._none.set()
        self.stopping = False

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place for one run. Raises `FullError` at its begin, or `StoppedError` when `stop` ends it."""
        if self.stopping:
            raise FullError("this agent is stopping; ask again, another one will answer")
        if len(self._running) >= self._max:
            raise FullError(f"this agent works on {self._max} questions already; ask again later")
        limit = asyncio.timeout(None)
        self._running.add(limit)
        self._none.clear()
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise StoppedError("this agent was stopped before the end of its work; ask again") from None
        finally:
            self._running.discard(limit)
            if not self._running:
                self._none.set()

    async def stop(self, grace_s: float, end_s: float) -> None:
        """Take no new runs; let those that run go on for `grace_s`, then end them, which may take `end_s`."""
        self.stopping = True
        if await self._over(grace_s):
            return
        now = asyncio.get_running_loop().time()
        for limit in self._running:
            limit.reschedule(now)
        await self._over(end_s)

    async def _over(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._none.wait()
        except TimeoutError:
            return False
        return True
