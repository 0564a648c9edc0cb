"""`gateway serve` as the process that Cloud Run starts and stops: what it loads, how it ends, why it does not begin."""

import asyncio
import importlib.util
import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import grpc.aio
import pytest
from gateway_town import gateway, visited
from wire_clients import eventually, stub

from gateway.ledger.sqlite_files import FileLock
from generated.agentic.gateway.v1 import OperationState
from generated.grpc.health.v1 import HealthCheckRequest, HealthCheckResponseServingStatus

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "gateway.example.toml"

SERVED = {
    *("gateway", "generated"),
    # aiohttp and what it stands on.
    *("aiohappyeyeballs", "aiohttp", "aiosignal", "attr", "frozenlist", "idna", "multidict", "propcache", "yarl"),
    # grpclib and what it stands on, messages, and the rest that every call needs.
    *("betterproto2", "grpclib", "h2", "hpack", "hyperframe"),
    *("_cffi_backend", "cedarpy", "cryptography", "jsonschema_rs", "msgspec"),
}
"""Every package beside Python's own that a gateway with its ledger in SQLite loads to serve: no more, no fewer."""

IF_THERE = {"aiodns", "backports", "brotli", "brotlicffi", "pydantic", "typing_extensions"}
"""Taken by the packages above where something else has brought them, or under some versions of Python."""

OF_THE_CLONE = {"__editable___agentic_gateway_0_1_0_finder", "_distutils_hack", "sitecustomize", "usercustomize"}
"""How a clone and its environment are joined; an image has none of it."""

NEVER_SERVED = {
    # Not the gateway's.
    *("agent", "bench", "localcloud", "policies", "tests"),
    # Commands of people, and tools of developers.
    *("click", "rich", "hypothesis", "pytest", "_pytest", "unittest", "pip", "setuptools"),
    # Vendors' clients, and what they bring.
    *("google.auth", "google.cloud", "google.genai", "google.protobuf", "google.oauth2", "alpaca", "grpc", "vertexai"),
    # (`pydantic` itself is asked for by betterproto2 and not found, which this log tells like an import.)
    # Tools of services that this town does not have.
    *("gateway.tools.http", "gateway.tools.mcp"),
    *("requests", "urllib3", "pydantic.version", "pydantic_core", "pandas", "numpy"),
    *("gateway.commands.line", "gateway.commands.audit", "gateway.commands.policy", "gateway.commands.check"),
}


def imported(log):
    """The modules that `python -X importtime` tells of."""
    lines = log.read_text(errors="replace").splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


async def test_serving_calls_imports_nothing_that_serving_does_not_need(tmp_path):
    async with visited(tmp_path, PYTHONPROFILEIMPORTTIME="1") as visitor:
        health = await stub(visitor.channel, "Check")(HealthCheckRequest(), timeout=5)
        assert health.status == HealthCheckResponseServingStatus.SERVING
        assert [event async for event in visitor.chat("@pace deltas=3 interval_ms=1\nHello")]
        operation = await visitor.execute()
        assert operation.state == OperationState.SUCCEEDED
        with pytest.raises(grpc.aio.AioRpcError):
            await visitor.execute(arguments="{}", key="key-2")
        assert await visitor.town.processes.stop(visitor.town.gateway) == 0
        modules = imported(visitor.town.gateway.log)
    assert {"gateway.assembly.life", "grpclib.server", "aiohttp", "cedarpy"} <= modules
    tops = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - {"imported package"}
    there = {name for name in tops if name not in OF_THE_CLONE and importlib.util.find_spec(name)}
    assert sorted(there - IF_THERE) == sorted(SERVED)
    packages = {".".join(name.split(".")[:size]) for name in modules for size in (1, 2, 3)}
    assert sorted(packages & NEVER_SERVED) == []


async def test_a_call_that_runs_at_sigterm_ends_well_and_the_record_is_closed(tmp_path):
    async with visited(tmp_path) as visitor:
        await visitor.slow_orders(400)
        call = asyncio.ensure_future(visitor.execute())
        await visitor.order_under_way()
        code = await visitor.town.processes.stop(visitor.town.gateway, signal.SIGTERM)
        operation = await call
        ledger = visitor.town.ledger
        events = [json.loads(line)["message"] for line in visitor.town.gateway.log.read_text().splitlines()]
    assert code == 0
    assert operation.state == OperationState.SUCCEEDED
    verified, told = await gateway("audit", "verify", "--json", ledger)
    report = json.loads(told)
    assert verified == 0
    assert report["boots"][0]["closed"]
    assert report["kinds"] == {"boot": 1, "close": 1, "intent": 1, "outcome": 1}
    assert report["open_count"] == 0
    order = ["server.started", "server.draining", "call.settled", "call.ended", "server.drained", "server.stopped"]
    assert events == order
    assert operation.outcome.sequence == 2


