"""A worker that will not end is ended, whenever it was told to."""

import asyncio
import signal
import sys

import pytest

from gateway.commands import workers
from gateway.commands.workers import Shared, Worker

DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if {tells}:
    os.write(int(sys.argv[sys.argv.index("--worker") + 1]), b"1")
time.sleep(60)
"""


class Silent:
    def tell(self, event, fields):
        pass


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(workers, "START_S", 0.5)
    monkeypatch.setattr(workers, "STOP_S", 0.05)


def worker(*, tells):
    command = [sys.executable, "-c", DEAF.format(tells=tells)]
    return Worker(number=0, shared=Shared(command=command, environment={}, witness=Silent(), stop=asyncio.Event()))


async def test_one_that_never_listens_and_ignores_its_end():
    async with asyncio.timeout(20):
        assert await worker(tells=False).run() == -signal.SIGKILL


async def test_one_that_is_just_being_started_when_the_stop_comes():
    one = worker(tells=True)
    one.shared.stop.set()
    async with asyncio.timeout(20):
        # It may not have come as far as to ignore anything.
        assert await one.run() in (-signal.SIGKILL, -signal.SIGTERM)


async def test_one_that_serves_and_ignores_its_end():
    one = worker(tells=True)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(one.run())
        await one.ready.wait()
        one.shared.stop.set()
        one.end()
    assert running.result() == -signal.SIGKILL
