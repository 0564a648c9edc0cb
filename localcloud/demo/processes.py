"""Child processes that tell in a file when they listen, end on SIGTERM, and never outlive the one who started them."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from localcloud.process import end_with_parent

START_S: Final = 30.0
STOP_S: Final = 12.0
"""Cloud Run gives ten seconds from SIGTERM to SIGKILL."""


class ProcessError(Exception):
    """A process did not start or did not end as it should; the message holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A process that listens."""

    name: str
    process: asyncio.subprocess.Process
    ready: Mapping[str, object]
    log: Path
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What it was started with, beside what all are."""

    def told(self, key: str) -> str:
        """What its ready file says."""
        return str(self.ready[key])


class Processes:
    """Starts processes inside of an `async with` and ends all of them, the last one first, when it is left."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._running: list[Running] = []

    async def __aenter__(self) -> Self:
        """Nothing runs yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what still runs."""
        while self._running:
            await self.stop(self._running[-1])

    async def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Running:
        """Start `python ARGUMENTS --ready-file FILE` and wait until it says that it listens."""
        ready_file, log = self._folder / f"{name}.ready.json", self._folder / f"{name}.log"
        ready_file.unlink(missing_ok=True)
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                "--ready-file",
                str(ready_file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**self._environment, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches us alone, and we end the others in order
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
        given = dict(environment or {})
        starting = Running(name=name, process=process, ready={}, log=log, arguments=tuple(arguments), environment=given)
        self._running.append(starting)
        ready = await self._until_ready(starting, ready_file)
        running = replace(starting, ready=ready)
        self._running[self._running.index(starting)] = running
        return running

    async def again(self, running: Running, environment: Mapping[str, str]) -> Running:
        """Start what has ended once more, as it was started and with these variables."""
        return await self.start(running.name, running.arguments, {**running.environment, **environment})

    async def stop(self, running: Running, number: signal.Signals = signal.SIGTERM) -> int:
        """End a process and return its exit code; one that does not end in time is killed."""
        self._running = [other for other in self._running if other.process is not running.process]
        process = running.process
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
                raise ProcessError(f"{running.name} did not end within {STOP_S:.0f} s of SIGTERM") from None
        return process.returncode or 0

    async def _until_ready(self, running: Running, ready_file: Path) -> Mapping[str, object]:
        clock = asyncio.get_running_loop().time
        end = clock() + START_S
        while clock() < end:
            if ready_file.exists():
                ready: dict[str, object] = json.loads(ready_file.read_text())
                return ready
            if running.process.returncode is not None:
                raise ProcessError(f"{running.name} ended at once ({running.process.returncode}): {_tail(running.log)}")
            await asyncio.sleep(0.01)
        raise ProcessError(f"{running.name} does not listen after {START_S:.0f} s: {_tail(running.log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].strip() or "its log is empty"