async def test_a_stream_that_runs_at_sigint_is_told_to_its_end(tmp_path):
    async with visited(tmp_path) as visitor:
        texts = []
        async for event in visitor.chat("@pace deltas=20 interval_ms=10 size=4\nHello"):
            if event.text is not None:
                texts.append(event.text.text)
            if len(texts) == 1:
                visitor.town.gateway.process.send_signal(signal.SIGINT)
        assert event.finish is not None
        assert len(texts) == 20
        assert await visitor.town.processes.stop(visitor.town.gateway) == 0
        code, told = await gateway("audit", "verify", "--json", visitor.town.ledger)
    assert code == 0
    assert json.loads(told)["boots"][0]["closed"]


async def test_a_record_that_cannot_be_closed_is_exit_code_1(tmp_path):
    async with visited(tmp_path) as visitor:
        with closing(sqlite3.connect(visitor.town.ledger, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            code = await visitor.town.processes.stop(visitor.town.gateway)
        last = json.loads(visitor.town.gateway.log.read_text().splitlines()[-1])
    assert code == 1
    assert (last["severity"], last["message"]) == ("ERROR", "ledger.close_failed")
    assert "the ledger cannot write: database is locked" in last["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit(2) to make a running process's files full")
async def test_a_ledger_that_takes_no_more_records_refuses_effects_and_is_not_ready_until_it_takes_them_again(tmp_path):
    """Attack row 47: its files may not grow any more, as on a full disk."""
    async with visited(tmp_path) as visitor:
        assert (await visitor.execute(key="before")).state == OperationState.SUCCEEDED
        pid = visitor.town.gateway.process.pid
        health = stub(visitor.channel, "Watch")(HealthCheckRequest(), timeout=60)
        assert (await health.read()).status.name == "SERVING"
        full = os.stat(f"{visitor.town.ledger}-wal").st_size  # noqa: PTH116 - it does not wait
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        refused = []
        for key in ("during-1", "during-2"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await visitor.execute(key=key)
            refused.append((caught.value.code(), caught.value.details()))
        assert {code for code, _ in refused} == {grpc.StatusCode.UNAVAILABLE}
        assert "nothing can be recorded now" in refused[0][1]
        assert (await health.read()).status.name == "NOT_SERVING"
        live = await stub(visitor.channel, "Check")(HealthCheckRequest(service="live"), timeout=5)
        assert live.status.name == "SERVING"
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert (await health.read()).status.name == "SERVING"
        health.cancel()
        assert (await visitor.execute(key="during-1")).state == OperationState.SUCCEEDED
        assert len(await visitor.orders()) == 2
        assert await visitor.town.processes.stop(visitor.town.gateway) == 0
        events = [json.loads(line)["message"] for line in visitor.town.gateway.log.read_text().splitlines()]
    assert events.index("ledger.unwritable") < events.index("ledger.writable_again")
    code, told = await gateway("audit", "verify", "--json", visitor.town.ledger)
    assert code == 0
    assert json.loads(told)["kinds"]["heartbeat"] >= 1


SECRETS = {"EXCHANGE_KEY_ID": "PK1", "EXCHANGE_SECRET_KEY": "very-secret-value", "EXCHANGE_ORDER_KEY": "k" * 32}


def serve(*arguments, **variables):
    """Run `gateway serve` to its end: exit code, standard output, standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "K_", "PORT"))}
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=kept | {"GATEWAY_HOST": "127.0.0.1", "GCE_METADATA_HOST": "127.0.0.1:9"} | variables,
    )
    return done.returncode, done.stdout, done.stderr


def example(folder, **replaced):
    """The example with nobody at Google's place; `replaced` are parts of its text and what stands there instead."""
    text = EXAMPLE.read_text().replace('path = "../policies"', f'path = "{ROOT / "policies"}"')
    text = text.replace("# certs_url", 'certs_url = "http://127.0.0.1:9/certs"\n#')
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "arguments, variables, told",
    [
        (
            (),
            {},
            "gateway: {config} cannot be used:\n  venues.alpaca-paper.key_id: set the environment variable EXCHANGE",
        ),
        (
            ("--config", "/nowhere.toml"),
            {},
            "gateway: /nowhere.toml cannot be used:\n  it cannot be read: No such file",
        ),
        (("--config", "/"), {}, "gateway: / cannot be used:\n  it cannot be read: Is a directory\n"),
        ((), {**SECRETS, "PORT": "x"}, "gateway: {config} cannot be used:\n  PORT: write a port number"),
        (
            (),
            {**SECRETS, "K_SERVICE": "gateway"},
            "gateway: {config} cannot be used:\n  GATEWAY_LEDGER_MAY_BE_LOST: this",
        ),
        (
            (),
            {**SECRETS, "GATEWAY_HOST": "192.0.2.1", "PORT": "0"},
            "gateway: cannot listen on 192.0.2.1 port 0: Cannot",
        ),
        (("--ready-file", "/no/where"), {**SECRETS, "PORT": "0"}, "gateway: cannot write the ready file /no/where: No"),
        (("--confg", "x"), {}, "usage: gateway serve [-h]"),
        (("extra",), {}, "usage: gateway serve [-h]"),
    ],
)
def test_why_it_does_not_begin(tmp_path, arguments, variables, told):
    config = example(tmp_path)
    code, out, err = serve(*arguments, **{"GATEWAY_CONFIG": str(config)} | variables)
    said = err[err.index("gateway: ") :] if told.startswith("gateway: ") else err
    assert (code, out) == (2, "")
    assert said.startswith(told.format(config=config))
    assert "Traceback" not in err
    assert "very-secret-value" not in err


def test_a_port_that_is_taken_is_told_after_the_record_is_closed(tmp_path):
    config = example(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = serve("--config", config, PORT=str(port), **SECRETS)
    assert code == 2
    assert err.splitlines()[-1] == (
        f"gateway: cannot listen on 127.0.0.1 port {port}: Address already in use. Choose another with PORT"
    )
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as ledger:
        kinds = [json.loads(record)["kind"] for (record,) in ledger.execute("SELECT record FROM audit")]
    assert kinds == ["boot", "close"]


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda path: path.mkdir(), "gateway: cannot write {path}: Is a directory\n"),
        (lambda path: path.write_text("precious"), "gateway: cannot use {path} as ledger: file is not a database\n"),
        (
            lambda path: path.symlink_to("/etc/passwd"),
            "gateway: cannot write {path}: Too many levels of symbolic links\n",
        ),
    ],
)
def test_what_is_no_ledger_is_left_alone(tmp_path, make, told):
    config, path = example(tmp_path), tmp_path / "gateway.db"
    make(path)
    code, out, err = serve("--config", config, PORT="0", **SECRETS)
    assert (code, out) == (2, "")
    assert err == told.format(path=path)


