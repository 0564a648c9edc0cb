"""A generated package that holds every field type, for what the contract does not use yet."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
GENERATE = HERE.parents[2] / "protos" / "generate.py"


@pytest.fixture(scope="session")
def probe(tmp_path_factory):
    """The classes and functions generated from the protos beside this file."""
    folder = tmp_path_factory.mktemp("probe")
    command = [sys.executable, GENERATE, "--protos", HERE, "--out", folder / "probe_types"]
    subprocess.run(command, check=True, capture_output=True)
    sys.path.insert(0, str(folder))
    try:
        found: dict[str, object] = {}
        for module in ("other.v1", "other.v1.codec", "probe.v1", "probe.v1.services", "probe.v1.codec", "wire_format"):
            found |= vars(importlib.import_module(f"probe_types.{module}"))
    finally:
        sys.path.remove(str(folder))
    return SimpleNamespace(**found, folder=folder / "probe_types")
