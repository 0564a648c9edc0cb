"""The image, built from the Containerfile and run under Cloud Run's limits: what is in it, and the calls that pass it.

GATEWAY_IMAGE_TESTS=1 switches these on: as root, with buildah, podman, runc and debootstrap (apt-get), two minutes.
"""

import asyncio
import importlib.util
import json
import re
import shutil
import stat
import sys
import tempfile
import tomllib
from pathlib import Path

import image_store
import pytest
from image_town import MEMORY_BYTES, NONROOT, visit

from agent.client.contract import FinishReason
from deploy.image.sbom import normalized
from localcloud.demo.hijack import hijacked_agent
from localcloud.demo.scenes import permitted_order, refused_order, repeated_key, streamed_answer, verified_record

WHY_NOT = image_store.missing()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "they run")

SIZE_MB_MAX = 125
VERSION = tomllib.loads((image_store.ROOT / "pyproject.toml").read_text())["project"]["version"]
SOURCE_ONLY_HASH = b"\x01\x00\x00\x00"
"""The flags of bytecode that is taken without a look at its source (PEP 552)."""
NEVER_INSIDE = re.compile(
    r"app/lib/(pip|setuptools|pkg_resources|wheel|rust_just|rich|localcloud|bench|deploy|tests|.*/tests)"
    r"|.*/(ensurepip|site-packages|dist-packages)"
)


@pytest.fixture(scope="module")
def store():
    folder = Path(tempfile.mkdtemp(prefix="gateway-image-"))
    store = image_store.Store(folder)
    try:
        store.build()
        yield store
    finally:
        store.remove()


@pytest.fixture(scope="module")
def contents(store):
    with store.contents() as folder:
        yield folder


@pytest.fixture
def tell(capsys):
    """Show a figure, whatever pytest keeps to itself."""

    def shown(line):
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    return shown


def files(contents):
    return [path for path in contents.rglob("*") if path.is_file() and not path.is_symlink()]


def megabytes(paths):
    return sum(path.stat().st_size for path in paths) / 1e6


def test_it_is_small_and_says_of_what(store, contents, tell):
    size = store.inspect()["Size"] / 1e6
    layers = ", ".join(f"{layer / 1e6:.1f}" for layer in store.layers())
    tell(f"image of {size:.1f} MB, layers of {layers} MB, {len(files(contents))} files; built in {store.build_s:.1f} s")
    tops = [contents / "usr/bin", contents / "usr/lib/python3.11", *(contents / "app/lib").iterdir()]
    tops.append(next((contents / "usr/lib").glob("*-linux-gnu")))
    parts = {str(top.relative_to(contents)): megabytes(files(top) if top.is_dir() else [top]) for top in tops}
    for name, part in sorted(parts.items(), key=lambda item: -item[1])[:12]:
        tell(f"  {name:<40}{part:>7.1f} MB")
    assert size <= SIZE_MB_MAX


def test_there_is_no_shell_no_installer_no_double_and_nothing_that_gives_rights(contents):
    found = [str(path.relative_to(contents)) for path in contents.rglob("*")]
    assert [name for name in found if NEVER_INSIDE.fullmatch(name)] == []
    assert [name for name in found if re.search("(^|/)s?bin/", name)] == ["app/bin/python", "usr/bin/python3.11"]
    rights = stat.S_ISUID | stat.S_ISGID
    assert [str(path) for path in files(contents) if path.stat().st_mode & rights] == []


def test_nothing_in_it_can_be_written_by_who_runs_it_but_two_folders(contents):
    writable = [
        str(path.relative_to(contents))
        for path in contents.rglob("*")
        if not path.is_symlink() and (path.stat().st_uid or path.stat().st_gid or path.stat().st_mode & 0o022)
    ]
    assert sorted(writable) == ["tmp", "var/lib/gateway"]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="bytecode of another Python cannot be judged by this one")
def test_every_module_has_bytecode_that_is_valid_for_ever(contents):
    wrong = []
    for source in contents.rglob("*.py"):
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
        head = compiled.read_bytes()[:16] if compiled.exists() else b""
        expected = importlib.util.MAGIC_NUMBER + SOURCE_ONLY_HASH + importlib.util.source_hash(source.read_bytes())
        if head != expected:
            wrong.append(str(source.relative_to(contents)))
    assert wrong == []


