"""Gathers what Python needs to run, and nothing else, from the base image into a folder that becomes the image.

    python gather.py ROOT FOLDER...

ROOT gets the interpreter, its standard library without what no server uses, the shared libraries that they and the
extension modules in the FOLDERs name, certificate authorities, one user without rights, and dpkg's word on every
package that gave a file, so that scanners know what is inside. There is no shell, no installer and no dpkg in it.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

USER: Final = 65532
"""The user and group that the image runs as; the number that other images without a shell use too."""

LEFT_OUT: Final = frozenset(
    {
        *("test", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data", "distutils", "venv"),
        *("site-packages", "dist-packages", "__pycache__", "turtle.py", "__phello__"),
    }
)
"""Of the standard library: its own tests, windows and lessons, installers, and what others installed into it."""
LEFT_OUT_MODULES: Final = re.compile(
    r"(_tkinter|_curses|_curses_panel|readline|_dbm|_gdbm|nis|spwd|_crypt|ossaudiodev|_test.*|xx.*|_xx.*|_ctypes_test)\."
)
"""Of its extension modules: terminals, old databases, old networks, password files, sound, and more of its own tests.
They alone would bring ten packages of libraries."""

LOADED_LATE: Final = ("libgcc_s.so.1",)
"""What the C library opens by name when a thread is cancelled (pthread_cancel(3)); no file names it as needed."""

_NEEDED: Final = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)
_CERTIFICATE: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")


class GatherError(Exception):
    """The base image lacks something; a sentence for who builds."""


class Gathering:
    """Copies into a root and remembers where everything came from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sources: set[Path] = set()

    def file(self, source: Path, name: str = "") -> None:
        """Copy what is at a path, links followed, to the same place, under its own or another name."""
        real = source.resolve()
        if not real.is_file():
            raise GatherError(f"the base image has no {source}: build on python:3.11-slim or another Debian with it")
        target = self.root / source.parent.resolve().relative_to("/") / (name or source.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real, target)
        target.chmod(0o755 if os.access(real, os.X_OK) else 0o644)
        self.sources.add(real)

    def text(self, path: str, content: str) -> None:
        """Write a file of our own."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)


def interpreter(gathering: Gathering) -> None:
    """The executable, also as /app/bin/python, and the standard library."""
    executable = Path(sys.executable).resolve()
    gathering.file(executable)
    link = gathering.root / "app/bin/python"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(executable)
    library = Path(sysconfig.get_path("stdlib"))
    for folder, names, files in os.walk(library):
        names[:] = sorted(name for name in names if name not in LEFT_OUT and not name.startswith("config-"))
        for file in files:
            if file not in LEFT_OUT and not LEFT_OUT_MODULES.match(file):
                gathering.file(Path(folder) / file)


def libraries(gathering: Gathering, folders: Iterable[Path]) -> None:
    """The shared libraries of everything that was gathered and of the folders' extension modules, and their index."""
    trees = [gathering.root, *folders]
    objects = [Path(sys.executable).resolve(), *(file for tree in trees for file in sorted(tree.rglob("*.so*")))]
    needed = {path for item in objects for path in _needed(item)}
    outside = {path for path in needed if not any(path.is_relative_to(tree) for tree in trees)}
    for name in LOADED_LATE:
        outside |= {place for path in outside if (place := path.with_name(name)).exists()}
    for path in sorted(outside):
        gathering.file(path)
    for name in ("lib", "lib64"):
        place = Path("/") / name
        if place.is_symlink():
            (gathering.root / name).symlink_to(place.readlink())
    gathering.text("etc/ld.so.conf", "".join(f"{folder}\n" for folder in sorted({path.parent for path in outside})))
    _run("/sbin/ldconfig", "-r", str(gathering.root))
    shutil.rmtree(gathering.root / "var/cache/ldconfig", ignore_errors=True)


def system(gathering: Gathering) -> None:
    """Certificate authorities by hash, names, the user, and folders to write to.

    OpenSSL reads a hashed folder when it meets a server, and a bundle of all authorities for every context.
    """
    authorities = sorted(path for path in Path("/etc/ssl/certs").iterdir() if _CERTIFICATE.fullmatch(path.name))
    if not authorities:
        raise GatherError("the base image has no certificate authorities: install ca-certificates in it")
    for path in authorities:
        gathering.file(path)
    gathering.file(Path("/etc/os-release"))
    gathering.text("etc/passwd", f"nonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin\n")
    gathering.text("etc/group", f"nonroot:x:{USER}:\n")
    gathering.text("etc/nsswitch.conf", "hosts: files dns\n")
    (gathering.root / "tmp").mkdir(mode=0o777)
    (gathering.root / "tmp").chmod(0o1777)


def packages(gathering: Gathering) -> None:
    """For every package that gave a file: its status, in the place where scanners look, and its copyright."""
    for name in sorted(_owners(gathering.sources)):
        short = name.partition(":")[0]
        gathering.text(f"var/lib/dpkg/status.d/{short}", _run("dpkg-query", "-s", name))
        copyright_file = Path("/usr/share/doc") / short / "copyright"
        if copyright_file.exists():
            gathering.file(copyright_file)


def _owners(sources: set[Path]) -> Iterator[str]:
    """The packages of files. dpkg knows some of them by their name before /lib became a link to /usr/lib."""
    names = [str(path) for path in sources]
    names += [name.removeprefix("/usr") for name in names if name.startswith("/usr/lib")]
    found = subprocess.run(["dpkg-query", "-S", *names], capture_output=True, text=True, check=False)  # noqa: S603, S607 - names of files that were read, and the base's own dpkg
    for line in found.stdout.splitlines():
        owners, separator, _ = line.rpartition(": ")
        if separator and not owners.startswith("diversion "):
            yield owners.split(", ")[0]


def _needed(item: Path) -> Iterator[Path]:
    done = subprocess.run(["ldd", str(item)], capture_output=True, text=True, check=False)  # noqa: S603, S607 - the base's own ldd on files that it runs anyway
    if "not found" in done.stdout:
        raise GatherError(f"{item} needs a library that the base image has not: {done.stdout.strip()}")
    yield from (Path(found) for found in _NEEDED.findall(done.stdout))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - commands written above
    if done.returncode:
        raise GatherError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def main(arguments: list[str]) -> int:
    """Gather; exit code 2 with a sentence if the base image lacks something."""
    gathering = Gathering(Path(arguments[0]))
    try:
        interpreter(gathering)
        libraries(gathering, [Path(folder) for folder in arguments[1:]])
        system(gathering)
        packages(gathering)
    except (GatherError, OSError) as error:
        sys.stderr.write(f"gather: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
