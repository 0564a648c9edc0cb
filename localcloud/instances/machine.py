"""The machine that instances run on: which command an image is, and what every process gets besides its manifest."""

import random
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localcloud.instances.wanted import Wanted
from localcloud.process import clean_environment

SecretValue = Callable[[str, str], bytes]
"""A secret's value by name and version."""


class MachineError(ValueError):
    """The machine was described in a way that it cannot work with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An instance that is no more: its exit code (negative for a signal), and the seconds from SIGTERM to its end."""

    instance: str
    code: int
    seconds: float
    killed: bool
    """Whether it had to be killed, or was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How processes are made of revisions.

    `images` are commands by the image's name; the manifest's `args` are put behind them, as behind an ENTRYPOINT.
    `environment` goes to every process; {host} in it is the instance's own address, {folder} its own folder. `second`
    is how long a second of a probe lasts here, `grace_seconds` is between SIGTERM and SIGKILL, `idle_seconds` how long
    an instance without calls is kept above the least number. `pending_max` calls wait for an instance at most, each for
    `pending_seconds` or 3.5 times as long as starts take, whichever is more (study, section 1.4).
    """

    folder: Path
    images: Mapping[str, Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    second: float = 1.0
    grace_seconds: float = 10.0
    idle_seconds: float = 900.0
    pending_seconds: float = 10.0
    pending_max: int = 1000

    def __post_init__(self) -> None:
        if min(self.second, self.grace_seconds, self.idle_seconds, self.pending_seconds) <= 0 or self.pending_max < 1:
            raise MachineError("Times are above 0 seconds, and at least one call may wait.")

    def own_folder(self, instance: str) -> Path:
        """The disk of one instance: empty at its start, and nobody else's."""
        folder = self.folder / instance
        folder.mkdir(parents=True)
        return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An instance's address, port and folder, and what it is called with."""

    host: str
    port: int
    folder: Path
    command: tuple[str, ...]
    variables: Mapping[str, str]


def place(machine: Machine, want: Wanted, instance: str, labels: Mapping[str, str], secret: SecretValue) -> Place:
    """Make room for an instance. Raises KeyError for an image that no command is known of.

    Files of secrets are in its folder: a process has no mounts of its own, so where the manifest writes a mounted path
    as a value, the process gets the path of its own file.
    """
    folder, host = machine.own_folder(instance), own_address()
    port = free_port(host)
    for file in want.files:
        path = folder / file.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(secret(file.secret, file.version))
        path.chmod(0o600)
    given = {name: _moved(value, want, folder) for name, value in want.values.items()}
    secrets = {name: secret(*version).decode() for name, version in want.secrets.items()}
    around = {name: value.format(host=host, folder=folder) for name, value in machine.environment.items()}
    variables = {**clean_environment(), **around, **given, **secrets, **labels, "PORT": str(port)}
    args = (_moved(word, want, folder) for word in want.args)
    command = (*machine.images[want.image], *args)
    return Place(host=host, port=port, folder=folder, command=command, variables=variables)


def own_address() -> str:
    """An address on loopback that no other instance has, as instances at Cloud Run have one each."""
    if sys.platform != "linux":
        return "127.0.0.1"  # others have only this one
    number = random.SystemRandom().randrange(1, 1 << 22)
    return f"127.{64 + (number >> 16)}.{number >> 8 & 255}.{max(1, number & 255)}"


def free_port(host: str) -> int:
    """A port that was free a moment ago at an address that is nobody else's."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _moved(value: str, want: Wanted, folder: Path) -> str:
    mounted = any(value == mount or value.startswith(f"{mount.rstrip('/')}/") for mount in want.mounts)
    return f"{folder}{value}" if mounted else value
