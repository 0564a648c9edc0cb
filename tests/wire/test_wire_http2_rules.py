"""The rules of HTTP/2 frame by frame, as h2spec asks for them: errors of a stream, of the connection, and none.

Every case is tried on a fresh connection and on one whose frames are read the fast way, and cut in crumbs as well.
"""

import asyncio
import struct

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from wire_clients import (
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
    frame,
    message,
    request_headers,
)

PADDED, WITH_PRIORITY = 0x8, 0x20
EMPTY = message(b"")


def block(*extra):
    """A header block that leaves no trace in the compression table."""
    return Encoder().encode([(name, value, True) for name, value in request_headers("/a.B/C", *extra)])


def headers(stream, flags=END_HEADERS | END_STREAM, fragment=None):
    return frame(HEADERS, flags, stream, block() if fragment is None else fragment)


def opened(stream, *extra):
    """A call of a method that waits for its message."""
    path = "/agentic.gateway.v1.ModelService/CountTokens"
    fields = [(name, value, True) for name, value in request_headers(path, *extra)]
    return frame(HEADERS, END_HEADERS, stream, Encoder().encode(fields))


def number(value):
    return struct.pack(">I", value)


def setting(name, value):
    return struct.pack(">HI", name, value)


CONNECTION_ERRORS = {
    "4.2-frame-too-large": (frame(DATA, 0, 3, bytes(16_385)), "FRAME_SIZE_ERROR"),
    "4.2-unknown-frame-too-large": (frame(0xBE, 0, 0, bytes(16_385)), "FRAME_SIZE_ERROR"),
    "4.3-bad-block": (headers(3, fragment=b"\x80"), "PROTOCOL_ERROR|COMPRESSION_ERROR"),
    "4.3-block-cut-off": (headers(3, fragment=block()[:-1]), "PROTOCOL_ERROR|COMPRESSION_ERROR"),
    "4.3-bad-block-of-trailers": (opened(3) + headers(3, fragment=b"\xff\xff\xff\xff\xff\xff"), "PROTOCOL_ERROR"),
    "5.1-data-on-idle": (frame(DATA, END_STREAM, 3, EMPTY), "PROTOCOL_ERROR"),
    "5.1-reset-on-idle": (frame(RST_STREAM, 0, 3, number(8)), "PROTOCOL_ERROR"),
    "5.1-window-on-idle": (frame(WINDOW_UPDATE, 0, 3, number(1)), "PROTOCOL_ERROR"),
    "5.1.1-even-stream": (headers(2), "PROTOCOL_ERROR"),
    "5.1.1-smaller-stream": (headers(5) + headers(3), "PROTOCOL_ERROR|STREAM_CLOSED"),
    "6.1-data-on-0": (frame(DATA, 0, 0, EMPTY), "PROTOCOL_ERROR"),
    "6.1-all-padding": (opened(3) + frame(DATA, PADDED, 3, b"\x05abcd"), "PROTOCOL_ERROR"),
    "6.2-headers-on-0": (headers(0), "PROTOCOL_ERROR"),
    "6.2-all-padding": (headers(3, END_HEADERS | PADDED, b"\xff" + block()), "PROTOCOL_ERROR"),
    "6.2-other-frame-within-a-block": (
        headers(3, END_STREAM) + frame(PING, 0, 0, bytes(8)),
        "PROTOCOL_ERROR",
    ),
    "6.2-plain-frames-within-a-block": (
        opened(3) + headers(5, END_STREAM) + frame(DATA, END_STREAM, 3, EMPTY),
        "PROTOCOL_ERROR",
    ),
    "6.2-window-within-a-block": (headers(3, END_STREAM) + frame(WINDOW_UPDATE, 0, 0, number(1)), "PROTOCOL_ERROR"),
    "6.2-headers-within-a-block": (headers(3, END_STREAM) + headers(5), "PROTOCOL_ERROR"),
    "6.3-priority-on-0": (frame(PRIORITY, 0, 0, bytes(5)), "PROTOCOL_ERROR"),
    "6.4-reset-on-0": (frame(RST_STREAM, 0, 0, number(8)), "PROTOCOL_ERROR"),
    "6.4-reset-of-another-size": (opened(3) + frame(RST_STREAM, 0, 3, bytes(3)), "FRAME_SIZE_ERROR"),
    "6.5-settings-on-a-stream": (frame(SETTINGS, 0, 3, b""), "PROTOCOL_ERROR"),
    "6.5-settings-of-another-size": (frame(SETTINGS, 0, 0, bytes(5)), "FRAME_SIZE_ERROR"),
    "6.5-acknowledgement-with-settings": (frame(SETTINGS, 1, 0, setting(4, 1)), "FRAME_SIZE_ERROR|PROTOCOL_ERROR"),
    "6.5.2-window-too-large": (frame(SETTINGS, 0, 0, setting(4, 2**31)), "FLOW_CONTROL_ERROR"),
    "6.5.2-push-neither-0-nor-1": (frame(SETTINGS, 0, 0, setting(2, 2)), "PROTOCOL_ERROR"),
    "6.5.2-frame-size-too-small": (frame(SETTINGS, 0, 0, setting(5, 16_383)), "PROTOCOL_ERROR"),
    "6.5.2-frame-size-too-large": (frame(SETTINGS, 0, 0, setting(5, 2**24)), "PROTOCOL_ERROR"),
    "6.6-push-promise": (opened(3) + frame(PUSH_PROMISE, END_HEADERS, 3, number(2) + block()), "PROTOCOL_ERROR"),
    "6.7-ping-on-a-stream": (frame(PING, 0, 3, bytes(8)), "PROTOCOL_ERROR"),
    "6.7-ping-of-another-size": (frame(PING, 0, 0, bytes(7)), "FRAME_SIZE_ERROR"),
    "6.8-goaway-on-a-stream": (frame(GOAWAY, 0, 3, bytes(8)), "PROTOCOL_ERROR"),
    "6.9-window-by-0": (frame(WINDOW_UPDATE, 0, 0, number(0)), "PROTOCOL_ERROR"),
    "6.9-window-of-another-size": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), "FRAME_SIZE_ERROR"),
    "6.9.1-window-too-large": (frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1)), "FLOW_CONTROL_ERROR"),
    "6.10-continuation-alone": (frame(CONTINUATION, END_HEADERS, 3, block()), "PROTOCOL_ERROR"),
    "6.10-continuation-after-the-end": (
        opened(3) + frame(CONTINUATION, END_HEADERS, 3, block()),
        "PROTOCOL_ERROR",
    ),
    "6.10-continuation-of-another-stream": (
        headers(3, END_STREAM) + frame(CONTINUATION, END_HEADERS, 5, b""),
        "PROTOCOL_ERROR",
    ),
    "6.10-continuation-on-0": (frame(CONTINUATION, END_HEADERS, 0, block()), "PROTOCOL_ERROR"),
}

