"""What no honest client does (governance study, section 8, rows 38 to 44), and that others do not feel it."""

import asyncio
import socket
import struct

import pytest
from h2.errors import ErrorCodes
from h2.events import StreamReset
from h2.settings import SettingCodes
from hpack import Encoder
from wire_clients import (
    CHAT_PATH,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    cost_below,
    eventually,
    frame,
    message,
    request_headers,
)

from generated.agentic.gateway.v1 import ChatEvent, CountTokensResponse, TextDelta

MIB = 1024 * 1024
CALM = ErrorCodes.ENHANCE_YOUR_CALM
EMPTY = message(b"")
BLOCK = Encoder().encode([(name, value, True) for name, value in request_headers()])
"""A header block that leaves no trace in the compression table, so that it can be sent any number of times."""


async def works(served):
    """A call of somebody else goes through."""
    client = await served.raw()
    return (await client.ending(client.request(body=EMPTY)))["grpc-status"] == "0"


def flood(kind, flags, body, count=20_000, stream=0):
    return frame(kind, flags, stream, body) * count


async def test_rapid_reset_ends_the_connection_after_a_small_budget(serve):
    served = await serve()
    client = await served.raw()
    attack = b"".join(
        frame(HEADERS, END_HEADERS, stream, BLOCK) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
        for stream in range(1, 40_000, 2)
    )
    # Of these, the client's own buffers are the larger part; without the budget it is over 100 MiB.
    with cost_below(8 * MIB, cpu_s=0.5):
        client.write(attack)
        await client.until_closed()
    assert client.goaway() is CALM
    await served.quiet()
    # The budget, what a slow second adds to it, and the one that was too many.
    assert len(served.log.named("call.ended")) <= 200 + 20 + 1
    assert await works(served)


async def test_rapid_reset_of_running_calls_cancels_each_and_ends(serve):
    cancelled = []

    async def count_tokens(request, passage):
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(passage.request)

    served = await serve(count_tokens=count_tokens)
    client = await served.raw()
    for _ in range(10):
        streams = [client.request(body=EMPTY) for _ in range(30)]
        await asyncio.sleep(0)
        for stream in streams:
            client.reset(stream)
    await client.until_closed()
    await served.quiet()
    assert client.goaway() is CALM
    assert served.server.running == 0


async def test_cancelling_now_and_then_is_no_attack(serve):
    served = await serve(resets_burst=3, resets_per_s=1)
    client = await served.raw()
    for _ in range(8):
        client.reset(client.request(end=False))
        assert (await client.ending(client.request(body=EMPTY)))["grpc-status"] == "0"


async def test_streams_that_the_client_makes_the_server_reset_count_too(serve):
    served = await serve(resets_burst=20)
    client = await served.raw()
    overflow = struct.pack(">I", 2**31 - 1)
    for _ in range(30):
        stream = client.request(end=False)
        client.write(frame(WINDOW_UPDATE, 0, stream, overflow))
    await client.until_closed()
    assert client.goaway() is CALM


@pytest.mark.parametrize(
    "attack",
    [
        flood(PING, 0, bytes(8)),
        flood(SETTINGS, 0, b""),
        flood(SETTINGS, 0, struct.pack(">HI", SettingCodes.INITIAL_WINDOW_SIZE, 70_000)),
        flood(PRIORITY, 0, bytes(5), stream=1),
        flood(WINDOW_UPDATE, 0, struct.pack(">I", 1)),
        flood(0xBE, 0, b"unknown"),
        flood(PING, 1, bytes(8)),
    ],
    ids=["ping", "settings", "settings-window", "priority", "window-update", "unknown", "ping-ack"],
)
async def test_a_flood_of_frames_without_work_ends_the_connection(serve, attack):
    served = await serve()
    client = await served.raw()
    with cost_below(4 * MIB):
        client.write(attack)
        await client.until_closed()
    assert client.goaway() is CALM
    assert await works(served)


