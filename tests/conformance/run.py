"""Runs the official conformance suite against the gateway's port and against the agent's client; prints the counts.

    python tests/conformance/run.py [server] [client] [-- arguments of the suite's runner]

The runner is a Go module: it is built once into the user's cache. Where Go is not found, this says so and runs nothing.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VERSION = "v1.0.7"
MODULE = "connectrpc.com/conformance"
MODES = ("server", "client")

BUILD_S = 600
RUN_S = 900
_SUMMARY = re.compile(r"(\d+) passed(?:.*?(\d+) failed)?")


class SuiteError(Exception):
    """The suite could not be run; says why."""


class NotFetchedError(SuiteError):
    """The suite is not here and could not be fetched."""


def main() -> int:
    """Run the modes that were asked for, or all; 0: every test passed, or Go is not there; 3: it cannot be fetched."""
    arguments = sys.argv[1:]
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    more = arguments[len(own) + 1 :]
    modes = own or list(MODES)
    if unknown := set(modes) - set(MODES):
        say(f"{', '.join(sorted(unknown))}: there are only {' and '.join(MODES)}")
        return 2
    go = go_command()
    if go is None:
        say("skipped: the suite's runner is a Go program, and Go was not found (https://go.dev/dl)")
        return 0
    try:
        runner = installed(go)
        with tempfile.TemporaryDirectory() as folder:
            descriptors = described(go, Path(folder))
            results = {mode: run(runner, mode, descriptors, more) for mode in modes}
    except SuiteError as error:
        say(str(error))
        return 3 if isinstance(error, NotFetchedError) else 1
    sys.stdout.write(json.dumps({"suite": f"{MODULE} {VERSION}", **results}) + "\n")
    return 0 if all(result["ok"] for result in results.values()) else 1


def go_command() -> str | None:
    """Where Go is."""
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


def installed(go: str) -> Path:
    """The suite's runner, built where it is not there yet."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = caches / "agentic-gateway" / f"conformance-{VERSION}"
    runner = cache / "connectconformance"
    if not runner.exists():
        cache.mkdir(parents=True, exist_ok=True)
        say(f"building {MODULE} {VERSION} into {cache}")
        called([go, "install", f"{MODULE}/cmd/connectconformance@{VERSION}"], {"GOBIN": str(cache)})
    return runner


def described(go: str, folder: Path) -> Path:
    """The descriptors of the suite's messages, from the module's own proto files."""
    told = called([go, "mod", "download", "-json", f"{MODULE}@{VERSION}"], {})
    protos = Path(json.loads(told)["Dir"]) / "proto"
    files = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    target = folder / "suite.bin"
    known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["", f"-I{protos}", f"-I{known}", "--include_imports", f"--descriptor_set_out={target}", *files]
    if not files or protoc.main(arguments) != 0:
        raise SuiteError(f"the suite's protos in {protos} cannot be compiled")
    return target


def run(runner: Path, mode: str, descriptors: Path, more: list[str]) -> dict[str, object]:
    """One mode; its output is shown as it is where something failed."""
    command = [
        *(str(runner), "--mode", mode, "--conf", str(HERE / f"{mode}.yaml"), *more, "--"),
        *(sys.executable, str(HERE / f"{mode}.py"), str(descriptors)),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = finished(command, environment, RUN_S)
    said = done.stdout + done.stderr
    summary = _SUMMARY.search(said)
    if done.returncode or summary is None:
        sys.stdout.write(said)
    passed, failed = (int(number or 0) for number in summary.groups()) if summary else (0, 0)
    ok = done.returncode == 0 and passed > 0 and failed == 0
    say(f"{mode}: {passed} passed, {failed} failed{'' if ok else ': see above'}")
    return {"passed": passed, "failed": failed, "ok": ok}


def called(command: list[str], more: dict[str, str]) -> str:
    """What a command of Go's says on standard output; `NotFetchedError` when it fails."""
    done = finished(command, {**os.environ, **more}, BUILD_S)
    if done.returncode:
        raise NotFetchedError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def finished(command: list[str], environment: dict[str, str], limit_s: float) -> subprocess.CompletedProcess[str]:
    """A command that has ended; `SuiteError` when it does not in so many seconds."""
    try:
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise SuiteError(f"{' '.join(command)}: not done after {limit_s:g} s") from None


def say(sentence: str) -> None:
    """A line for who started this."""
    sys.stdout.write(f"conformance: {sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
