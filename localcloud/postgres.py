"""A real PostgreSQL server for a while: the machine's own binaries, a folder of its own, durable as in production."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from localcloud.process import clean_environment, end_with_parent

START_S: Final = 60.0
STOP_S: Final = 10.0
ROLE: Final = "gateway"
TRIES: Final = 3
"""Between choosing a free port and listening on it, somebody else may take it."""


class NoPostgresError(Exception):
    """There is none on this machine, or it does not start; the sentence says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A server that runs. Its role may do everything in it."""

    folder: Path
    """Of its unix socket."""
    port: int
    """On 127.0.0.1."""
    password: str = field(repr=False)
    pid: int

    def url(self, database: str = "postgres", *, unix: bool = False) -> str:
        """The address of one of its databases, with the password."""
        place = f"/{database}?host={self.folder}&port={self.port}" if unix else f"127.0.0.1:{self.port}/{database}"
        return f"postgresql://{ROLE}:{self.password}@{place}"


def binaries() -> Path:
    """The newest PostgreSQL of this machine: Debian's folders, or beside the `initdb` on the path.

    Raises `NoPostgresError`.
    """
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    found = str(newest[-1]) if newest else shutil.which("initdb")
    if found is None:
        raise NoPostgresError("there is no PostgreSQL here: install Debian's package postgresql, or put initdb on PATH")
    return Path(found).resolve().parent


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A server with fsync on, reached over TCP on loopback and over its socket, always with its password.

    PostgreSQL does not run as root: where we are root, it runs as `postgres` or `nobody`. Everything of it is gone at
    the end. Raises `NoPostgresError`.
    """
    bin_folder, user = binaries(), _user()
    folder = Path(tempfile.mkdtemp(prefix="gateway-pg-"))
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        password = secrets.token_urlsafe(16)
        _made(bin_folder, folder, password, user)
        with _started(bin_folder, folder, user) as (pid, port):
            yield PostgresServer(folder=folder, port=port, password=password, pid=pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> pwd.struct_passwd | None:
    """As whom it runs, where we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgresError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _made(bin_folder: Path, folder: Path, password: str, user: pwd.struct_passwd | None) -> None:
    words = folder / "password"
    words.write_text(password)
    if user is not None:
        os.chown(words, user.pw_uid, user.pw_gid)
    options = ("--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")
    made = subprocess.run(  # noqa: S603 - the machine's own PostgreSQL
        [bin_folder / "initdb", "-D", folder / "data", "-U", ROLE, f"--pwfile={words}", *options],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
        user=None if user is None else user.pw_uid,
        group=None if user is None else user.pw_gid,
        cwd=folder,
        env=clean_environment(),
    )
    words.unlink()
    if made.returncode != 0:
        raise NoPostgresError(f"initdb failed: {made.stderr.strip()}")


@contextmanager
def _started(bin_folder: Path, folder: Path, user: pwd.struct_passwd | None) -> Iterator[tuple[int, int]]:
    process, port = _listening(bin_folder, folder, user)
    try:
        yield process.pid, port
    finally:
        process.send_signal(2)  # the fast shutdown: connections are cut, what is committed is kept
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listening(bin_folder: Path, folder: Path, user: pwd.struct_passwd | None) -> tuple[subprocess.Popen[bytes], int]:
    log = folder / "log"
    for _ in range(TRIES):
        port = _free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(folder),
            "port": str(port),
            "fsync": "on",
            "shared_buffers": "32MB",
            "max_connections": "60",
        }
        with log.open("ab") as out:
            process = subprocess.Popen(  # noqa: S603 - the machine's own PostgreSQL
                [
                    bin_folder / "postgres",
                    "-D",
                    folder / "data",
                    *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                cwd=folder,
                env=clean_environment(),
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads yet
            )
        if _ready(process, port):
            return process, port
    raise NoPostgresError(f"PostgreSQL does not start: {log.read_text(errors='replace')[-2000:]}")


def _ready(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until it takes connections; its lock file says so in its eighth line (since PostgreSQL 10)."""
    data = Path(str(process.args[2])) if isinstance(process.args, list) else Path()
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if "ready" in (data / "postmaster.pid").read_text().splitlines()[7]:
                return True
        except (OSError, IndexError):
            pass
        time.sleep(0.02)
    if process.poll() is None:
        process.kill()
        process.wait()
    del port
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _version(path: Path) -> tuple[int, ...]:
    name = path.parent.parent.name
    return tuple(int(part) for part in name.split(".") if part.isdigit())
