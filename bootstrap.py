"""Makes the environment that every recipe runs in, on a machine that has only Python >= 3.11, pip and git.

    python3 bootstrap.py [dev]

Without an argument: what the gateway needs to run, and `just`. With `dev`: the tests' and checks' tools too. The
versions and hashes stand in requirements/*.lock; an environment that fits its locks is left alone.
"""

import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"


def main() -> int:
    """Bring the environment up to date; say what takes time."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever starts this may have an older one
        print(f"bootstrap: Python >= 3.11 is needed; this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    sets = ["runtime", "dev"] if sys.argv[1:] == ["dev"] else ["runtime"]
    if not PYTHON.exists():
        venv.EnvBuilder(with_pip=False, symlinks=True).create(ENVIRONMENT)
    for name in sets:
        lock = ROOT / "requirements" / f"{name}.lock"
        fingerprint = hashlib.sha256(lock.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
        stamp = ENVIRONMENT / f"{name}.stamp"
        if stamp.exists() and stamp.read_text() == fingerprint:
            continue
        start = time.monotonic()
        print(f"bootstrap: installing requirements/{name}.lock into .venv ...", file=sys.stderr, flush=True)
        _install("--require-hashes", "-r", str(lock))
        if name == "runtime":
            _install("--no-deps", "--no-build-isolation", "-e", str(ROOT))
        stamp.write_text(fingerprint)
        print(f"bootstrap: done in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return 0


def _install(*arguments: str) -> None:
    """Install with this Python's pip into the environment, which needs no pip of its own."""
    command = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet", *arguments]
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run(command, check=False, env={**os.environ, **quiet})  # noqa: TID251 - no gateway here
    if done.returncode:
        print("bootstrap: pip failed; see above. Delete .venv to begin afresh.", file=sys.stderr)
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    raise SystemExit(main())
