"""The watch over the ledger: when it writes, and what its doubt does to readiness."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from whole import eventually, world

from gateway.assembly.watch import BEAT_S, LedgerWatch, watched
from gateway.services.models import ModelService
from gateway.services.operators import OperatorService
from gateway.services.tools import ToolService
from gateway.terms.faults import LedgerUnavailableError
from gateway.wire.config import WireConfig
from gateway.wire.contract import contract
from gateway.wire.server import GatewayServer


@pytest.fixture
async def whole(tmp_path):
    async with world() as around, around.gateway(tmp_path) as running:
        yield running


class Watched:
    """A watch over a real ledger whose disk can be away."""

    def __init__(self, whole):
        self.whole = whole
        self.away = False
        self.tries = 0
        at = whole.stations
        table = contract(ModelService(at, whole.lasting), ToolService(at), OperatorService(at))
        self.server = GatewayServer(table, WireConfig(), at.clock, at.ids, whole.log)
        self.server.readiness.set_serving(True)

    async def beat(self):
        self.tries += 1
        if self.away:
            raise LedgerUnavailableError("the disk is away")
        await self.whole.ledger.note(self.whole.records.heartbeat())

    def doubt(self):
        """A call ended because nothing could be recorded."""
        self.server.surroundings.load.unrecorded.set()

    @property
    def ready(self):
        return self.server.readiness.serving

    @property
    def beats(self):
        return len(self.whole.told("heartbeat"))

    @asynccontextmanager
    async def over(self, beat_s):
        watch = LedgerWatch(server=self.server, beat=self.beat, witness=self.whole.log, beat_s=beat_s, retry_s=0.001)
        async with watched(watch):
            yield


async def test_without_a_doubt_nothing_is_written_before_its_time(whole):
    one = Watched(whole)
    recovery = whole.recovery()
    async with one.over(BEAT_S):
        for _ in range(5):
            whole.world.clock.pass_s(61)
            await recovery.sweep()
            await asyncio.sleep(0)
    assert one.tries == 0
    assert whole.told("heartbeat") == []


async def test_when_its_time_has_come_one_heartbeat_is_durable(whole):
    one = Watched(whole)
    async with one.over(0.005):
        await eventually(lambda: one.beats >= 2)
        assert one.ready


async def test_a_doubt_is_settled_at_once(whole):
    one = Watched(whole)
    async with one.over(BEAT_S):
        one.doubt()
        await eventually(lambda: one.beats == 1)
        assert one.ready


async def test_a_ledger_that_is_away_takes_readiness_and_gives_it_back_by_itself(whole):
    one = Watched(whole)
    async with one.over(BEAT_S):
        one.away = True
        one.doubt()
        await eventually(lambda: not one.ready and one.tries >= 3)
        one.away = False
        await eventually(lambda: one.ready)
        assert one.beats == 1


async def test_a_ledger_that_is_away_is_noticed_when_nobody_calls(whole):
    one = Watched(whole)
    one.away = True
    async with one.over(0.005):
        await eventually(lambda: not one.ready)
