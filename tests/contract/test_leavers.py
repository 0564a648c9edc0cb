"""Slow readers and leavers over real sockets: the model is slowed, then let go of, and nothing stays held."""

import asyncio
import contextlib
import random
import socket
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.exceptions import GRPCError, StreamTerminatedError
from served import Client, OurCodec, OurDetails, served
from whole import FLASH, agent, budget, eventually, world

from generated.agentic.gateway.v1 import ChatRequest, Content, Part, Resumable, Role, RunTools

BUDGETS = (budget("calls", 10_000), budget("tokens", 10**12), budget("cost_micro_usd", 10**15))
PACED = "@pace deltas=400 interval_ms=20 size=2\n{}"
HUGE = "@pace deltas=20 size=2000\n{}"
"""Chunks of some ten kilobytes; the double sends them round and round, one a millisecond."""


@pytest.fixture
async def whole(tmp_path):
    model = replace(FLASH, max_output_tokens=65_536)
    connector = aiohttp.TCPConnector(limit=0, socket_factory=narrow)
    async with world() as around, aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        around.session = session
        async with around.gateway(tmp_path, [agent(budgets=BUDGETS)], models=(model,)) as running:
            yield running


def narrow(address):
    """A socket for which the kernel keeps little: on loopback it would take megabytes before anybody waits."""
    family, kind, protocol, _, _ = address
    narrowed = socket.socket(family, kind, protocol)
    narrowed.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    return narrowed


@asynccontextmanager
async def served_narrowly(whole):
    """A client that lets the gateway send as little ahead as HTTP/2 begins with; grpclib's own would take 4 MiB."""
    async with served(whole) as client:
        config = Configuration(http2_stream_window_size=65_535)
        codecs = {"codec": OurCodec(), "status_details_codec": OurDetails()}
        channel = Channel("127.0.0.1", client._channel._port, config=config, **codecs)
        try:
            yield Client(whole, channel)
        finally:
            channel.close()


def chat(text, **fields):
    return ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=text)])], **fields)


async def still(count, ticks=25):
    """Wait until a count has not changed for some milliseconds; gives it."""
    async with asyncio.timeout(20):
        while True:
            before = count()
            for _ in range(ticks):
                await asyncio.sleep(0.002)
            if count() == before:
                return before


@pytest.mark.parametrize("mode", [Resumable.UNSPECIFIED, Resumable.CONNECTION_LOST])
async def test_who_reads_slowly_slows_the_model_and_who_reads_on_gets_the_rest(whole, mode):
    """Measured at the model: what it could send stands still, and goes on when the caller does."""
    whole.world.vertex_fails("endless", count=None, ms=1)
    entries = whole.world.vertex.journal.entries
    async with served_narrowly(whole) as client, client.opened("Chat", chat(HUGE.format(""), resumable=mode)) as stream:
        await stream.recv_message()
        stuck = await still(lambda: entries[-1].chunks_sent)
        assert whole.lasting.held_bytes < 512 * 1024
        read = 0
        while entries[-1].chunks_sent == stuck:
            assert await asyncio.wait_for(stream.recv_message(), 5) is not None
            read += 1
        assert read <= stuck
        await stream.cancel()
        await eventually(lambda: entries[-1].ending == "client_left")
    await whole.agree()
    assert all(held == 0 for held, _ in whole.held().values())


@pytest.mark.parametrize("stuck", [False, True], ids=["reading", "stuck"])
async def test_leavers_leave_nothing_behind(whole, stuck):
    """Each at a moment of its own, by a reset or a cut; the benchmark counts a thousand and the time it takes."""
    if stuck:
        whole.world.vertex_fails("endless", count=None, ms=1)
    journal = whole.world.vertex.journal
    chance = random.Random(7)

    async def leaver(number):
        text = (HUGE if stuck else PACED).format(number)
        fields = chance.choice(({}, {"run_tools": RunTools()}, {"resumable": Resumable.CONNECTION_LOST}))
        with contextlib.suppress(GRPCError, StreamTerminatedError, ConnectionError):
            async with client.opened("Chat", chat(text, **fields)) as stream:
                for _ in range(1 if stuck else chance.randint(1, 8)):
                    await stream.recv_message()
                await asyncio.sleep(chance.random() * 0.05)
                await stream.cancel()

    async with served_narrowly(whole) as client:
        for first in range(0, 100, 20):
            await asyncio.gather(*map(leaver, range(first, first + 20)))
        await eventually(lambda: journal.streams_open == 0)
    await whole.agree()
    assert (journal.streams_total, journal.streams_aborted) == (100, 100)
    assert all(held == 0 for held, _ in whole.held().values())
    assert len(whole.told("outcome")) == 100
    assert {record["failure"]["reason"] for record in whole.told("outcome")} == {"call.cut"}
