"""The policy set that the gateway ships: what traders and readers may do, and a start for rules of your own.

`*.cedar` are the rules, `tests.toml` says what they are meant to do; a set whose tests fail is not loaded.
"""

from importlib.resources import files
from pathlib import Path


def folder() -> Path:
    """Where the rules and their tests are. The package is installed as plain files, never as an archive."""
    return Path(str(files(__name__)))
