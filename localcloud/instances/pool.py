"""The instances of one revision: started when calls wait, bounded by what the manifest allows, ended when idle."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable

from localcloud.front_door.config import DoorConfig
from localcloud.front_door.refusals import NO_INSTANCE, START_FAILED, Refusal, Refused
from localcloud.front_door.upstream import ContainerLink
from localcloud.instances.instance import Instance, State
from localcloud.instances.machine import Ended, Machine, Place
from localcloud.instances.wanted import Wanted

_MEAN_STARTS = 3.5  # how many of them a call may wait (study, section 1.4)
_ENDED_KEPT = 1000


class Pool:
    """Hands out places inside of instances, and sees to it that there are enough of these and not too many.

    `room` makes a place on the machine for the next instance. An instance that is ending counts until it has ended: two
    never share what only one may have.
    """

    def __init__(
        self, name: str, want: Wanted, machine: Machine, door: DoorConfig, room: Callable[[str], Place]
    ) -> None:
        self.name = name
        self.want = want
        self.ended: deque[Ended] = deque(maxlen=_ENDED_KEPT)
        self.instances: list[Instance] = []
        self._machine = machine
        self._door = door
        self._room = room
        self._group: asyncio.TaskGroup | None = None
        self._waiting: deque[asyncio.Future[Instance]] = deque()
        self._least = 0
        self._most = want.most
        self._count = 0
        self._start_seconds: list[float] = []
        self._failed: Instance | None = None
        self._closing = False

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return len(self._waiting)

    @property
    def serving(self) -> list[Instance]:
        """The instances that take calls."""
        return [instance for instance in self.instances if instance.state is State.SERVING]

    @property
    def failed(self) -> Instance | None:
        """The instance that failed to start last, where none has become ready."""
        return None if self._start_seconds else self._failed

    @property
    def proven(self) -> bool:
        """Whether an instance has ever become ready."""
        return bool(self._start_seconds)

    def open(self, group: asyncio.TaskGroup) -> None:
        """Start the first instance: a revision shows that it can serve before it gets a call."""
        self._group = group
        self._start()

    def keep(self, least: int, most: int) -> None:
        """Let so many instances wait for calls from now on, and so many be there; what is idle above may end."""
        self._most = min(most, self.want.most)
        self._least = min(least, self._most)
        self._scale()
        for instance in self.serving:
            self._retire_later(instance)

    def scale_in(self) -> int:
        """End what is idle above the least number, as time would; gives how many. Those with calls stay."""
        idle = [instance for instance in self.serving if not instance.calls]
        surplus = max(0, len(self.serving) - self._least)
        for instance in idle[:surplus]:
            instance.stop()
        return len(idle[:surplus])

    def restart(self, instance: Instance) -> None:
        """End an instance whatever runs in it, as Cloud Run may at any time; another takes its place."""
        instance.stop()
        self._scale()

    def close(self) -> None:
        """End all instances, each in its time; calls that wait are refused."""
        self._closing = True
        self._refuse_all(NO_INSTANCE)
        for instance in tuple(self.instances):
            instance.stop()

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[ContainerLink]:
        """Hold a place in an instance, and give a connection to it. Raises Refused without one."""
        instance = self._free() or await self._wait()
        while instance.state is not State.SERVING:  # it was stopped in the moment in which it had been granted
            self._leave(instance)
            instance = self._free() or await self._wait()
        try:
            if instance.container is None:
                raise Refused(START_FAILED)
            async with instance.container.entered() as link:
                yield link
        finally:
            self._leave(instance)

    def _free(self) -> Instance | None:
        """A place, taken; none while others wait, who come first."""
        return None if self._waiting else self._taken()

    def _taken(self) -> Instance | None:
        """A place in the fullest instance that has one: so the others get idle."""
        instance = max((one for one in self.serving if one.free), key=lambda one: one.calls, default=None)
        if instance is not None:
            instance.calls += 1
            if instance.idle is not None:
                instance.idle.cancel()
        return instance

    async def _wait(self) -> Instance:
        if len(self._waiting) >= self._machine.pending_max or self._closing:
            raise Refused(NO_INSTANCE)
        future: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._scale()
        try:
            async with asyncio.timeout(self._patience()):
                return await asyncio.shield(future)
        except TimeoutError:
            self._give_back(future)
            raise Refused(NO_INSTANCE) from None
        except asyncio.CancelledError:
            self._give_back(future)
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)

    def _give_back(self, future: asyncio.Future[Instance]) -> None:
        """Whoever waited has left: a place that was granted in the same moment goes to the next."""
        if future.done() and not future.cancelled() and future.exception() is None:
            self._leave(future.result())
        future.cancel()

    def _patience(self) -> float:
        starts = self._start_seconds
        mean = sum(starts) / len(starts) if starts else 0.0
        return max(_MEAN_STARTS * mean, self._machine.pending_seconds)

    def _leave(self, instance: Instance) -> None:
        instance.calls -= 1
        self._hand_on()
        self._retire_later(instance)

    def _hand_on(self) -> None:
        """Give free places to those who wait, in their order."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
            elif (instance := self._taken()) is not None:
                self._waiting.popleft().set_result(instance)
            else:
                return

    def _refuse_all(self, refusal: Refusal) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(Refused(refusal))

    def _scale(self) -> None:
        """Start what the least number and those who wait ask for, up to the greatest."""
        starting = sum(one.state is State.STARTING for one in self.instances)
        need = -(-len(self._waiting) // self.want.concurrency)
        short = max(need - starting, self._least - starting - len(self.serving))
        for _ in range(min(short, self._most - len(self.instances))):
            self._start()

    def _start(self) -> None:
        if self._group is None or self._closing:
            return
        self._count += 1
        name = f"{self.name}/{self._count}"
        instance = Instance(name, self.want, self._machine, self._room(name))
        self.instances.append(instance)
        self._group.create_task(self._live(instance, self._group))

    async def _live(self, instance: Instance, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()

        def ready() -> None:
            self._start_seconds.append(loop.time() - began)
            self._hand_on()
            self._retire_later(instance)

        try:
            self.ended.append(await instance.live(self._door, group, ready))
        finally:
            self.instances.remove(instance)
        await self._go_on_without(instance)

    async def _go_on_without(self, instance: Instance) -> None:
        """Replace what is missing. What failed to start is told to those who wait, and not tried again at once."""
        if instance.failure is not None:
            self._failed = instance
            if not self.instances:
                self._refuse_all(START_FAILED)
            await asyncio.sleep(self._machine.second)
        if self.proven:
            self._scale()

    def _retire_later(self, instance: Instance) -> None:
        if not instance.calls and instance.state is State.SERVING:
            if instance.idle is not None:
                instance.idle.cancel()
            loop = asyncio.get_running_loop()
            instance.idle = loop.call_later(self._machine.idle_seconds, self._retire, instance)

    def _retire(self, instance: Instance) -> None:
        """End an instance that was idle for long, if it is above the least number."""
        if instance.state is State.SERVING and len(self.serving) > self._least:
            instance.stop()