def test_a_ledger_that_another_process_has_is_not_taken(tmp_path):
    lock = FileLock(tmp_path / "gateway.db")
    try:
        code, out, err = serve("--config", example(tmp_path), PORT="0", **SECRETS)
    finally:
        lock.release()
    assert (code, out) == (2, "")
    assert err == (
        f"gateway: the ledger {tmp_path / 'gateway.db'} is in use by process {os.getpid()}: stop it, or give this one"
        " another file\n"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    config = example(tmp_path)
    tmp_path.chmod(0o500)
    code, _, err = serve("--config", config, PORT="0", **SECRETS)
    assert code == 2
    assert err == f"gateway: cannot write {tmp_path / 'gateway.db'}: Permission denied\n"


def test_a_folder_where_nobody_may_write(tmp_path):
    config = example(tmp_path, **{'path = "gateway.db"': 'path = "/proc/gateway.db"'})
    code, _, err = serve("--config", config, PORT="0", **SECRETS)
    assert code == 2
    assert err == "gateway: cannot write /proc/gateway.db: No such file or directory\n"


def test_rules_that_fail_their_own_tests_keep_it_from_beginning(tmp_path):
    for path in (ROOT / "policies").glob("*.*"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "more.cedar").write_text('@id("extra.all")\npermit (principal, action, resource);')
    config = example(tmp_path, **{str(ROOT / "policies"): str(tmp_path)})
    code, out, err = serve("--config", config, PORT="0", **SECRETS)
    assert (code, out) == (2, "")
    assert err.startswith("gateway: the rules cannot be used:\n  tests.toml: test '")
    assert not (tmp_path / "gateway.db").exists()


async def test_without_google_it_serves_refuses_and_ends_cleanly(tmp_path):
    ready = tmp_path / "ready.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--config", example(tmp_path), "--ready-file", ready),
        env=os.environ | SECRETS | {"PORT": "0", "GATEWAY_HOST": "::1", "GCE_METADATA_HOST": "127.0.0.1:9"},
        stderr=asyncio.subprocess.PIPE,
    )
    await eventually(ready.exists, 20)
    told = json.loads(ready.read_text())
    assert told["pid"] == process.pid
    assert told["url"].startswith("http://[::1]:")
    process.send_signal(signal.SIGTERM)
    _, err = await process.communicate()
    assert process.returncode == 0
    events = [json.loads(line) for line in err.splitlines()]
    assert {event["message"]: event["severity"] for event in events} == {
        "keys.fetch_failed": "WARNING",
        "token.fetch_failed": "WARNING",
        "server.started": "INFO",
        "server.draining": "INFO",
        "server.drained": "INFO",
        "server.stopped": "INFO",
    }
