"""Stopping: what can end well does, and the rest is told."""

import asyncio
import base64
import time

import grpc
import grpc.aio
import pytest
from h2.errors import ErrorCodes
from h2.events import StreamReset
from wire_clients import CHAT_PATH, GOAWAY, METHODS_BY_NAME, eventually, grpcio, message, request_headers, stub

from gateway.terms.clock import SystemClock, SystemIds
from gateway.wire.config import WireConfig
from gateway.wire.drain import Drained
from gateway.wire.server import GatewayServer
from gateway.wire.table import Table
from generated.agentic.gateway.v1 import ChatEvent, ChatRequest, CountTokensRequest, CountTokensResponse
from generated.agentic.wire.v1.codec import decode_RetryInfo, decode_Status

EMPTY = message(b"")


class Gate:
    """A call that runs until the test lets it go."""

    def __init__(self):
        self.open = asyncio.Event()
        self.notes = []

    async def count_tokens(self, request, passage):
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.notes.append("cancelled")
            raise
        return CountTokensResponse(input_tokens=7)


def details_of(answer):
    coded = answer["grpc-status-details-bin"]
    return decode_Status(base64.b64decode(coded + "=" * (-len(coded) % 4)))


async def test_a_running_call_may_finish(serve):
    gate = Gate()
    served = await serve(count_tokens=gate.count_tokens)
    async with grpcio(served) as channel:
        call = stub(channel, "CountTokens")(CountTokensRequest(), timeout=5)
        await eventually(lambda: served.server.running)
        draining = asyncio.get_running_loop().create_task(served.server.drain(5))
        await eventually(lambda: not served.server.readiness.serving)
        await asyncio.sleep(0.01)
        gate.open.set()
        assert (await call).input_tokens == 7
        assert await draining == Drained(cut=0, abandoned=0)
    assert served.server.connections == 0


async def test_grpcio_calls_under_load_all_end_well(serve):
    async def chat(request, passage):
        for number in range(5):
            yield ChatEvent(sequence=number)
            await asyncio.sleep(0.01)

    served = await serve(chat=chat)

    async def one(channel):
        return [event.sequence async for event in stub(channel, "Chat")(ChatRequest(), timeout=10)]

    async with grpcio(served) as channel, grpcio(served, **{"grpc.use_local_subchannel_pool": 1}) as other:
        calls = asyncio.gather(*(one(channel) for _ in range(40)), *(one(other) for _ in range(40)))
        # Every call must be under way: what comes after is refused, and is the client's to repeat.
        await eventually(lambda: served.server.running == 80)
        drained = await served.server.drain(5)
        assert drained == Drained(cut=0, abandoned=0)
        assert await calls == [[0, 1, 2, 3, 4]] * 80


async def test_the_rest_ends_with_trailers_and_a_retry_hint(serve):
    gate = Gate()
    served = await serve(count_tokens=gate.count_tokens)
    client = await served.raw()
    stream = client.request(body=EMPTY)
    await eventually(lambda: served.server.running)
    reading = asyncio.get_running_loop().create_task(client.ending(stream))
    assert await served.server.drain(0.03) == Drained(cut=1, abandoned=0)
    answer = await reading
    assert (answer["grpc-status"], answer["grpc-message"]) == ("14", "this gateway is stopping; call again")
    assert decode_RetryInfo(details_of(answer).details[1].value).retry_delay.seconds == 1
    assert client.of(StreamReset, stream) == []
    assert gate.notes == ["cancelled"]
    await client.until_closed()
    assert [frame[3][:8] for frame in client.of_kind(GOAWAY)] == [
        b"\x7f\xff\xff\xff\0\0\0\0",
        b"\0\0\0\x01\0\0\0\0",
    ]


async def test_a_stream_in_its_middle_ends_with_trailers(serve):
    closed = []

    async def chat(request, passage):
        try:
            yield ChatEvent(sequence=1)
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    served = await serve(chat=chat)
    async with grpcio(served) as channel:
        call = stub(channel, "Chat")(ChatRequest())
        assert (await call.read()).sequence == 1
        draining = asyncio.get_running_loop().create_task(served.server.drain(0.02))
        with pytest.raises(grpc.aio.AioRpcError, match="stopping") as caught:
            await call.read()
        await draining
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert closed == [True]