async def test_a_flood_of_empty_data_ends_the_connection(serve):
    served = await serve()
    client = await served.raw()
    stream = client.request(end=False)
    with cost_below(4 * MIB):
        client.write(flood(DATA, 0, b"", stream=stream))
        await client.until_closed()
    assert client.goaway() is CALM


async def test_data_for_streams_that_are_over_counts_too(serve):
    served = await serve()
    client = await served.raw()
    stream = client.request(body=EMPTY)
    await client.ending(stream)
    with cost_below(4 * MIB):
        client.write(flood(DATA, 0, b"", stream=stream))
        await client.until_closed()
    assert client.goaway() is CALM


async def test_some_chatter_is_no_attack(serve):
    served = await serve()
    client = await served.raw()
    client.write(flood(PING, 0, bytes(8), count=500) + flood(0xBE, 0, b"?", count=500))
    assert (await client.ending(client.request(body=EMPTY)))["grpc-status"] == "0"


async def test_a_flood_of_continuations_ends_the_connection(serve):
    served = await serve()
    client = await served.raw()
    with cost_below(4 * MIB):
        client.write(frame(HEADERS, END_STREAM, 1, BLOCK) + flood(CONTINUATION, 0, b"", stream=1, count=300))
        await client.until_closed()
    assert client.goaway() is ErrorCodes.PROTOCOL_ERROR
    assert await works(served)


async def test_a_header_bomb_ends_the_connection_without_unpacking_it(serve):
    served = await serve()
    client = await served.raw()
    encoder = Encoder()
    entry = encoder.encode([*request_headers(), ("x-bomb", "b" * 3_000)])
    reference = encoder.encode([("x-bomb", "b" * 3_000)])
    assert len(reference) == 1
    with cost_below(2 * MIB):
        client.write(frame(HEADERS, END_STREAM | END_HEADERS, 1, entry + reference * 8_000))
        await client.until_closed()
    assert client.goaway() is CALM
    assert await works(served)


async def test_hoarded_streams_are_refused_one_by_one_and_the_others_live(serve):
    served = await serve()
    client = await served.raw()
    client.follows = False
    client.write(b"".join(frame(HEADERS, END_HEADERS, stream, BLOCK) for stream in range(1, 300, 2)))
    await client.until(lambda: len(client.of_kind(RST_STREAM)) == 50)
    assert {struct.unpack(">I", body)[0] for _, _, _, body in client.of_kind(RST_STREAM)} == {7}
    assert [stream for _, _, stream, _ in client.of_kind(RST_STREAM)] == list(range(201, 301, 2))
    assert len(served.server._load.calls) == 100
    # One of the hundred ends, and there is room again.
    client.write(frame(DATA, END_STREAM, 1, EMPTY))
    await eventually(lambda: len(served.server._load.calls) == 99)
    client.write(frame(HEADERS, END_HEADERS, 301, BLOCK) + frame(DATA, END_STREAM, 301, EMPTY))
    await client.until(lambda: any(stream == 301 for kind, _, stream, _ in client.frames if kind == HEADERS))
    assert client.goaway() is None


async def test_five_thousand_hoarded_streams_end_the_connection(serve):
    served = await serve()
    client = await served.raw()
    client.follows = False
    attack = b"".join(frame(HEADERS, END_HEADERS, stream, BLOCK) for stream in range(1, 10_000, 2))
    with cost_below(4 * MIB):
        client.write(attack)
        await client.until_closed()
    assert client.goaway() is CALM
    await served.quiet()
    assert await works(served)


async def test_the_advertised_bounds_are_the_kept_ones(serve):
    served = await serve(streams_max=7, metadata_bytes_max=9_000, stream_window_bytes=70_000)
    client = await served.raw()
    await client.until(lambda: client.events)
    assert client.h2.remote_settings.max_concurrent_streams == 7
    assert client.h2.remote_settings.max_header_list_size == 9_000
    assert client.h2.remote_settings.initial_window_size == 70_000