STREAM_ERRORS = {
    "8.1.1-no-method": (headers(3, fragment=Encoder().encode(request_headers()[1:])), "PROTOCOL_ERROR"),
    "8.1.1-body-longer-than-announced": (
        opened(3, ("content-length", "3")) + frame(DATA, END_STREAM, 3, EMPTY),
        "PROTOCOL_ERROR",
    ),
    "8.1.1-body-shorter-than-announced": (
        opened(3, ("content-length", "9")) + frame(DATA, END_STREAM, 3, EMPTY),
        "PROTOCOL_ERROR",
    ),
    "8.1.1-padded-body-longer-than-announced": (
        opened(3, ("content-length", "3")) + frame(DATA, END_STREAM | PADDED, 3, b"\x01" + EMPTY + b"\0"),
        "PROTOCOL_ERROR",
    ),
    "8.1.1-announced-body-that-never-begins": (
        headers(3, fragment=block(("content-length", "1"))),
        "PROTOCOL_ERROR",
    ),
    "8.1.1-two-lengths": (opened(3, ("content-length", "5"), ("content-length", "5")), "PROTOCOL_ERROR"),
    "8.1.1-length-in-words": (opened(3, ("content-length", "five")), "PROTOCOL_ERROR"),
    "5.1-data-after-the-end": (
        opened(3) + frame(DATA, END_STREAM, 3, b"\0") + frame(DATA, END_STREAM, 3, EMPTY),
        "STREAM_CLOSED",
    ),
    "6.9.1-window-of-a-stream-too-large": (
        opened(3) + frame(WINDOW_UPDATE, 0, 3, number(2**31 - 1)),
        "FLOW_CONTROL_ERROR",
    ),
}

