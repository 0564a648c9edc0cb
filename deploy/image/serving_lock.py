"""Writes the part of requirements/runtime.lock that an image needs: what serves calls, or what builds the project.

    python serving_lock.py serving|building < runtime.lock

The lock also holds what a clone needs. An entry that is left out here and yet needed by another stops the build: pip
installs with --require-hashes, which refuses a dependency that has no entry.
"""

import re
import sys
from collections.abc import Iterator
from typing import Final

BUILDING: Final = frozenset({"setuptools"})
"""What installs this project; in the build stage only."""
CLONE_ONLY: Final = {
    "rust-just": "runs the recipes of a clone",
    "wheel": "lets an installer that is older than setuptools 70.1 install a clone",
    "packaging": "is needed by wheel alone",
    "rich": "prints the demonstration, which is for clones",
    "markdown-it-py": "is needed by rich alone",
    "mdurl": "is needed by rich alone",
    "pygments": "is needed by rich alone",
}

_NAME: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==")


def entries(lock: str) -> Iterator[tuple[str, str]]:
    """Name and text of every entry: its first line and the indented lines of hashes. ValueError for anything else."""
    for text in re.split(r"\n(?=\S)", lock.strip("\n")):
        found = _NAME.match(text)
        if found is None:
            raise ValueError(f"this is no pinned requirement: {text.splitlines()[0]!r}. Write the lock anew: just lock")
        if "--hash=sha256:" not in text:
            raise ValueError(f"{found[1]} has no hash. Write the lock anew: just lock")
        yield found[1].lower(), text + "\n"


def selected(lock: str, wanted: str) -> str:
    """The entries for `serving` or `building`. ValueError for a name that is left out here and not in the lock."""
    known = dict(entries(lock))
    if stale := sorted({*CLONE_ONLY, *BUILDING} - set(known)):
        raise ValueError(f"the lock has no {', '.join(stale)}: take it out of serving_lock.py")
    if wanted == "building":
        return "".join(known[name] for name in sorted(BUILDING))
    return "".join(text for name, text in known.items() if name not in {*CLONE_ONLY, *BUILDING})


def main(arguments: list[str]) -> int:
    """Filter standard input; exit code 2 with a sentence for what cannot be used."""
    if arguments not in (["serving"], ["building"]):
        sys.stderr.write("serving_lock: write serving or building, and give the lock on standard input\n")
        return 2
    try:
        sys.stdout.write(selected(sys.stdin.read(), arguments[0]))
    except ValueError as error:
        sys.stderr.write(f"serving_lock: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
