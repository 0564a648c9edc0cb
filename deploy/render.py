"""The one substitution: `${NAME}` in a manifest becomes a value.

`python -m deploy.render FILE NAME=VALUE ...` prints the result. Strict: a name without a value and a value without a
name are refused, and so is a value that could be more than one scalar, except for ${TRAFFIC}, which is a list that
`deploy` writes.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Final

from deploy.faults import DeployError
from deploy.place import Place
from deploy.shell import say

ALL_TO_LATEST: Final = "[{latestRevision: true, percent: 100}]"

_VALUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
_LIST: Final = re.compile(r"\[[A-Za-z0-9 {}:,-]+\]")


def render(text: str, values: Mapping[str, str]) -> str:
    """A manifest with its values. Raises DeployError for names too many or too few, or a value that will not do."""
    template = Template(text)
    if not template.is_valid():
        raise DeployError("a $ in the manifest begins no ${NAME}: write $$ for a dollar sign")
    wanted = set(template.get_identifiers())
    if missing := sorted(wanted - values.keys()):
        raise DeployError(f"the manifest asks for {', '.join(missing)}: give NAME=VALUE")
    if unused := sorted(values.keys() - wanted):
        raise DeployError(f"the manifest does not ask for {', '.join(unused)}: leave it out")
    for name, value in values.items():
        form = _LIST if name == "TRAFFIC" else _VALUE
        if not form.fullmatch(value):
            raise DeployError(f"{name}: {value!r} cannot stand in a manifest as one value")
    return template.substitute(values)


def names(text: str) -> frozenset[str]:
    """The names that a manifest asks for."""
    return frozenset(Template(text).get_identifiers())


def filled_in(path: Path, place: Place, **values: str) -> str:
    """A manifest with what is known of its place and the values given; traffic goes to the latest revision by default.

    Raises DeployError as `render` does; what a manifest does not ask for is left out.
    """
    text = read(path)
    known = {"PROJECT": place.project, "REGION": place.region, "TRAFFIC": ALL_TO_LATEST, **values}
    return render(text, {name: value for name, value in known.items() if name in names(text)})


def read(path: Path) -> str:
    """A manifest's text. Raises DeployError for a file that cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{path} cannot be read: {error}") from error


def main(words: Sequence[str] | None = None) -> int:
    """Print a rendered manifest; ${TRAFFIC} is all for the latest revision unless it is given."""
    parser = argparse.ArgumentParser(prog="python -m deploy.render", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("values", nargs="*", metavar="NAME=VALUE")
    given = parser.parse_args(words)
    try:
        text = read(given.manifest)
        values = dict(map(_pair, given.values))
        if "TRAFFIC" in names(text):
            values.setdefault("TRAFFIC", ALL_TO_LATEST)
        say(render(text, values).rstrip("\n"))
    except DeployError as error:
        parser.exit(2, f"render: {error}\n")
    return 0


def _pair(written: str) -> tuple[str, str]:
    name, separator, value = written.partition("=")
    if not separator:
        raise DeployError(f"{written!r} gives no value: write NAME=VALUE")
    return name, value


if __name__ == "__main__":
    raise SystemExit(main())