FINE = {
    "4.1-unknown-frame": frame(0xBE, 0xFF, 0, b"x") + frame(0xBE, 0, 9, b"x"),
    "4.1-reserved-bit": struct.pack(">IBI", len(block()) << 8 | HEADERS, 5, 3 | 2**31) + block(),
    "4.1-unknown-flags": frame(PING, 0xF0, 0, bytes(8)),
    "5.1-window-and-reset-after-the-end": headers(3)
    + frame(WINDOW_UPDATE, 0, 3, number(1))
    + frame(RST_STREAM, 0, 3, number(8)),
    "5.1-priority-on-idle": frame(PRIORITY, 0, 9, number(0) + b"\x01"),
    "6.1-padded-data": opened(3) + frame(DATA, END_STREAM | PADDED, 3, b"\x03" + EMPTY + bytes(3)),
    "6.2-padded-headers": headers(3, END_HEADERS | END_STREAM | PADDED, b"\x03" + block() + bytes(3)),
    "6.2-with-priority": headers(3, END_HEADERS | END_STREAM | WITH_PRIORITY, number(0) + b"\x10" + block()),
    "6.5.2-unknown-setting": frame(SETTINGS, 0, 0, setting(0xABCD, 1)),
    "6.9.2-window-of-0-for-a-while": opened(3)
    + frame(SETTINGS, 0, 0, setting(4, 0))
    + frame(DATA, END_STREAM, 3, EMPTY)
    + frame(SETTINGS, 0, 0, setting(4, 65_535)),
    "6.10-continuation": headers(3, END_STREAM, block()[:7])
    + frame(CONTINUATION, 0, 3, block()[7:9])
    + frame(CONTINUATION, END_HEADERS, 3, block()[9:]),
    "8.1-trailers": opened(3) + frame(DATA, 0, 3, EMPTY) + headers(3, fragment=Encoder().encode([("a", "b")])),
    "8.1.1-the-announced-body": opened(3, ("content-length", "5")) + frame(DATA, END_STREAM, 3, EMPTY),
}

CASES = pytest.mark.parametrize(
    "warm, crumbs", [(False, False), (True, False), (True, True)], ids=["cold", "warm", "cut"]
)


async def sent(served, data, *, warm, crumbs):
    """Write past the client's own h2; on a warm connection, stream 1 has had its answer."""
    client = await served.raw()
    if warm:
        assert (await client.ending(client.request(body=EMPTY)))["grpc-status"] == "0"
    client.follows = False
    size = max(1, len(data) // 400) if crumbs else len(data)
    for at in range(0, len(data), size):
        client.write(data[at : at + size])
    return client


@CASES
@pytest.mark.parametrize("data, error", CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS.keys())
async def test_errors_of_the_connection(serve, data, error, warm, crumbs):
    served = await serve()
    client = await sent(served, data, warm=warm, crumbs=crumbs)
    await client.until_closed()
    assert client.goaway() in {ErrorCodes[name] for name in error.split("|")}
    await served.quiet()


@CASES
@pytest.mark.parametrize("data, error", STREAM_ERRORS.values(), ids=STREAM_ERRORS.keys())
async def test_errors_of_a_stream_end_no_other(serve, data, error, warm, crumbs):
    served = await serve()
    client = await sent(served, data + opened(7) + frame(DATA, END_STREAM, 7, EMPTY), warm=warm, crumbs=crumbs)
    await client.until(lambda: client.of_kind(RST_STREAM))
    _, _, stream, code = client.of_kind(RST_STREAM)[0]
    assert (stream, ErrorCodes(struct.unpack(">I", code)[0])) == (3, ErrorCodes[error])
    await client.until(lambda: [kind for kind, flags, stream, _ in client.frames if stream == 7 and flags & END_STREAM])
    assert client.goaway() is None


@CASES
@pytest.mark.parametrize("data", FINE.values(), ids=FINE.keys())
async def test_what_is_unusual_and_no_error(serve, data, warm, crumbs):
    served = await serve()
    client = await sent(served, data + opened(7) + frame(DATA, END_STREAM, 7, EMPTY), warm=warm, crumbs=crumbs)
    await client.until(lambda: [kind for kind, flags, stream, _ in client.frames if stream == 7 and flags & END_STREAM])
    assert client.goaway() is None
    if len(data) > 60:
        assert [kind for kind, flags, stream, _ in client.frames if stream == 3 and flags & END_STREAM]


async def test_a_connection_begins_with_settings(serve):
    served = await serve()
    for first in (
        frame(PING, 0, 0, bytes(8)),
        headers(1),
        frame(SETTINGS, 1, 0, b""),
        frame(WINDOW_UPDATE, 0, 0, number(1)),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + first)
        async with asyncio.timeout(5):
            received = await reader.read()
        assert received.endswith(number(ErrorCodes.PROTOCOL_ERROR))
        writer.close()


async def test_a_frame_too_large_is_refused_by_its_head(serve):
    served = await serve()
    client = await served.raw()
    client.write(struct.pack(">IBI", (2**24 - 1) << 8, 0, 1))
    await client.until_closed()
    assert client.goaway() is ErrorCodes.FRAME_SIZE_ERROR