async def test_a_call_that_does_not_end_is_answered_all_the_same(serve):
    release = asyncio.Event()

    async def count_tokens(request, passage):
        try:
            await asyncio.sleep(60)
        finally:
            # An effect that must be recorded takes its time.
            await release.wait()

    served = await serve(count_tokens=count_tokens, drain_end_s=0.03)
    client = await served.raw()
    stream = client.request(body=EMPTY)
    await eventually(lambda: served.server.running)
    reading = asyncio.get_running_loop().create_task(client.ending(stream))
    assert await served.server.drain(0.02) == Drained(cut=1, abandoned=1)
    assert (await reading)["grpc-status"] == "14"
    release.set()
    await served.quiet()


async def test_a_request_that_is_still_coming_is_told_too(serve):
    served = await serve()
    client = await served.raw()
    stream = client.request(end=False)
    await eventually(lambda: served.server._load.calls)
    reading = asyncio.get_running_loop().create_task(client.ending(stream))
    await served.server.drain(0.02)
    assert (await reading)["grpc-status"] == "14"


async def test_new_streams_are_refused_while_draining(serve):
    gate = Gate()
    served = await serve(count_tokens=gate.count_tokens)
    client = await served.raw()
    running = client.request(body=EMPTY)
    await eventually(lambda: served.server.running)
    draining = asyncio.get_running_loop().create_task(served.server.drain(5))
    await eventually(lambda: served.server._load.draining)
    answer = await client.ending(client.request(request_headers(CHAT_PATH), EMPTY))
    assert answer["grpc-status"] == "14"
    assert decode_RetryInfo(details_of(answer).details[1].value).retry_delay.seconds == 1
    health = client.request(request_headers(METHODS_BY_NAME["Check"].path), EMPTY)
    assert (await client.ending(health))["grpc-status"] == "0"
    assert client.body(health)[5:] == b"\x08\x02"
    gate.open.set()
    assert (await client.ending(running))["grpc-status"] == "0"
    await draining


async def test_nobody_connects_while_draining(serve):
    gate = Gate()
    served = await serve(count_tokens=gate.count_tokens)
    client = await served.raw()
    client.request(body=EMPTY)
    await eventually(lambda: served.server.running)
    draining = asyncio.get_running_loop().create_task(served.server.drain(5))
    await eventually(lambda: served.server._load.draining)
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", served.port)
    gate.open.set()
    await client.until_closed()
    await draining


async def test_idle_connections_do_not_hold_it_up(serve):
    served = await serve()
    async with grpcio(served) as channel:
        await stub(channel, "CountTokens")(CountTokensRequest(), timeout=5)
        began = time.monotonic()
        await served.server.drain(5)
        assert time.monotonic() - began < 0.5


async def test_a_peer_that_reads_nothing_does_not_hold_it_up(serve):
    async def chat(request, passage):
        while True:
            yield ChatEvent(sequence=1)

    served = await serve(chat=chat, drain_end_s=0.03, linger_s=0.03)
    client = await served.raw(acks=False)
    client.h2.increment_flow_control_window(2**30)
    client.writer.transport.pause_reading()
    client.request(request_headers(CHAT_PATH), EMPTY)
    await eventually(lambda: served.server.running)
    began = time.monotonic()
    await served.server.drain(0.03)
    assert time.monotonic() - began < 0.5
    assert served.server.connections == 0


async def test_a_second_drain_is_harmless_and_so_is_one_without_start(serve):
    served = await serve()
    assert await served.server.drain(1) == Drained(cut=0, abandoned=0)
    assert await served.server.drain(1) == Drained(cut=0, abandoned=0)


async def test_a_server_starts_once(serve):
    served = await serve()
    with pytest.raises(RuntimeError, match="starts once"):
        await served.server.start("127.0.0.1", 0)


async def test_the_port_is_free_again(serve):
    first = await serve()
    client = await first.raw()
    await client.ending(client.request(body=EMPTY))
    await first.server.drain(0.1)
    again = GatewayServer(Table(routes={}), WireConfig(), SystemClock(), SystemIds(), first.log)
    assert await again.start("127.0.0.1", first.port) == first.port
    await again.drain(0.1)


async def test_goodbye_comes_before_anything_is_cut(serve):
    gate = Gate()
    served = await serve(count_tokens=gate.count_tokens)
    client = await served.raw()
    client.request(body=EMPTY)
    await eventually(lambda: served.server.running)
    draining = asyncio.get_running_loop().create_task(served.server.drain(5))
    await client.until(lambda: client.of_kind(GOAWAY))
    assert client.goaway() is ErrorCodes.NO_ERROR
    assert served.server.running == 1
    gate.open.set()
    await client.until_closed()
    await draining
