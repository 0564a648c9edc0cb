"""How a double lives as a process: it tells in a file when it listens, and ends cleanly on SIGTERM and SIGINT."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_REACHING: Final = ("GOOGLE_", "GCE_", "CLOUDSDK_", "GATEWAY_", "AGENT_", "K_", "APCA_", "PORT")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that would reach for a real cloud."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_REACHING)}
    return {name: value for name, value in kept.items() if name.lower() not in _PROXIES} | {"PYTHONUNBUFFERED": "1"}


def end_with_parent() -> None:
    """In a new child: ask the kernel to end it when its parent ends, also when the parent is killed (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        os._exit(1)


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