@pytest.mark.parametrize("preface", [b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_a_preface_that_does_not_come_whole_is_not_waited_for(serve, preface):
    served = await serve(preface_s=0.03)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(preface)
    async with asyncio.timeout(5):
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
    await eventually(lambda: served.server.connections == 0)
    writer.close()


async def test_another_protocol_is_told_to_go(serve):
    served = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        received = await reader.read()
    assert received[9 + 6 * 6 :].find(struct.pack(">I", 1)) > 0
    writer.close()
    assert await works(served)


@pytest.mark.parametrize(
    "attack",
    [
        frame(DATA, 0, 0, b"x"),
        frame(DATA, 0, 3, b"x"),
        frame(HEADERS, END_HEADERS, 2, BLOCK),
        frame(HEADERS, END_HEADERS, 3, b"\xff\xff\xff\xff\xff"),
        frame(HEADERS, END_HEADERS, 1, BLOCK),
        frame(SETTINGS, 0, 0, b"\0"),
        frame(SETTINGS, 0, 0, struct.pack(">HI", SettingCodes.MAX_FRAME_SIZE, 1)),
        frame(CONTINUATION, END_HEADERS, 1, BLOCK),
        frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + BLOCK),
        frame(WINDOW_UPDATE, 0, 0, bytes(4)),
        frame(PING, 0, 0, b"short"),
        frame(DATA, 0x8, 1, b"\xff"),
        frame(DATA, 0, 1, bytes(20_000)),
    ],
    ids=[
        "data-on-0",
        "data-on-idle",
        "even-stream",
        "hpack",
        "headers-again",
        "settings-size",
        "settings-value",
        "continuation",
        "push",
        "window-of-0",
        "ping-size",
        "padding",
        "frame-size",
    ],
)
async def test_frames_that_are_no_http2_end_the_connection_and_no_other(serve, attack):
    served = await serve()
    client = await served.raw()
    client.request(end=False)
    client.follows = False
    client.write(attack)
    await client.until_closed()
    assert client.goaway() not in {None, ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR}
    await served.quiet()
    assert served.log.named("connection.failed") == []
    assert len(served.log.named("connection.refused")) == 1
    assert await works(served)


async def test_an_idle_connection_is_closed_politely(serve):
    served = await serve(idle_s=0.05)
    client = await served.raw()
    assert (await client.ending(client.request(body=EMPTY)))["grpc-status"] == "0"
    await client.until_closed()
    assert client.goaway() is ErrorCodes.NO_ERROR


async def test_a_connection_with_a_running_call_is_not_idle(serve):
    async def count_tokens(request, passage):
        await asyncio.sleep(0.15)
        return CountTokensResponse()

    served = await serve(count_tokens=count_tokens, idle_s=0.03)
    client = await served.raw()
    assert (await client.ending(client.request(body=EMPTY)))["grpc-status"] == "0"


async def test_no_more_connections_than_the_bound(serve):
    served = await serve(connections_max=3)
    clients = [await served.raw() for _ in range(3)]
    for client in clients:
        await client.until(lambda client=client: client.events)
    extra = await served.raw()
    await extra.until_closed()
    assert extra.events == []
    await clients[0].close()
    await eventually(lambda: served.server.connections == 2)
    assert await works(served)


async def test_a_client_that_says_goodbye_still_gets_its_answers(serve):
    go = asyncio.Event()

    async def count_tokens(request, passage):
        await go.wait()
        return CountTokensResponse()

    served = await serve(count_tokens=count_tokens)
    client = await served.raw()
    stream = client.request(body=EMPTY)
    await eventually(lambda: served.server.running)
    client.write(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
    go.set()
    assert (await client.ending(stream))["grpc-status"] == "0"
    await client.until_closed()


async def test_a_client_that_says_goodbye_in_anger_is_closed(serve):
    served = await serve()
    client = await served.raw()
    client.write(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 1)))
    await client.until_closed()
    assert client.goaway() is ErrorCodes.NO_ERROR