def test_it_says_how_it_is_run(store):
    told = store.inspect()
    config, labels = told["Config"], told["Config"]["Labels"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/app/bin/python", "-m"]
    assert config["Cmd"] == ["gateway", "serve"]
    assert config["StopSignal"] == "SIGTERM"
    assert labels["org.opencontainers.image.version"] == "0.0.test"
    assert labels["org.opencontainers.image.base.name"] == image_store.BASE
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_the_bill_of_materials_names_what_is_inside_and_nothing_else(contents, tell):
    bill = json.loads((contents / "app/sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    listed = {item["purl"]: item for item in bill["components"]}
    inside = {
        f"pkg:pypi/{normalized(name)}@{version}"
        for name, version in (path.name.removesuffix(".dist-info").split("-") for path in dist_infos(contents))
    } - {f"pkg:pypi/agentic-gateway@{VERSION}"}
    assert {purl for purl in listed if purl.startswith("pkg:pypi/")} == inside
    lock = (image_store.ROOT / "requirements/runtime.lock").read_text()
    for purl in inside:
        assert f"--hash=sha256:{listed[purl]['hashes'][0]['content']}" in lock
    debian = {purl.partition("@")[0] for purl in listed if purl.startswith("pkg:deb/")}
    status = {f"pkg:deb/debian/{path.name}" for path in (contents / "var/lib/dpkg/status.d").iterdir()}
    assert {name.replace("%2B", "+") for name in debian} == status
    assert {"pkg:deb/debian/libc6", "pkg:deb/debian/libssl3"} <= debian
    tell(f"{len(inside)} Python distributions, {len(debian)} Debian packages")


def dist_infos(contents):
    return (contents / "app/lib").glob("*.dist-info")


def test_nothing_is_inside_that_the_gateway_does_not_lead_to(contents):
    bill = json.loads((contents / "app/sbom.cdx.json").read_text())
    needs = {item["ref"]: item["dependsOn"] for item in bill["dependencies"]}
    reached, to_do = set(), [bill["metadata"]["component"]["bom-ref"]]
    while to_do:
        reference = to_do.pop()
        if reference not in reached:
            reached.add(reference)
            to_do += needs.get(reference, [])
    assert {item["bom-ref"] for item in bill["components"]} - reached == set()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to judge the folder of authorities")
def test_every_authority_is_found_by_its_hash(contents):
    folder = contents / "etc/ssl/certs"
    authorities = sorted(folder.iterdir())
    verify = ["openssl", "verify", "-no-CAfile", "-no-CAstore", "-CApath", folder, "-no_check_time"]
    judged = image_store.run(*verify, *authorities, check=False).stdout
    found = {Path(line.removesuffix(": OK")).stem for line in judged.splitlines() if line.endswith(": OK")}
    assert len(authorities) > 100
    # By name: of two authorities with one name, openssl judges both by the first.
    assert found == {path.stem for path in authorities}


COMMANDS = [
    (("gateway", "--version"), 0, f"gateway {VERSION}"),
    (("gateway", "policy", "test", "/app/lib/policies"), 0, "tests pass"),
    (("gateway", "serve"), 2, "/etc/gateway/gateway.toml cannot be used"),
    (("gateway", "demo"), 2, "No such command 'demo'"),
    (("agent",), 2, "GATEWAY_URL: write the gateway's URL"),
    (("pip",), 1, "No module named pip"),
]


@pytest.mark.parametrize("command, code, sentence", COMMANDS, ids=[" ".join(command) for command, _, _ in COMMANDS])
def test_its_commands_work_and_others_say_that_they_are_not_there(store, command, code, sentence):
    done = store.finished(*command)
    assert sentence in done.stdout + done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_there_is_nothing_to_run_but_python(store):
    done = store.finished(options=("--entrypoint", "/bin/sh"))
    assert done.returncode != 0
    assert "no such file or directory" in done.stderr


async def test_the_demonstrations_calls_pass_through_it_under_cloud_runs_limits(store, tmp_path, tell):
    async with visit(store, tmp_path) as here:
        tell(f"process start to SERVING {here.start_s:.2f} s, `podman run` to SERVING {here.run_s:.2f} s")
        assert_confined(here.gateway)
        assert_confined(here.agent)
        scenes = [
            await streamed_answer(here.eyes),
            await permitted_order(here.eyes),
            await refused_order(here.eyes),
            await repeated_key(here.eyes, here.client),
            await hijacked_agent(here.eyes, here.client, edge_strips=False),
        ]
        for name, one in (("gateway", here.gateway), ("agent", here.agent)):
            tell(f"{name}: resident {one.resident_mb('VmRSS'):.1f} MB, at most {one.resident_mb('VmHWM'):.1f} MB")
        assert (await here.agent.stop())[0] == 0
        code, _ = await here.gateway.stop()
        scenes.append(await verified_record(here.eyes, closed=True))
    missed = [f"{scene.name}: {seen}" for scene in scenes for seen in scene.seen if not seen.ok]
    assert missed == []
    assert all(scene.seen for scene in scenes)
    assert code == 0


async def test_sigterm_in_the_middle_of_a_stream_lets_it_end_and_closes_the_record(store, tmp_path, tell):
    async with visit(store, tmp_path) as here:
        texts, finish, stopping = 0, None, None
        async with asyncio.TaskGroup() as group:
            async for event in here.paced(deltas=30, interval_ms=50):
                texts += event.text is not None
                finish = event.finish or finish
                if stopping is None and texts == 2:
                    stopping = group.create_task(here.gateway.stop())
        code, seconds = stopping.result()
        tell(f"SIGTERM in the middle of a stream: all {texts} pieces came, exit {code} after {seconds:.2f} s")
        verified = store.finished(
            "gateway", "audit", "verify", "--json", "/var/lib/gateway/gateway.db", options=here.volume
        )
    assert (code, texts, finish.reason) == (0, 30, FinishReason.STOP)
    assert seconds < 10
    report = json.loads(verified.stdout)
    assert verified.returncode == 0
    assert report["boots"][0]["closed"]
    assert report["open_count"] == 0


def assert_confined(one):
    """It is process 1 of its container, has no rights and can get none, and the limits are real."""
    assert one.status("NSpid")[-1] == "1"
    assert set(one.status("Uid") + one.status("Gid")) == {str(NONROOT)}
    assert one.status("CapEff") == one.status("CapBnd") == ["0" * 16]
    assert one.status("NoNewPrivs") == ["1"]
    mounts = [line.split() for line in Path(f"/proc/{one.pid}/mountinfo").read_text().splitlines()]
    root = next(fields for fields in mounts if fields[4] == "/")
    assert "ro" in root[5].split(",")
    assert memory_limit(one.pid) == MEMORY_BYTES


def memory_limit(pid):
    """Of the process's control group, in version 1 and 2."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return int(Path(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes").read_text())
        if controllers == "" and (limit := Path(f"/sys/fs/cgroup{path}/memory.max")).exists():
            return int(limit.read_text())
    raise AssertionError("no memory control group")
