"""`gateway serve --workers N` as processes: one port, one database, one beginning and one end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from gateway_town import Visitor, visited
from real_postgres import rows_of

from generated.agentic.gateway.v1 import OperationState
from localcloud.process import clean_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs SO_REUSEPORT as Linux has it, and proc(5)")

ROOT = Path(__file__).resolve().parents[2]
BOOTS = "SELECT count(*) FROM boots"


@asynccontextmanager
async def workers(folder, url, number=3):
    """A visitor of so many workers, and their parent."""
    async with visited(folder) as visitor:
        town = visitor.town
        parent = await town.processes.start(
            "workers",
            ["-m", "gateway", "serve", "--config", str(folder / "gateway.toml"), "--workers", str(number)],
            {
                "PORT": "0",
                "GATEWAY_HOST": "127.0.0.1",
                "GATEWAY_DATABASE_URL": url,
                "GCE_METADATA_HOST": town.metadata("gateway"),
                "EXCHANGE_KEY_ID": town.exchange_key_id,
                "EXCHANGE_SECRET_KEY": town.exchange_secret,
                "EXCHANGE_ORDER_KEY": "k" * 64,
            },
        )
        yield visitor, parent


def children(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@asynccontextmanager
async def callers(visitor, parent, number):
    """Visitors with a connection each, which the system deals out among the workers."""
    async with AsyncExitStack() as stack:
        place = parent.told("url").removeprefix("http://")
        own = (("grpc.use_local_subchannel_pool", 1),)
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(place, options=own)) for _ in range(number)
        ]
        yield [Visitor(visitor.town, visitor.session, channel, visitor.token) for channel in channels]


async def told(call):
    try:
        return (await call).state
    except grpc.aio.AioRpcError as error:
        return error.code()


async def until(condition):
    """Wait until something is so."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.02)


async def test_workers_share_port_and_budget_and_drain_together_under_load(tmp_path, postgres_url):
    async with workers(tmp_path, postgres_url) as (visitor, parent), callers(visitor, parent, 12) as many:
        answered = asyncio.Event()
        stopping = asyncio.Event()

        async def caller(number, one):
            codes = []
            for turn in range(1_000):
                codes.append(
                    await told(one.execute("get_clock", "{}", key=f"{number}-{turn}", run_id=f"{number}-{turn}"))
                )
                if turn == 2:
                    answered.set()
                if stopping.is_set() and codes[-1] is not OperationState.SUCCEEDED:
                    return codes
            return codes

        async with asyncio.TaskGroup() as group:
            calling = [group.create_task(caller(number, one)) for number, one in enumerate(many)]
            await answered.wait()
            stopping.set()
            async with asyncio.timeout(10):
                assert await visitor.town.processes.stop(parent) == 0
        counted = Counter(code for task in calling for code in task.result())
    assert set(counted) == {OperationState.SUCCEEDED, grpc.StatusCode.UNAVAILABLE}
    records = await rows_of(postgres_url, "SELECT instance, count(*) FROM audit GROUP BY instance")
    assert len(records) == 3
    assert sum(count > 3 for _, count in records) >= 2, "one worker took everything"
    states = dict(await rows_of(postgres_url, "SELECT state, count(*) FROM operations GROUP BY state"))
    assert states == {"succeeded": counted[OperationState.SUCCEEDED]}
    checking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "audit", "verify", "--database"),
        stdout=subprocess.DEVNULL,
        env=clean_environment() | {"GATEWAY_DATABASE_URL": postgres_url},
    )
    assert await checking.wait() == 0


async def test_a_worker_that_dies_is_replaced_and_the_others_go_on(tmp_path, postgres_url):
    async with workers(tmp_path, postgres_url, 2) as (visitor, parent):
        os.kill(children(parent.process.pid)[0], signal.SIGKILL)

        async def answers():
            async with callers(visitor, parent, 1) as (one,):
                return await told(one.execute("get_clock", "{}", key=f"key-{len(seen)}")) is OperationState.SUCCEEDED

        async def replaced():
            seen.append(await answers())
            return await rows_of(postgres_url, BOOTS) == [(3,)]

        seen = []
        await until(replaced)
        assert any(seen)
        await until(answers)
        assert len(children(parent.process.pid)) == 2
        assert await visitor.town.processes.stop(parent) == 0
        assert "worker.died" in parent.log.read_text()


async def test_workers_whose_parent_is_killed_end_with_their_records_closed(tmp_path, postgres_url):
    async with workers(tmp_path, postgres_url, 2) as (_, parent):
        parent.process.kill()
        await parent.process.wait()

        async def closed():
            return await rows_of(postgres_url, "SELECT count(*) FROM audit WHERE record LIKE '%\"close\"%'") == [(2,)]

        await until(closed)


def refused(tmp_path, *words, **variables):
    """Exit code and standard error of a serve that cannot begin."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=clean_environment() | {"PORT": "0", "GATEWAY_HOST": "127.0.0.1"} | variables,
    )
    return done.returncode, done.stderr


KEYS = {"EXCHANGE_KEY_ID": "k", "EXCHANGE_SECRET_KEY": "s", "EXCHANGE_ORDER_KEY": "o" * 32}
EXAMPLE = ("--config", "docs/gateway.example.toml")


def test_several_workers_on_one_file_are_refused(tmp_path):
    code, err = refused(tmp_path, *EXAMPLE, "--workers", "2", **KEYS)
    assert code == 2
    assert err.startswith("gateway: --workers 2: several processes need one ledger")


def test_a_start_that_no_worker_can_make_ends_all_and_is_said_once(tmp_path):
    url = "postgresql://me:hunter2@127.0.0.1:1/ledger"
    code, err = refused(tmp_path, *EXAMPLE, "--workers", "3", GATEWAY_DATABASE_URL=url, **KEYS)
    assert code == 2
    assert err.count("cannot reach PostgreSQL at GATEWAY_DATABASE_URL") == 1
    assert "hunter2" not in err


@pytest.mark.parametrize("number", ["0", "-1", "65", "two", "٢"])
def test_a_number_of_workers_that_cannot_be(tmp_path, number):
    code, err = refused(tmp_path, *EXAMPLE, "--workers", number, **KEYS)
    assert (code, "1 to 64" in err) == (2, True)
