"""A gateway's life: nothing stays open that was opened, and the record is closed whatever ends it."""

import asyncio
import contextlib
import json
import os
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from made_settings import made

from gateway.assembly import bookkeeping, life
from gateway.assembly.life import Ending, Grace, assembled
from gateway.assembly.parts import AssemblyError
from gateway.audit.verify import verify
from gateway.call.denials import Denials
from gateway.terms.caller import Caller
from gateway.terms.verdict import Kind, Refusal

SHORT = Grace(warm_s=0.5, drain_s=0.05, drained_s=0.1, effects_s=0.15)


@dataclass
class Log:
    """A witness that keeps what it was told."""

    events: list = field(default_factory=list)

    def tell(self, event, fields):
        self.events.append((event, dict(fields)))

    def names(self):
        return [event for event, _ in self.events]


def held():
    """What this process holds of the system: open files and threads."""
    files = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            files.append(str(descriptor.readlink()))
    return sorted(files), {thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio")}


@pytest.fixture
def leaves_nothing():
    """What is open after the test was open before it."""
    before = held()
    yield
    assert held() == before


async def report(tmp_path):
    return await asyncio.to_thread(verify, tmp_path / "gateway.db")


async def test_a_life_leaves_a_closed_record_and_nothing_open(tmp_path, leaves_nothing):
    log = Log()
    async with assembled(made(tmp_path), log, SHORT) as gateway:
        assert gateway.server.readiness.serving
        await gateway.server.start("127.0.0.1", 0)
    assert not gateway.server.readiness.serving
    found = await report(tmp_path)
    assert found.ok
    assert [(boot.boot, boot.closed, boot.records) for boot in found.boots] == [(gateway.boot, True, 2)]
    assert "server.drained" in log.names()
    assert "effects.abandoned" not in log.names()


async def test_what_is_summed_of_refusals_is_on_record_at_the_end(tmp_path, monkeypatch):
    kept = []

    class Kept(Denials):
        def __init__(self, *parts):
            super().__init__(*parts)
            kept.append(self)

    monkeypatch.setattr(life, "Denials", Kept)
    caller = Caller(
        principal="1",
        email="",
        agent="trader",
        team="desk",
        tenant="acme",
        role="trader",
        models=frozenset(),
        tools=frozenset(),
        budgets=(),
        limits=None,
    )
    async with assembled(made(tmp_path), Log(), SHORT):
        for _ in range(300 + 5):
            kept[0].count(caller, Refusal(kind=Kind.FORBIDDEN, reason="policy.denied", sentence="No."))
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway.db")) as connection:
        records = [json.loads(record) for (record,) in connection.execute("SELECT record FROM audit ORDER BY position")]
    assert [record["kind"] for record in records] == ["boot", "denied", "close"]
    assert (records[1]["agent"], records[1]["count"], records[1]["added"]) == ("trader", 5, 1)


async def test_without_keys_and_token_it_starts_and_says_so(tmp_path):
    log = Log()
    async with assembled(made(tmp_path), log, SHORT):
        told = dict(log.events)
    assert "127.0.0.1" in told["keys.fetch_failed"]["error"]
    assert "127.0.0.1" in told["token.fetch_failed"]["error"]


async def test_a_slow_world_delays_the_start_no_longer_than_its_bound(tmp_path):
    taken = asyncio.Event()

    async def silent(reader, writer):
        taken.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = made(tmp_path, **{"http://127.0.0.1:9/certs": f"http://127.0.0.1:{port}/certs"})
        log = Log()
        async with asyncio.timeout(2), assembled(settings, log, Grace(warm_s=0.05)):
            assert taken.is_set()
            assert dict(log.events)["keys.fetch_failed"] == {"error": "nothing came within 0.05 s"}


class BrokenError(Exception):
    """What a step fails with in these tests."""


STEPS = (
    *("Jwks", "_token", "Records", "SqliteLedger", "_identity", "_models"),
    *("Stations", "contract", "GatewayServer", "_warmed"),
)


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_fails_closes_what_the_steps_before_opened(tmp_path, leaves_nothing, monkeypatch, step):
    def broken(*_, **__):
        raise BrokenError

    settings = made(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(bookkeeping if hasattr(bookkeeping, step) else life, step, broken)
        with pytest.raises(BrokenError):
            async with assembled(settings, Log(), SHORT):
                raise AssertionError("it was assembled without one of its parts")
    # The file is let go, so the next one can have it, and whatever was begun has its end.
    async with assembled(settings, Log(), SHORT):
        pass
    found = await report(tmp_path)
    assert found.ok
    assert all(boot.closed for boot in found.boots)


async def test_an_error_inside_comes_out_as_it_is_after_the_record_is_closed(tmp_path, leaves_nothing):
    with pytest.raises(BrokenError):
        async with assembled(made(tmp_path), Log(), SHORT):
            raise BrokenError
    assert (await report(tmp_path)).boots[0].closed


async def test_a_cancelled_life_closes_its_record(tmp_path, leaves_nothing):
    ready = asyncio.Event()

    async def lived():
        async with assembled(made(tmp_path), Log(), SHORT):
            ready.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(lived())
        await ready.wait()
        task.cancel()
    assert (await report(tmp_path)).boots[0].closed


async def test_a_ledger_in_use_is_refused_with_its_owner(tmp_path, leaves_nothing):
    settings = made(tmp_path)
    async with assembled(settings, Log(), SHORT):
        with pytest.raises(AssemblyError, match=rf"gateway.db is in use by process {os.getpid()}: stop it, or give"):
            async with assembled(settings, Log(), SHORT):
                raise AssertionError("two processes write one ledger")
    assert len((await report(tmp_path)).boots) == 1


async def test_a_ledger_without_a_folder_is_refused(tmp_path, leaves_nothing):
    settings = made(tmp_path, **{'path = "gateway.db"': 'path = "nowhere/gateway.db"'})
    with pytest.raises(AssemblyError, match=r"cannot use the folder .*/nowhere: No such file or directory"):
        async with assembled(settings, Log(), SHORT):
            raise AssertionError("it keeps its ledger nowhere")


async def test_effects_are_awaited_even_if_an_error_ends_the_life():
    log, ended = Log(), []

    async def effect():
        await asyncio.sleep(0.01)
        ended.append("whole")

    async def lived():
        async with life._awaited(Ending(grace=Grace(), witness=log)) as effects:
            effects.start(effect())
            raise BrokenError

    with pytest.raises(BrokenError):
        await lived()
    assert ended == ["whole"]
    assert log.events == []


async def test_an_effect_without_end_is_cut_when_the_time_is_over():
    log, ended = Log(), []

    async def endless():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cut")

    async with life._awaited(Ending(grace=SHORT, witness=log)) as effects:
        effects.start(endless())
    assert ended == ["cut"]
    assert log.events == [("effects.abandoned", {"running": 1})]


async def test_the_whole_end_fits_into_what_cloud_run_gives():
    grace = Grace()
    assert grace.drain_s < grace.drained_s < grace.effects_s < 10 - 0.5