async def test_small_packets_are_not_held_back(serve):
    served = await serve()
    client = await served.raw()
    await client.until(lambda: client.events)
    (connection,) = served.server._load.connections
    sock = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_peer_that_stops_answering_pings_loses_its_connection(serve, monkeypatch):
    monkeypatch.setattr("gateway.wire.connection._PING_ANSWER_S", 0.03)

    async def chat(request, passage):
        await asyncio.sleep(60)
        yield None

    served = await serve(chat=chat, keepalive_s=0.03)
    client = await served.raw()
    client.request(request_headers(CHAT_PATH), EMPTY)
    await eventually(lambda: served.server.running)
    # The client reads nothing from here on, and so answers no PING.
    client.writer.transport.pause_reading()
    await eventually(lambda: served.server.connections == 0)
    await served.quiet()


async def test_a_refused_stream_still_teaches_the_compression_table(serve):
    served = await serve(streams_max=1)
    client = await served.raw()
    client.request(end=False)
    # What the refused request puts into the table, the next one only points at.
    headers = request_headers("/agentic.gateway.v1.ModelService/ListModels", ("x-learned", "once"))
    refused = client.request(headers, EMPTY)
    await client.until(lambda: client.of(StreamReset, refused))
    client.data(1, EMPTY, end=True)
    await client.ending(1)
    assert (await client.ending(client.request(headers, EMPTY)))["grpc-status"] == "0"


async def test_nothing_begins_after_a_connection_has_ended(serve):
    ran = []

    async def count_tokens(request, passage):
        ran.append(request)
        return CountTokensResponse()

    served = await serve(count_tokens=count_tokens)
    client = await served.raw()
    await client.until(lambda: client.events)
    client.write(
        frame(GOAWAY, 0, 0, struct.pack(">II", 0, 1))
        + frame(HEADERS, END_HEADERS, 1, BLOCK)
        + frame(DATA, END_STREAM, 1, EMPTY)
    )
    await client.until_closed()
    assert (ran, served.server._load.calls) == ([], set())


async def test_the_goodbye_reaches_a_peer_that_is_still_writing(serve):
    served = await serve(linger_s=1.0)
    client = await served.raw()
    await client.until(lambda: client.events)
    client.writer.transport.pause_reading()
    client.write(flood(PING, 0, bytes(8), count=3_000))
    await eventually(lambda: served.log.named("connection.refused"))
    for _ in range(3):
        # A closed socket would answer this with a reset, and the reset would throw away what was not read yet.
        client.write(flood(PING, 0, bytes(8), count=100))
        await asyncio.sleep(0.005)
    client.writer.transport.resume_reading()
    await client.until_closed()
    assert client.goaway() is CALM


async def test_refusals_that_nobody_reads_do_not_pile_up(serve):
    served = await serve()
    client = await served.raw()
    client.follows = False
    await client.until(lambda: client.frames)
    client.writer.transport.pause_reading()
    # The two kernels would hold megabytes.
    (connection,) = served.server._load.connections
    connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    block = Encoder().encode([(name, value, True) for name, value in request_headers("/no.such/Method")])
    streams = iter(range(1, 2**30, 2))
    while served.server.connections:
        client.write(b"".join(frame(HEADERS, END_STREAM | END_HEADERS, next(streams), block) for _ in range(50)))
        await asyncio.sleep(0.001)
        assert next(streams) < 20_000
    assert connection._transport.get_write_buffer_size() < MIB
    assert {ended["status"] for ended in served.log.named("call.ended")} == {"UNIMPLEMENTED"}
    assert await works(served)


async def test_a_client_with_tiny_windows_is_no_attack(serve):
    async def chat(request, passage):
        for _ in range(100):
            yield ChatEvent(text=TextDelta(text="x" * 1_000))

    served = await serve(chat=chat, chatter_burst=50)
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 200})
    stream = client.request(request_headers(CHAT_PATH), EMPTY)
    assert (await client.ending(stream))["grpc-status"] == "0"
    assert len(client.of_kind(WINDOW_UPDATE)) < 50 < len(client.of_kind(DATA))
