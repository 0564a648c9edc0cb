"""HTTP/1.1 on the same port: honest clients, and those that try what its long history allows (rows 37 and 42)."""

import asyncio
import contextlib
import http.client
import socket

import aiohttp
import pytest
from asgi_apps import Noting
from wire_clients import cost_below, eventually, grpcio, stub

from gateway.wire.asgi import PRESENCE
from generated.agentic.gateway.v1 import CountTokensRequest

MIB = 1024 * 1024
GET = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def app():
    return Noting()


@pytest.fixture
def served(serve, app):
    return lambda **bounds: serve(web=app, **bounds)


class Plain:
    """A socket that writes what it is told."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, served):
        client = cls(*await asyncio.open_connection("127.0.0.1", served.port))
        served.clients.append(client)
        return client

    def write(self, data):
        self.writer.write(data)

    async def head(self, limit_s=5):
        async with asyncio.timeout(limit_s):
            raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = raw[:-4].split("\r\n")
        return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines)

    async def answer(self):
        status, fields = await self.head()
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                assert await self.reader.readline() == b"\r\n"
            assert await self.reader.readline() == b"\r\n"
            return status, fields, body
        return status, fields, await self.reader.readexactly(int(fields.get("content-length", 0)))

    async def rest(self, limit_s=5):
        """Everything until the connection closes."""
        async with asyncio.timeout(limit_s):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def close(self):
        self.writer.transport.abort()


async def test_one_port_takes_grpc_and_http_1(served, app):
    served = await served()
    async with aiohttp.ClientSession() as session:
        for number in range(3):
            async with session.post(f"http://{served.target}/echo?{number}", data=b"x" * 300_000) as reply:
                assert (reply.status, await reply.read()) == (200, b"x" * 300_000)
        assert served.server.connections == 1
    async with grpcio(served) as channel:
        assert (await stub(channel, "CountTokens")(CountTokensRequest(model="abc"))).input_tokens == 3
    assert [scope["query_string"] for scope in app.scopes] == [b"0", b"1", b"2"]


async def test_pythons_own_client(served):
    served = await served()

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)
        seen = []
        for path in ("/pieces", "/announced", "/empty", "/connection-header"):
            connection.request("GET", path)
            reply = connection.getresponse()
            seen.append((reply.status, reply.read()))
        connection.close()
        return seen

    expected = [(200, b"one two three"), (200, b"abcdef"), (204, b""), (200, b"ok")]
    assert await asyncio.to_thread(ask) == expected


async def test_the_scope_says_what_was_asked(served, app):
    served = await served()
    client = await Plain.open(served)
    client.write(b"PUT /a%20b?x=%31 HTTP/1.1\r\nhOsT: me\r\nA:  b \r\nContent-Length: 2\r\n\r\nhi")
    status, fields, body = await client.answer()
    assert (status, body) == (200, b"hi")
    assert fields["content-type"] == "text/plain"
    assert fields["date"].endswith(" GMT")
    (scope,) = app.scopes
    assert (scope["http_version"], scope["method"], scope["path"]) == ("1.1", "PUT", "/a b")
    assert (scope["raw_path"], scope["query_string"]) == (b"/a%20b", b"x=%31")
    assert scope["headers"] == [(b"host", b"me"), (b"a", b"b"), (b"content-length", b"2")]
    assert scope["client"][0] == "127.0.0.1"
    assert scope["extensions"].keys() <= {PRESENCE}


async def test_framing_of_answers(served):
    served = await served()
    client = await Plain.open(served)
    for path, expected in (
        ("/pieces", (200, "chunked", b"one two three")),
        ("/announced", (200, None, b"abcdef")),
        ("/empty", (204, None, b"")),
    ):
        client.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        status, fields, body = await client.answer()
        assert (status, fields.get("transfer-encoding"), body) == expected
    client.write(b"GET /connection-header HTTP/1.1\r\nHost: a\r\n\r\n")
    _, fields, _ = await client.answer()
    assert fields.keys() == {"date", "a", "content-length"}


@pytest.mark.parametrize("path", ["/announced", "/pieces", "/echo", "/fails"])
async def test_a_head_request_gets_no_body_and_the_connection_goes_on(served, path):
    served = await served()
    client = await Plain.open(served)
    client.write(f"HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() + GET)
    await client.head()
    assert (await client.answer())[0] == 200


async def test_http_1_0_ends_with_the_connection(served):
    served = await served()
    client = await Plain.open(served)
    client.write(b"GET /pieces HTTP/1.0\r\n\r\n")
    status, fields = await client.head()
    assert (status, fields["connection"]) == (200, "close")
    assert "transfer-encoding" not in fields
    assert await client.rest() == b"one two three"


async def test_requests_that_are_sent_ahead_are_answered_in_order(served, app):
    served = await served()
    client = await Plain.open(served)
    client.write(b"".join(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n%d" % n for n in range(9)))
    assert [(await client.answer())[2] for _ in range(9)] == [b"%d" % n for n in range(9)]


async def test_the_next_request_waits_for_the_end_of_the_first(served, app):
    served = await served()
    client = await Plain.open(served)
    client.write(b"GET /deaf HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    await eventually(lambda: app.scopes)
    await asyncio.sleep(0.01)
    assert len(app.scopes) == 1


async def pushed_until_stuck(client):
    pushed = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            while True:
                client.write(b"x" * 65_536)
                await client.writer.drain()
                pushed += 65_536
    return pushed


async def test_what_is_sent_ahead_is_held_up_to_a_window(served, app):
    served = await served(stream_window_bytes=65_535)
    client = await Plain.open(served)
    with cost_below(2 * MIB):
        client.write(b"GET /deaf HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: app.scopes)
        client.writer.transport.set_write_buffer_limits(high=0)
        pushed = await pushed_until_stuck(client)
    # What the kernel's own buffers take on loopback, and no more.
    assert pushed < 16 * MIB
    (connection,) = served.server._load.connections
    assert connection._reader.held < 65_535 + 262_144 + 1


async def test_a_slow_application_slows_its_caller(served, app):
    app.may_read.clear()
    served = await served()
    client = await Plain.open(served)
    client.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n")
    for _ in range(61):
        client.write(b"x" * 65_536)
    client.write(b"x" * (4_000_000 - 61 * 65_536))
    await eventually(lambda: served.server._load.receiving_bytes > 262_144)
    await asyncio.sleep(0.02)
    assert served.server._load.receiving_bytes <= 2 * 262_144
    app.may_read.set()
    assert len((await client.answer())[2]) == 4_000_000


async def test_a_slow_reader_slows_the_application(served, app):
    served = await served(write_stall_s=0.3)
    client = await Plain.open(served)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.reader._transport.pause_reading()
    client.write(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    before = -1
    while before != app.sent:
        before = app.sent
        await asyncio.sleep(0.05)
    assert app.sent < 20_000
    # It is gone when it reads nothing for too long.
    await eventually(lambda: app.notes == ["OSError"])


async def test_100_continue_is_said_when_the_body_is_wanted(served, app):
    served = await served()
    client = await Plain.open(served)
    client.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert (await client.head())[0] == 100
    client.write(b"abc")
    assert (await client.answer())[2] == b"abc"
    client.write(b"POST /empty HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    status, fields = await client.head()
    # Nobody will read that body: it cannot be told from the next request.
    assert (status, fields["connection"]) == (204, "close")
    assert await client.rest() == b""


async def test_an_answer_before_the_end_of_its_request_is_the_last(served):
    served = await served()
    client = await Plain.open(served)
    client.write(b"POST /empty HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n" + GET[:10])
    assert (await client.head())[1]["connection"] == "close"
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "data, status",
    [
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + b"0\r\n\r\n", 400),
        (GET.replace(b"\r\n", b"\n"), 400),
        (GET.replace(b"\r\n\r\n", b"\r\nA: b\r\n c\r\n\r\n"), 400),
        (CHUNKED + b"1;a=b\r\nx\r\n0\r\n\r\n", 400),
        (GET.replace(b"HTTP/1.1", b"HTTP/3.0"), 505),
        (GET.replace(b"\r\n\r\n", b"\r\nA: " + b"x" * 40_000 + b"\r\n\r\n"), 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400),
        (GET.replace(b"/echo", b"/%ff"), 400),
    ],
    ids=["cl-te", "bare-lf", "obs-fold", "chunk-extension", "version", "header-bomb", "tls", "path"],
)
async def test_smuggling_is_answered_and_the_connection_closed(served, app, data, status):
    served = await served()
    client = await Plain.open(served)
    # What is behind it must not be taken for a request.
    client.write(data + GET)
    found, fields = await client.head()
    assert (found, fields["connection"]) == (status, "close")
    assert b"HTTP/1.1 200" not in await client.rest()
    assert all(note != "returned" for note in app.notes)
    await eventually(lambda: served.server.connections == 0)


async def test_h2c_upgrade_is_ignored(served):
    served = await served()
    client = await Plain.open(served)
    upgrade = b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    client.write(GET.replace(b"\r\n\r\n", upgrade))
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    "beginning",
    [b"", b"P", b"PRI", b"GET / HT", GET[:-2], GET + GET[:10]],
    ids=["silent", "one-byte", "half-preface", "half-line", "half-head", "half-second-head"],
)
async def test_a_head_must_come_in_time(served, beginning):
    served = await served(preface_s=0.05)
    client = await Plain.open(served)
    client.write(beginning)
    await client.rest()
    await eventually(lambda: served.server.connections == 0)


async def test_a_head_in_crumbs_has_the_same_time(served):
    served = await served(preface_s=0.1)
    client = await Plain.open(served)
    loop = asyncio.get_running_loop()
    start = loop.time()
    while served.server.connections or loop.time() - start < 0.02:
        client.write(b"G")
        await asyncio.sleep(0.005)
    assert loop.time() - start < 1


@pytest.mark.parametrize(
    "data",
    [CHUNKED + b"5\r\nab", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"],
    ids=["chunked", "length"],
)
async def test_a_body_must_come_in_time(served, data):
    served = await served(body_s=0.05)
    client = await Plain.open(served)
    client.write(data)
    status, fields = await client.head()
    assert (status, fields["connection"]) == (408, "close")
    await eventually(lambda: served.server.connections == 0)


async def test_a_connection_without_requests_is_closed(served):
    served = await served(idle_s=0.05)
    client = await Plain.open(served)
    client.write(GET)
    assert (await client.answer())[0] == 200
    assert await client.rest() == b""


async def test_more_connections_than_the_bound_get_no_word(served):
    served = await served(connections_max=2)
    first = await Plain.open(served)
    silent = await Plain.open(served)
    first.write(GET)
    assert (await first.answer())[0] == 200
    third = await Plain.open(served)
    assert await third.rest() == b""
    await silent.close()
    await eventually(lambda: served.server.connections == 1)
    fourth = await Plain.open(served)
    fourth.write(GET)
    assert (await fourth.answer())[0] == 200


async def test_a_caller_that_leaves_is_told_to_the_application(served, app):
    served = await served()
    client = await Plain.open(served)
    client.write(b"GET /watching HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: app.scopes)
    client.writer.close()
    await eventually(lambda: app.notes == ["returned"])
    assert not served.log.named("call.failed")


async def test_what_an_application_fails_with_is_for_the_log(served, app):
    served = await served()
    client = await Plain.open(served)
    client.write(b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    status, _, body = await client.answer()
    assert status == 500
    assert b"internal error; quote request id req-" in body
    assert b"secret" not in body
    assert served.log.named("call.failed")
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize("path", ["/fails-late", "/too-long"])
async def test_an_answer_that_cannot_be_completed_is_seen_to_be_cut(served, path):
    served = await served()
    client = await Plain.open(served)
    client.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() + GET)
    rest = await client.rest()
    assert not rest.endswith(b"0\r\n\r\n")
    assert rest.count(b"HTTP/1.1 ") == 1


async def test_a_drain_lets_the_answer_end_and_says_close(served, app):
    served = await served()
    busy = await Plain.open(served)
    busy.write(b"POST /two-ways HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    await busy.head()
    idle = await Plain.open(served)
    idle.write(GET)
    await idle.answer()
    silent = await Plain.open(served)
    await eventually(lambda: served.server.connections == 3)
    drain = asyncio.get_running_loop().create_task(served.server.drain(2))
    assert await idle.rest() == b""
    assert await silent.rest() == b""
    busy.write(b"1\r\nb\r\n0\r\n\r\n" + GET)
    rest = await busy.rest()
    assert rest == b"1\r\nA\r\n1\r\nB\r\n0\r\n\r\n"
    assert (await drain).cut == 0


async def test_small_writes_are_not_held_back(served, app):
    """TCP_NODELAY: without it, an answer in two writes waits 40 ms for the caller's delayed acknowledgement."""
    served = await served()
    client = await Plain.open(served)
    client.write(GET)
    await client.answer()
    (connection,) = served.server._load.connections
    own = connection._transport.get_extra_info("socket")
    assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    raw = await served_raw(served)
    (other,) = {*served.server._load.connections} - {connection}
    own = other._transport.get_extra_info("socket")
    assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await raw.close()


async def served_raw(served):
    raw = await served.raw()
    await raw.until(lambda: raw.frames)
    return raw
