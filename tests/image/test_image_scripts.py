"""The build's own scripts: what of the lock goes into an image, and the bill of materials."""

import importlib.util
import json
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from deploy.image import sbom, serving_lock, stripped

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements" / "runtime.lock").read_text()
HASH = "a" * 64


def names(lock):
    return [name for name, _ in serving_lock.entries(lock)]


def test_every_entry_of_the_lock_is_served_built_with_or_left_out_for_a_reason():
    served, built = names(serving_lock.selected(LOCK, "serving")), names(serving_lock.selected(LOCK, "building"))
    assert sorted([*served, *built, *serving_lock.CLONE_ONLY]) == sorted(names(LOCK))
    assert built == ["setuptools"]
    assert {"aiohttp", "cedarpy", "cryptography", "msgspec", "click"} <= set(served)


def test_entries_are_taken_over_to_the_letter():
    served = serving_lock.selected(LOCK, "serving")
    assert all(text in LOCK for _, text in serving_lock.entries(served))
    assert "cffi==" in served
    assert "; platform_python_implementation" in served


@pytest.mark.parametrize(
    "lock, sentence",
    [
        ("click>=8\n", "this is no pinned requirement: 'click>=8'"),
        ("-r other.txt\n", "this is no pinned requirement: '-r other.txt'"),
        ("click==8.5.1\n", "click has no hash"),
        (f"click==8.5.1 --hash=sha256:{HASH}\n", "the lock has no markdown-it-py"),
    ],
)
def test_a_lock_that_cannot_be_used_is_refused_with_a_sentence(lock, sentence):
    with pytest.raises(ValueError, match=r"the lock|pinned|no hash") as caught:
        serving_lock.selected(lock, "serving")
    assert sentence in str(caught.value)


def test_the_filter_is_a_command_that_ends_with_2_and_a_sentence():
    script = ROOT / "deploy" / "image" / "serving_lock.py"
    done = subprocess.run([sys.executable, script, "serving"], input="x\n", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "serving_lock: this is no pinned requirement: 'x'. Write the lock anew: just lock\n"


def modules(folder):
    """Extension modules as their wheels brought them, in a folder of their own."""
    for name in ("msgspec", "multidict", "asyncpg"):
        shutil.copytree(Path(importlib.util.find_spec(name).origin).parent, folder / name)
    return sorted(folder.rglob("*.so"))


def test_an_extension_module_without_its_symbols_still_loads(tmp_path):
    found = modules(tmp_path)
    before = sum(path.stat().st_size for path in found)
    assert stripped.main([str(tmp_path)]) == 0
    assert sum(path.stat().st_size for path in found) < before
    code = (
        "import asyncpg.protocol.protocol as p, msgspec, multidict; print(p.__file__);"
        "print(msgspec.json.decode(b'[1]'), multidict.CIMultiDict(A='b')['a'], multidict._multidict.__file__)"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(tmp_path)) == 2
    assert "[1] b " in done.stdout


def test_to_strip_twice_changes_nothing(tmp_path):
    library = stripped.stripped(modules(tmp_path)[0].read_bytes())
    assert stripped.stripped(library) == library


@pytest.mark.parametrize(
    "kept, sentence", [(3, "no 64-bit ELF"), (100, "no shared library"), (20_000, "end is missing")]
)
def test_what_is_no_whole_library_stops_the_build(tmp_path, capsys, kept, sentence):
    library = modules(tmp_path)[0]
    library.write_bytes(library.read_bytes()[:kept])
    assert stripped.main([str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err


def installed(folder, name, version, *lines):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    metadata = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines]
    (info / "METADATA").write_text("\n".join(metadata) + "\n\nA text.\n")


def reported(*names, sha256=HASH):
    archive = {"hash": f"sha256={sha256}", "hashes": {"sha256": sha256}}
    return {"install": [{"metadata": {"name": name}, "download_info": {"archive_info": archive}} for name in names]}


@pytest.fixture
def place(tmp_path):
    lib, status = tmp_path / "lib", tmp_path / "status"
    installed(
        lib,
        "Own_App",
        "1.0",
        "License-Expression: Apache-2.0",
        'Requires-Dist: google-auth[requests]>=2.40; python_version >= "3.11"',
    )
    installed(
        lib,
        "google_auth",
        "2.62.2",
        "Classifier: License :: OSI Approved :: Apache Software License",
        "Requires-Dist: rsa>=4",
        'Requires-Dist: requests<3,>=2; extra == "requests"',
        'Requires-Dist: aiohttp; extra == "aiohttp"',
    )
    installed(lib, "requests", "2.34.2", "License: Apache-2.0")
    installed(lib, "aiohttp", "3.14.5", "License: Apache-2.0")
    status.mkdir()
    (status / "libc6").write_text("Package: libc6\nVersion: 2.36-9+deb12u14\nArchitecture: amd64\nStatus: x\n")
    return lib, status


def bill(place, *names):
    return sbom.document("own-app", place[0], reported(*names), place[1])


def test_the_bill_names_everything_with_version_hash_licence_and_where_it_leads(place):
    told = bill(place, "google-auth", "requests", "aiohttp")
    assert (told["bomFormat"], told["specVersion"], told["version"]) == ("CycloneDX", "1.5", 1)
    by_name = {item["name"]: item for item in told["components"]}
    assert by_name["google-auth"]["purl"] == "pkg:pypi/google-auth@2.62.2"
    assert by_name["google-auth"]["hashes"] == [{"alg": "SHA-256", "content": HASH}]
    assert by_name["google-auth"]["licenses"] == [{"license": {"name": "Apache Software License"}}]
    assert by_name["libc6"]["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64"
    assert by_name["python"]["type"] == "platform"
    component = told["metadata"]["component"]
    assert (component["name"], component["version"]) == ("own-app", "1.0")
    assert component["licenses"] == [{"expression": "Apache-2.0"}]


def test_extras_lead_only_to_what_was_asked_for(place):
    graph = {
        item["ref"]: item["dependsOn"] for item in bill(place, "google-auth", "requests", "aiohttp")["dependencies"]
    }
    assert graph["pkg:pypi/google-auth@2.62.2"] == ["pkg:pypi/requests@2.34.2"]
    assert "pkg:pypi/google-auth@2.62.2" in graph["pkg:generic/own-app@1.0"]
    assert graph["pkg:pypi/aiohttp@3.14.5"] == []


def test_references_are_unique_and_the_same_contents_give_the_same_bytes(place):
    first, second = (json.dumps(bill(place, "google-auth", "requests", "aiohttp")) for _ in range(2))
    assert first == second
    references = [item["bom-ref"] for item in json.loads(first)["components"]]
    assert len(set(references)) == len(references)


@pytest.mark.parametrize(
    "names, sentence",
    [
        (("google-auth", "requests"), "not the same: aiohttp"),
        (("google-auth", "requests", "aiohttp", "other"), "not the same: other"),
    ],
)
def test_what_is_installed_and_what_pip_reports_must_agree(place, names, sentence):
    with pytest.raises(ValueError, match=sentence):
        bill(place, *names)


def test_something_that_came_without_a_hash_is_refused():
    report = {"install": [{"metadata": {"name": "x"}, "download_info": {"dir_info": {}}}]}
    with pytest.raises(ValueError, match="no sha256 of x"):
        sbom.sha256s(report)


def test_the_metadata_of_this_environment_can_be_read():
    for distribution in distributions():
        component = sbom.python_component(distribution, HASH)
        assert component["version"]
