"""Writes requirements/*.lock from pyproject.toml: exact versions with hashes, for every supported Python.

`runtime.lock` is what a gateway needs, with the build tool and `just`; `dev.lock` adds the tests' and checks' tools
and both agree.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = ["rust-just>=1.40", "setuptools>=77", "wheel"]


def main() -> None:
    """Resolve both sets."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    runtime = project["project"]["dependencies"] + TOOLS
    dev = runtime + project["dependency-groups"]["dev"]
    # The larger set first: resolved alone, the smaller one would take versions that the larger cannot live with.
    _lock("dev", dev)
    _lock("runtime", runtime, "--constraint", str(HERE / "dev.lock"))


def _lock(name: str, requirements: list[str], *more: str) -> None:
    target = HERE / f"{name}.lock"
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--universal", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--python-version", "3.11", "--output-file", str(target), "--quiet"]
    subprocess.run([*command, "--upgrade", *more], input="\n".join(requirements).encode(), check=True)
    print(f"{target.name}: {target.read_text().count('==')} packages")


if __name__ == "__main__":
    main()
