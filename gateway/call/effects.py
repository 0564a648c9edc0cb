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
        """Wait for every effect, whatever ended the block: told of an error, the group would cut them."""
        await self._group.__aexit__(None, None, None)

    @property
    def running(self) -> int:
        """How many effects have not ended."""
        return self._running

    def start(self, work: Coroutine[object, object, Value]) -> asyncio.Future[Value]:
        """See `gateway.call.stations.Effects`. Raises RuntimeError outside of the group's block."""
        done: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        running = _run(work, done)
        try:
            task = self._group.create_task(running)
        except RuntimeError:
            running.close()
            work.close()
            raise
        self._running += 1
        task.add_done_callback(lambda _: self._ended(work, done))
        return done

    def _ended(self, work: Coroutine[object, object, Value], done: asyncio.Future[Value]) -> None:
        """After the task: one that was cut, perhaps before its first step, leaves nobody waiting."""
        self._running -= 1
        work.close()
        # A future that is done stays so; asyncio is only told not to mourn an exception that nobody waits for any
        # more: what the effect did was recorded by the effect itself.
        done.cancel()


async def _run(work: Coroutine[object, object, Value], done: asyncio.Future[Value]) -> None:
    try:
        result = await work
    except Exception as error:  # noqa: BLE001 - raised where it is awaited; in the group it would end the others
        if not done.done():
            done.set_exception(error)
    else:
        if not done.done():
            done.set_result(result)
