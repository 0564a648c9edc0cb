"""Builds and runs the image with a store of its own, which leaves nothing behind; no registry, no daemon.

The base is a Debian with its own Python 3.11, made once with debootstrap and kept in the machine's folder for temporary
files; the wheels are fetched by pip from where this machine gets its packages, checked against the lock.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.image.serving_lock import selected

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("buildah", "podman", "runc", "debootstrap")
SUITE = "bookworm"
BASE = "python:3.11-slim"
NAME = "localhost/gateway:test"
CONTEXT = (
    *("Containerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"),
    *("gateway", "agent", "generated", "policies", "requirements", "deploy/image"),
)
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
"""Explicit, or a machine without CAP_SYS_RESOURCE cannot start containers."""
AS_CLOUD_RUN = (
    *("--cpus", "1", "--memory", "512m", "--read-only", "--tmpfs", "/tmp"),
    *("--cap-drop=all", "--security-opt", "no-new-privileges", "--network", "host", "--pull", "never"),
)


def missing():
    """Why images cannot be built and run here; empty if they can."""
    if os.environ.get("GATEWAY_IMAGE_TESTS") != "1":
        return "images are built only with GATEWAY_IMAGE_TESTS=1"
    if platform.system() != "Linux" or os.geteuid() != 0:
        return "needs root on Linux"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)}: apt-get install -y --no-install-recommends {' '.join(TOOLS)}"
    return "" if pip() else "needs a Python with pip to fetch wheels"


def run(*command, check=True, timeout=300, **options):
    """The finished process; an error with what it said if it must not fail and did."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=False, **options
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(done.args)}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def pip():
    """A pip of some Python: the environment of the tests needs none of its own."""
    for python in (sys.executable, getattr(sys, "_base_executable", ""), shutil.which("python3", path="/usr/bin")):
        if python and run(python, "-m", "pip", "--version", check=False).returncode == 0:
            return python
    return ""


def kept():
    """A folder of our own that stays from run to run: the base, and nothing else that is large."""
    folder = Path(tempfile.gettempdir()) / f"gateway-image-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise AssertionError(f"{folder} belongs to somebody else: delete it")
    return folder


def base_archive():
    """The base as an archive; made if it is not there, which takes a minute or two."""
    archive = kept() / f"{SUITE}-python.tar"
    if archive.exists():
        return archive
    with tempfile.TemporaryDirectory(prefix="gateway-base-") as made:
        rootfs = Path(made) / "rootfs"
        include = "--include=python3,python3-venv,ca-certificates"
        run("debootstrap", "--variant=minbase", include, SUITE, rootfs, _mirror(), timeout=900)
        for rest in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(rootfs / rest)
        partial = archive.with_suffix(".partial")
        run("tar", "-C", rootfs, "-cf", partial, ".")
        partial.rename(archive)
    return archive


def _mirror():
    """Where apt gets this machine's Debian."""
    listed = run("apt-get", "indextargets", "--format", "$(CODENAME) $(SITE)", "Created-By: Packages", check=False)
    sites = [line.split()[1] for line in listed.stdout.splitlines() if line.split()[:1] == [SUITE]]
    if not sites:
        pytest.skip(f"apt lists no mirror of {SUITE}: run apt-get update, or name it in apt's sources")
    return sites[0]


def fetch_wheels(folder):
    """The locked archives for the image's Python, each with a hash of the lock."""
    lock, wanted = (ROOT / "requirements" / "runtime.lock").read_text(), folder.parent / "image.lock"
    wanted.write_text(selected(lock, "serving") + selected(lock, "building"))
    machine = platform.machine()
    tags = [f"manylinux_2_{minor}_{machine}" for minor in (34, 28, 17)] + [f"manylinux2014_{machine}", "any"]
    platforms = [word for tag in tags for word in ("--platform", tag)]
    abis = [word for tag in ("cp311", "abi3", "none") for word in ("--abi", tag)]
    form = ["--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp", *abis, *platforms]
    run(pip(), "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", *form, "-r", wanted, "-d", folder)


class Store:
    """Images and containers under one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.build_s = 0.0
        self._where = ["--root", folder / "root", "--runroot", folder / "run", "--storage-driver", "overlay"]
        self._how = [*self._where, "--cgroup-manager=cgroupfs", "--runtime", "runc"]

    def podman(self, *arguments, **options):
        """podman with this store."""
        return run("podman", *self._how, *arguments, **options)

    def build(self):
        """Base and image, the image without any network; `build_s` is what it took."""
        self.podman("import", base_archive(), BASE)
        context = self.folder / "context"
        for name in CONTEXT:
            source, target = ROOT / name, context / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.whl"))
            else:
                shutil.copyfile(source, target)
        fetch_wheels(context / "deploy" / "image" / "wheels")
        build = ["bud", "--layers", "--isolation", "oci", "--runtime", "runc", "--network", "none", *LIMITS]
        given = ["--pull-never", "--build-arg", f"BASE={BASE}", "--build-arg", "OFFLINE=1"]
        start = time.monotonic()
        run("buildah", *self._where, *build, *given, "--build-arg", "VERSION=0.0.test", "-t", NAME, context)
        self.build_s = time.monotonic() - start

    def inspect(self):
        """What the image says of itself."""
        return json.loads(self.podman("image", "inspect", NAME).stdout)[0]

    def layers(self):
        """Bytes of each layer, the lowest first."""
        told = json.loads(self.podman("history", "--format", "json", NAME).stdout)
        return [layer["size"] for layer in reversed(told) if layer["size"]]

    @contextmanager
    def contents(self):
        """The image's files."""
        mounted = self.podman("image", "mount", NAME).stdout.strip()
        try:
            yield Path(mounted)
        finally:
            self.podman("image", "unmount", NAME)

    def finished(self, *arguments, options=(), check=False):
        """Run a command of the image to its end."""
        return self.podman("run", "--rm", *LIMITS, *AS_CLOUD_RUN, *options, NAME, *arguments, check=check)

    def start(self, *arguments, options=()):
        """A container that goes on: its id and its first process as this machine sees it."""
        container = self.podman("run", "-d", *LIMITS, *AS_CLOUD_RUN, *options, NAME, *arguments).stdout.strip()
        return container, self.state(container)["Pid"]

    def state(self, container):
        """Whether it runs, its process, its exit code."""
        return json.loads(self.podman("container", "inspect", container).stdout)[0]["State"]

    def remove(self):
        """Everything, whatever still runs."""
        self.podman("rm", "-a", "-f", "-t", "0", check=False)
        self.podman("rmi", "-a", "-f", check=False)
        run("umount", self.folder / "root" / "overlay", check=False)
        shutil.rmtree(self.folder)
