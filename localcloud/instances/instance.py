"""One instance: a process from its start to its end, and the calls that are inside."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from localcloud.front_door.config import DoorConfig
from localcloud.front_door.upstream import Container
from localcloud.instances.machine import Ended, Machine, Place
from localcloud.instances.probing import is_well, listens
from localcloud.instances.wanted import Probe, Wanted
from localcloud.process import end_with_parent
from localcloud.run_admin.revisions import Failure, failure_of

_LOG = "instance.log"
_CLOSE_SECONDS = 0.5
_NO_COMMAND = 127  # what a shell says of a command that is not there


class State(Enum):
    """Where an instance is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    ENDING = "ending"
    ENDED = "ended"


class Instance:
    """`live` is its whole life. `calls` is how many are inside; whoever grants places counts them.

    `on_ready` is called once it has passed its startup probe: from then on it may get calls.
    """

    def __init__(self, name: str, want: Wanted, machine: Machine, room: Place) -> None:
        self.name = name
        self.room = room
        self.state = State.STARTING
        self.calls = 0
        self.idle: asyncio.TimerHandle | None = None
        """Runs while nothing is inside."""
        self.pid = 0
        self.failure: Failure | None = None
        """Why it never became ready."""
        self.container: Container | None = None
        self._want = want
        self._machine = machine
        self._stop = asyncio.Event()
        self._stopped_at = 0.0

    @property
    def free(self) -> int:
        """Calls that it can take now."""
        return self._want.concurrency - self.calls if self.state is State.SERVING else 0

    @property
    def log(self) -> str:
        """What it wrote so far."""
        path = self.room.folder / _LOG
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """Give it no more calls, tell it with SIGTERM, and kill it when its time is over."""
        if self.state in (State.STARTING, State.SERVING):
            self.state = State.ENDING
            self._stopped_at = asyncio.get_running_loop().time()
            self._stop.set()

    async def live(self, door: DoorConfig, group: asyncio.TaskGroup, on_ready: Callable[[], None]) -> Ended:
        """Start, serve until it is stopped or ends by itself, and be gone. Its process never outlives this."""
        try:
            process = await self._spawn()
        except OSError as error:
            self.state, self.failure = State.ENDED, failure_of("crash", self._want.image)
            (self.room.folder / _LOG).write_text(f"{error}\n")
            return Ended(instance=self.name, code=_NO_COMMAND, seconds=0.0, killed=False)
        self.pid = process.pid
        gone = asyncio.create_task(process.wait())
        stop = asyncio.create_task(self._stop.wait())
        serving = asyncio.create_task(self._serve(door, group, on_ready))
        try:
            await asyncio.wait({gone, stop, serving}, return_when=asyncio.FIRST_COMPLETED)
            serving.cancel()
            await asyncio.wait({serving})
            if not serving.cancelled() and (fault := serving.exception()) is not None:
                raise fault
            self._explain(gone)
            return await self._end(process, gone)
        finally:
            self.state = State.ENDED
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await gone
            stop.cancel()
            if self.idle is not None:
                self.idle.cancel()
            if self.container is not None:
                await self.container.close(_CLOSE_SECONDS)

    async def _spawn(self) -> asyncio.subprocess.Process:
        with (self.room.folder / _LOG).open("ab") as out:
            return await asyncio.create_subprocess_exec(
                *self.room.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.room.variables,
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    async def _serve(self, door: DoorConfig, group: asyncio.TaskGroup, on_ready: Callable[[], None]) -> None:
        """Become ready and stay well; returning means that it must end."""
        if not await self._well(self._want.startup, failures=self._want.startup.failures, wanted=True):
            listening = await listens(self.room.host, self.room.port)
            self.failure = failure_of("probe-fails" if listening else "crash", self._want.image)
            return
        address = replace(
            door,
            container_host=self.room.host,
            container_port=self.room.port,
            concurrency=self._want.concurrency,
            start_seconds=door.reconnect_seconds,
        )
        self.container = Container(address, group, self.name)
        self.state = State.SERVING
        on_ready()
        if self._want.liveness is None:
            await self._stop.wait()
        else:
            await self._well(self._want.liveness, failures=self._want.liveness.failures, wanted=False)

    async def _well(self, probe: Probe, *, failures: int, wanted: bool) -> bool:
        """Ask again and again: until it says what is wanted, or has failed so often in a row."""
        second = self._machine.second
        port = self.room.port if probe.port == self._want.port else probe.port
        await asyncio.sleep(probe.delay * second)
        failed = 0
        while failed < failures:
            well = await is_well(probe, self.room.host, port, probe.timeout * second)
            if well and wanted:
                return True
            failed = 0 if well else failed + 1
            await asyncio.sleep(probe.period * second)
        return False

    def _explain(self, gone: asyncio.Task[int]) -> None:
        """A process that ended before it was ready is one that failed to start."""
        if self.state is State.STARTING and self.failure is None and gone.done():
            self.failure = failure_of("crash", self._want.image)

    async def _end(self, process: asyncio.subprocess.Process, gone: asyncio.Task[int]) -> Ended:
        self.stop()
        if not gone.done():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await asyncio.wait({gone}, timeout=self._machine.grace_seconds)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        code = await gone
        seconds = asyncio.get_running_loop().time() - self._stopped_at
        return Ended(instance=self.name, code=code, seconds=round(seconds, 3), killed=code == -signal.SIGKILL)
