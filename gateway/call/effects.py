"""The tasks that run to their end whatever their callers do: effects and the settling of holds."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Self, TypeVar

Value = TypeVar("Value")


class EffectTasks:
    """A task group for effects; leaving it waits for all of them.

    A caller that leaves must not cut an effect in half: after an order was sent, its outcome is recorded even if
    nobody waits for it any more (invariants 5 and 6).
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._running = 0

    async def __aenter__(self) -> Self:
        """Open the group."""
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for every effect."""
        await self._group.__aexit__(kind, error, traceback)

    @property
    def running(self) -> int:
        """How many effects have not ended."""
        return self._running

    def start(self, work: Coroutine[object, object, Value]) -> asyncio.Future[Value]:
        """See `gateway.call.stations.Effects`."""
        done: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        # Who waits may be gone when the effect fails; what it did was recorded by the effect itself.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._running += 1
        self._group.create_task(self._run(work, done))
        return done

    async def _run(self, work: Coroutine[object, object, Value], done: asyncio.Future[Value]) -> None:
        try:
            result = await work
        except BaseException as error:
            if not done.done():
                done.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            if not done.done():
                done.set_result(result)
        finally:
            self._running -= 1
