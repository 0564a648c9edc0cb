"""Writes the image's bill of materials: CycloneDX 1.5, made of what was really installed.

    python sbom.py --name NAME --packages FOLDER --report REPORT --status FOLDER

Python distributions come from their metadata in the installed folder, their hashes from pip's installation report, all
of which pip checked against the lock; Debian packages come from dpkg's status files. The same contents give the same
bytes: there is no time in it, and its serial number is derived from the rest.
"""

import argparse
import json
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from email.parser import HeaderParser
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

FORM: Final = "CycloneDX"
VERSION: Final = "1.5"
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^]]*)\])?")
_EXTRA: Final = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")

Json = dict[str, object]


def normalized(name: str) -> str:
    """A distribution's name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sha256s(report: Mapping[str, object]) -> dict[str, str]:
    """The hash of every archive that pip installed, by distribution. ValueError where one is missing."""
    found: dict[str, str] = {}
    items = report.get("install")
    for item in items if isinstance(items, list) else []:
        name = normalized(item["metadata"]["name"])
        archive = item["download_info"].get("archive_info", {})
        sha256 = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").removeprefix("sha256=")
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError(f"pip tells no sha256 of {name}: it was not installed from an archive")
        found[name] = sha256
    return found


def python_component(distribution: Distribution, sha256: str) -> Json:
    """A distribution as a component."""
    name = normalized(distribution.metadata["Name"])
    purl = f"pkg:pypi/{quote(name)}@{quote(distribution.version, safe='')}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": distribution.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        **_licenses(distribution),
    }


def _licenses(distribution: Distribution) -> Json:
    metadata = distribution.metadata
    if expressions := metadata.get_all("License-Expression"):
        return {"licenses": [{"expression": expressions[0]}]}
    classified = [
        value.rpartition(" :: ")[2]
        for value in metadata.get_all("Classifier") or []
        if value.startswith("License ::") and value.count(" :: ") > 1
    ]
    named = classified or [text for text in metadata.get_all("License") or [] if text and "\n" not in text]
    return {"licenses": [{"license": {"name": name}} for name in named]} if named else {}


def debian_components(status: Path) -> Iterator[Json]:
    """The packages of which dpkg's status is kept. The image has a part of each only, so they have no hash."""
    for file in sorted(status.iterdir()):
        fields = HeaderParser().parsestr(file.read_text())
        name, version, arch = fields["Package"], fields["Version"], fields["Architecture"]
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={arch}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def python_itself() -> Json:
    """The interpreter; where Debian packaged it, its packages stand in the list too."""
    version = platform.python_version()
    purl = f"pkg:generic/python@{version}"
    cpe = f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*"
    return {"type": "platform", "bom-ref": purl, "name": "python", "version": version, "purl": purl, "cpe": cpe}


def extras(everything: Iterable[Distribution]) -> set[tuple[str, str]]:
    """Which extra of which distribution is asked for by another: ("google-auth", "requests")."""
    asked = set()
    for distribution in everything:
        for name, wanted, _ in _requirements(distribution):
            asked |= {(name, normalized(extra)) for extra in wanted.split(",") if extra.strip()}
    return asked


def needs(distribution: Distribution, known: Mapping[str, str], asked: set[tuple[str, str]]) -> list[str]:
    """The references of what a distribution needs, of what is there, with the extras that are asked for."""
    own, found = normalized(distribution.metadata["Name"]), set()
    for name, _, marker in _requirements(distribution):
        extra = _EXTRA.search(marker)
        if name in known and (extra is None or (own, normalized(extra[1])) in asked):
            found.add(known[name])
    return sorted(found)


def _requirements(distribution: Distribution) -> Iterator[tuple[str, str, str]]:
    """Name, extras and marker of each requirement."""
    for line in distribution.requires or []:
        if match := _REQUIREMENT.match(line.strip()):
            yield normalized(match[1]), match[2] or "", line.partition(";")[2]


def document(name: str, folder: Path, report: Mapping[str, object], status: Path) -> Json:
    """The whole bill. ValueError if a distribution is there that pip did not install from the lock, or the reverse."""
    hashes = sha256s(report)
    installed = {normalized(item.metadata["Name"]): item for item in distributions(path=[str(folder)])}
    own = installed.pop(normalized(name), None)
    if own is None or set(installed) != set(hashes):
        differing = sorted(set(installed) ^ set(hashes)) or [name]
        raise ValueError(f"installed and reported are not the same: {', '.join(differing)}")
    components = [python_component(installed[key], hashes[key]) for key in sorted(installed)]
    references = {str(item["name"]): str(item["bom-ref"]) for item in components}
    root = f"pkg:generic/{name}@{own.version}"
    rest = [python_itself(), *debian_components(status)]
    asked = extras([own, *installed.values()])
    graph = [
        {"ref": references[key], "dependsOn": needs(installed[key], references, asked)} for key in sorted(installed)
    ]
    roots = sorted({*needs(own, references, asked), *(str(item["bom-ref"]) for item in rest)})
    body: Json = {
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": name,
                "version": own.version,
                "purl": root,
                **_licenses(own),
            }
        },
        "components": [*components, *rest],
        "dependencies": [{"ref": root, "dependsOn": roots}, *graph],
    }
    serial = uuid5(NAMESPACE_URL, json.dumps(body, sort_keys=True))
    return {"bomFormat": FORM, "specVersion": VERSION, "serialNumber": f"urn:uuid:{serial}", "version": 1, **body}


def main() -> int:
    """Write the bill to standard output; exit code 2 with a sentence if it would not be true."""
    parser = argparse.ArgumentParser(prog="sbom", description=__doc__, allow_abbrev=False)
    parser.add_argument("--name", required=True, help="the distribution that the image is for")
    parser.add_argument("--packages", type=Path, required=True, help="where distributions are installed")
    parser.add_argument("--report", type=Path, required=True, help="what pip wrote with --report")
    parser.add_argument("--status", type=Path, required=True, help="dpkg's status files")
    asked = parser.parse_args()
    try:
        bill = document(asked.name, asked.packages, json.loads(asked.report.read_bytes()), asked.status)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"sbom: {error}\n")
        return 2
    sys.stdout.write(json.dumps(bill, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
