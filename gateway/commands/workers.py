"""`gateway serve --workers N`: processes that take connections of one port, and the small parent that looks after them.

The system deals new connections out among all who listen on a port with SO_REUSEPORT (socket(7)). The parent holds the
port without listening, so that it stays chosen while workers come and go. Workers share nothing but the database.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from gateway.call.stations import Witness

DRAINED: Final = 0
NOT_CLOSED: Final = 1
CANNOT: Final = 2

START_S: Final = 60.0
"""For a worker until it listens."""

STOP_S: Final = 10.0
"""From SIGTERM until a worker has drained; as long as Cloud Run gives the parent."""

FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 10.0
STEADY_S: Final = 60.0
"""Before a worker that died is started again: doubled each time, and short again after it has served so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all workers have in common."""

    command: Sequence[str]
    """Runs one worker; `--worker FD` is added. It tells through FD that it listens, and ends when its input does."""
    environment: dict[str, str]
    witness: Witness
    stop: asyncio.Event


@dataclass(slots=True, kw_only=True)
class Worker:
    """One place among the workers, and the process that has it now."""

    number: int
    shared: Shared
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it has listened for the first time."""
    _process: asyncio.subprocess.Process | None = None
    _due_s: float | None = None
    """On the loop's clock: when a process that was told to end is ended."""
    _bound: asyncio.Timeout | None = None

    async def run(self) -> int:
        """Keep a process here until the stop. Its last exit code, or that of a start that failed at the first time."""
        clock, pause_s = asyncio.get_running_loop().time, FIRST_PAUSE_S
        while True:
            began = clock()
            listens = await self._start()
            if listens:
                self.ready.set()
            code = await self._ended()
            if self.shared.stop.is_set() or not (listens or self.ready.is_set()):
                return code
            self.shared.witness.tell("worker.died", {"worker": self.number, "exit_code": code})
            pause_s = FIRST_PAUSE_S if clock() - began >= STEADY_S else min(2 * pause_s, LAST_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self.shared.stop.wait()
                    return code

    def signal(self, number: int) -> None:
        """Tell the process, if there is one."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """Tell the process to drain; it gets as long as a drain takes, and no longer."""
        self.signal(signal.SIGTERM)
        self._due_s = asyncio.get_running_loop().time() + STOP_S
        if self._bound is not None:
            self._bound.reschedule(self._due_s)

    async def _start(self) -> bool:
        """Start a process; whether it listens. One that does not in time is told to end."""
        self._due_s = None
        told, telling = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.shared.command,
                *("--worker", str(telling)),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(telling,),
                env=self.shared.environment,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the workers in order
            )
        finally:
            os.close(telling)
        with os.fdopen(told, "rb") as pipe:
            if self.shared.stop.is_set():
                self.end()
            try:
                async with asyncio.timeout(START_S):
                    return await _first_byte(pipe.fileno()) != b""
            except TimeoutError:
                self.end()
                return False

    async def _ended(self) -> int:
        if self._process is None:
            raise RuntimeError("a worker that was not started cannot end")
        try:
            async with asyncio.timeout_at(self._due_s) as self._bound:
                return await self._process.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self._process.wait()
        finally:
            self._bound = None


async def serve_workers(workers: Sequence[Worker], shared: Shared, listening: Callable[[], None]) -> int:
    """Start them, keep them until `shared.stop`, and let them drain together; the exit code of `serve`.

    `listening` is told when all do. The first is started alone: what keeps it from starting is said once, and ends all.
    """
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(_stopped(workers, shared))
        running: list[asyncio.Task[int]] = []
        for some in (workers[:1], workers[1:]):
            started = [group.create_task(worker.run()) for worker in some]
            running += started
            if not await _all_listen(group, some, started):
                shared.stop.set()
                break
        if not shared.stop.is_set():
            listening()
            shared.witness.tell("workers.started", {"workers": len(workers)})
        codes = await asyncio.gather(*running)
        shared.stop.set()
        await stopping
    if not all(worker.ready.is_set() for worker in workers):
        return max((code for code in codes if code > 0), default=CANNOT if any(codes) else DRAINED)
    return NOT_CLOSED if any(codes) else DRAINED


@contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Hold a port for all workers; gives it, which is the system's choice for port 0. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
        yield int(held.getsockname()[1])


def worker_command(arguments: Sequence[str]) -> list[str]:
    """What runs one worker."""
    return [sys.executable, "-m", "gateway", "serve", *arguments]


async def _all_listen(
    group: asyncio.TaskGroup, workers: Sequence[Worker], running: Sequence[asyncio.Task[int]]
) -> bool:
    """Wait until all of them listen, or one has ended without."""
    listening = [group.create_task(worker.ready.wait()) for worker in workers]
    waiting: set[asyncio.Task[int] | asyncio.Task[bool]] = {*listening, *running}
    try:
        while not all(worker.ready.is_set() for worker in workers):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(task in done for task in running):
                return False
        return True
    finally:
        for task in listening:
            task.cancel()


async def _stopped(workers: Sequence[Worker], shared: Shared) -> None:
    """After the stop: tell all to drain. One that is just being started is told as soon as it is there."""
    await shared.stop.wait()
    for worker in workers:
        worker.end()


async def _first_byte(descriptor: int) -> bytes:
    """What a pipe says first; nothing when it ends without."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
        return os.read(descriptor, 1)
    finally:
        loop.remove_reader(descriptor)
