"""The compilers that come as packages: protoc of grpcio-tools, betterproto2's plugin for it, ruff as formatter."""

import contextlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from codegen.contract import DESCRIBED_ONLY

# Ruff, which betterproto2's plugin calls too, would otherwise be set up by wherever the command was started.
_RUFF_SETTINGS = 'line-length = 120\ntarget-version = "py311"\n'

_PLUGIN_OPTIONS = "client_generation=none,server_generation=none"


class CompilerError(Exception):
    """The protos cannot be compiled; the text says what to change."""


def descriptors(protos: Path) -> FileDescriptorSet:
    """Every proto below a folder and all that they import."""
    with _workplace() as folder:
        out = folder / "descriptors.bin"
        _protoc(protos, folder, _files(protos), f"--descriptor_set_out={out}", "--include_imports")
        return FileDescriptorSet.FromString(out.read_bytes())


def message_classes(protos: Path, out: Path) -> None:
    """Writes betterproto2's message classes into an existing folder."""
    with _workplace() as folder:
        plugin = f"--plugin=protoc-gen-python_betterproto2={_script('protoc-gen-python_betterproto2')}"
        options = f"--python_betterproto2_opt={_PLUGIN_OPTIONS}"
        own = [file for file in _files(protos) if not file.startswith(DESCRIBED_ONLY.replace(".", "/"))]
        _protoc(protos, folder, own, plugin, f"--python_betterproto2_out={out}", options)


def formatted(source: str) -> str:
    """Python source as ruff formats it, imports sorted."""
    with _workplace() as folder:
        command = [_script("ruff"), "check", "--no-cache", "--select=I", "--fix", "--quiet", "-"]
        return _run([_script("ruff"), "format", "--no-cache", "-"], folder, _run(command, folder, source))


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "ruff.toml").write_text(_RUFF_SETTINGS, encoding="utf-8")
        yield folder


def _script(name: str) -> str:
    """A command that a package installed beside this Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def _files(protos: Path) -> list[str]:
    return sorted(path.relative_to(protos).as_posix() for path in protos.rglob("*.proto"))


def _protoc(protos: Path, folder: Path, files: list[str], *options: str) -> None:
    if not files:
        raise CompilerError(f"{protos}: there is no .proto file in this folder or below it.")
    _run([sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={protos}", *options, *files], folder)


def _run(command: list[str], folder: Path, text: str = "") -> str:
    scripts = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])  # noqa: TID251 # the plugin looks for ruff on the path; this is a compiler, not the gateway
    environment = {**os.environ, "PATH": scripts}  # noqa: TID251 # as above
    done = subprocess.run(
        command, cwd=folder, env=environment, input=text, encoding="utf-8", capture_output=True, check=False
    )
    if done.returncode:
        raise CompilerError(done.stderr.strip() or f"{command[0]} ended with code {done.returncode}.")
    return done.stdout
