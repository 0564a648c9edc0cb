"""How a double lives as a process: it tells in a file when it listens, and ends cleanly on SIGTERM and SIGINT."""

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path


def write_ready_file(path: Path, facts: Mapping[str, object]) -> None:
    """Write facts as JSON so that a reader sees the whole file or none: written beside, then renamed (POSIX rename).

    Raises OSError when the folder does not exist or cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(facts, file, indent=2)
            file.write("\n")
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def asked_to_stop() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM or SIGINT sets; outside, both signals do what they did before."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
