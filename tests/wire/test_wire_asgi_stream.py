"""Everything that is not gRPC goes to the ASGI application, stream by stream, over HTTP/2."""

import asyncio
import shutil

import pytest
from asgi_apps import Noting
from h2.events import DataReceived, ResponseReceived, StreamReset, TrailersReceived, WindowUpdated
from h2.settings import SettingCodes
from wire_clients import END_HEADERS, END_STREAM, HEADERS, eventually, frame, message, request_headers

from gateway.wire import asgi

KIB = 1024


@pytest.fixture
def app():
    return Noting()


@pytest.fixture
def served(serve, app):
    return lambda **bounds: serve(web=app, **bounds)


def headers(path="/echo", *extra, method="POST"):
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", "gateway"), *extra]


async def answer(client, stream):
    fields = await client.ending(stream)
    return fields[":status"], client.body(stream)


async def test_streams_of_one_connection_are_routed_by_content_type(served, app):
    served = await served()
    client = await served.raw()
    grpc = client.request(body=message(b""))
    echo = client.request(headers("/echo", ("content-type", "application/json")), b"abc")
    web = client.request(headers("/echo", ("content-type", "application/grpc-web+proto")), b"def")
    plain = client.request(headers("/echo", method="GET"))
    with_parameter = client.request(request_headers(content_type="application/grpc;x=y"), message(b""))
    assert (await client.ending(grpc))["grpc-status"] == "0"
    assert (await client.ending(with_parameter))["grpc-status"] == "0"
    assert await answer(client, echo) == ("200", b"abc")
    assert await answer(client, web) == ("200", b"def")
    assert await answer(client, plain) == ("200", b"")
    assert len(app.scopes) == 3


async def test_the_scope_says_what_was_asked(served, app):
    served = await served()
    client = await served.raw()
    path = "/a%20b/%C3%BC?x=%31&y"
    await client.ending(client.request(headers(path, ("accept", "*/*"), ("b", "1"), ("b", "2")), b""))
    (scope,) = app.scopes
    assert scope["type"] == "http"
    assert scope["http_version"] == "2"
    assert (scope["method"], scope["scheme"], scope["path"]) == ("POST", "http", "/a b/\u00fc")
    assert (scope["raw_path"], scope["query_string"]) == (b"/a%20b/%C3%BC", b"x=%31&y")
    assert scope["headers"] == [(b"host", b"gateway"), (b"accept", b"*/*"), (b"b", b"1"), (b"b", b"2")]
    assert scope["client"][0] == "127.0.0.1"
    assert scope["server"][1] == served.port
    assert scope["extensions"].keys() - {asgi.PRESENCE} == {"http.response.trailers"}


async def test_large_bodies_go_both_ways(served):
    served = await served()
    client = await served.raw()
    body = bytes(range(256)) * 1_600
    stream = client.request(headers(), end=False)
    for at in range(0, len(body), 16_384):
        while client.h2.local_flow_control_window(stream) < 16_384:
            await client.read()
        client.data(stream, body[at : at + 16_384])
    client.data(stream, b"", end=True)
    assert await answer(client, stream) == ("200", body)


async def test_both_sides_may_stream_at_once(served):
    served = await served()
    client = await served.raw()
    stream = client.request(headers("/two-ways"), end=False)
    for word in (b"one", b"two"):
        client.data(stream, word)
        await client.until(lambda word=word: client.body(stream).endswith(word.upper()))
    client.data(stream, b"three", end=True)
    assert await answer(client, stream) == ("200", b"ONETWOTHREE")


async def test_a_known_body_is_announced_and_others_are_not(served):
    served = await served()
    client = await served.raw()
    assert (await client.ending(client.request(headers(), b"abc")))["content-length"] == "3"
    stream = client.request(headers("/pieces"))
    assert "content-length" not in await client.ending(stream)
    assert client.body(stream) == b"one two three"
    assert await answer(client, client.request(headers("/announced"))) == ("200", b"abcdef")
    assert await answer(client, client.request(headers("/empty"))) == ("204", b"")


async def test_a_head_request_gets_no_body(served):
    served = await served()
    client = await served.raw()
    stream = client.request(headers("/announced", method="HEAD"))
    assert (await client.ending(stream))["content-length"] == "6"
    assert client.body(stream) == b""


async def test_trailers(served):
    served = await served()
    client = await served.raw()
    stream = client.request(headers("/trailers"))
    assert (await client.ending(stream))["last"] == "word"
    assert client.body(stream) == b"body"
    assert client.of(TrailersReceived, stream)


async def test_the_window_opens_as_the_application_reads(served, app):
    app.may_read.clear()
    served = await served()
    client = await served.raw()
    await client.until(lambda: client.h2.outbound_flow_control_window > 65_535)
    stream = client.request(headers(), end=False)
    while client.h2.local_flow_control_window(stream) >= 16_000:
        client.data(stream, b"x" * 16_000)
    await eventually(lambda: served.server._load.receiving_bytes == 256_000)
    assert not client.of(WindowUpdated, stream)
    app.may_read.set()
    await client.until(lambda: client.h2.local_flow_control_window(stream) > 200 * KIB)
    client.data(stream, b"", end=True)
    assert (await answer(client, stream))[1] == b"x" * 256_000


async def test_all_requests_together_hold_a_bounded_number_of_bytes(served, app):
    app.may_read.clear()
    served = await served(receiving_bytes_max=30_000)
    client = await served.raw()
    client.request(headers(), b"x" * 16_000, end=False)
    other = client.request(headers(), b"x" * 16_000, end=False)
    fields = await client.ending(other)
    assert fields[":status"] == "503"
    assert fields["retry-after"] == "1"


async def test_a_slow_reader_slows_the_application(served, app):
    served = await served()
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 10_000}, acks=False)
    stream = client.request(headers("/endless"))
    await client.until(lambda: len(client.body(stream)) == 10_000)
    await asyncio.sleep(0.02)
    assert app.sent == 11
    client.reset(stream)
    await eventually(lambda: app.notes == ["OSError"])


async def test_a_reader_that_stops_reading_is_cut_off(served, app):
    served = await served(send_stall_s=0.03)
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 1_500}, acks=False)
    stream = client.request(headers("/endless"))
    await client.ending(stream)
    assert client.of(StreamReset, stream)[0].error_code == 2
    assert app.notes == ["OSError"]


async def test_a_caller_that_leaves_is_told_by_receive_and_nothing_is_cancelled(served, app, monkeypatch):
    monkeypatch.setattr(asgi, "UNNOTICED_S", 0.001)
    served = await served()
    client = await served.raw()
    stream = client.request(headers("/watching"))
    await eventually(lambda: app.scopes)
    client.reset(stream)
    await eventually(lambda: app.notes)
    assert app.notes == ["returned"]


async def test_an_application_that_does_not_listen_is_cancelled(served, app, monkeypatch):
    monkeypatch.setattr(asgi, "UNNOTICED_S", 0.02)
    served = await served()
    client = await served.raw()
    stream = client.request(headers("/deaf"))
    await eventually(lambda: app.scopes)
    client.reset(stream)
    await eventually(lambda: app.notes)
    assert app.notes == ["CancelledError"]
    client.request(headers("/deaf"))
    await eventually(lambda: len(app.scopes) == 2)
    client.writer.transport.abort()
    await eventually(lambda: len(app.notes) == 2)


@pytest.mark.parametrize("path", ["/fails", "/silent", "/bad-header", "/upper-header", "/body-first"])
async def test_what_an_application_fails_with_is_for_the_log(served, app, path):
    served = await served()
    client = await served.raw()
    stream = client.request(headers(path))
    status, body = await answer(client, stream)
    assert status == "500"
    assert b"internal error; quote request id req-" in body
    assert b"secret" not in body
    (failed,) = served.log.named("call.failed")
    assert failed["path"] == path
    assert failed["traceback"]


@pytest.mark.parametrize("path", ["/fails-late", "/too-long"])
async def test_an_answer_that_cannot_be_completed_is_seen_to_be_cut(served, path):
    served = await served()
    client = await served.raw()
    stream = client.request(headers(path))
    await client.ending(stream)
    assert client.of(StreamReset, stream)[0].error_code == 2
    assert served.log.named("call.failed")
    assert (await answer(client, client.request(headers(), b"abc"))) == ("200", b"abc")


async def test_headers_of_the_connection_are_not_the_application_s(served):
    served = await served()
    client = await served.raw()
    fields = await client.ending(client.request(headers("/connection-header")))
    assert fields == {":status": "200", "a": "b", "content-length": "2"}


async def test_an_answer_before_the_end_of_the_request_asks_for_no_more(served):
    served = await served()
    client = await served.raw()
    stream = client.request(headers("/empty"), end=False)
    assert (await answer(client, stream))[0] == "204"
    await client.until(lambda: client.of(StreamReset, stream))
    assert client.of(StreamReset, stream)[0].error_code == 0


@pytest.mark.parametrize(
    "fields",
    [
        headers("*"),
        headers("echo"),
        headers("/", method="CONNECT"),
        headers("/", ("host", "other")),
        headers("/", ("host", "gateway"), ("host", "gateway")),
        headers("/", ("connection", "close")),
        headers("/", ("Upper", "a")),
        headers("/", ("a", "b\nc")),
        headers("/")[1:],
        headers("/", method="GET /x"),
        [(":method", "GET"), (":scheme", "ftp"), (":path", "/"), (":authority", "gateway")],
    ],
    ids=[
        "asterisk",
        "no-slash",
        "connect",
        "host",
        "hosts",
        "connection",
        "upper",
        "newline",
        "no-method",
        "method",
        "scheme",
    ],
)
async def test_what_is_no_request_is_reset(served, app, fields):
    served = await served()
    client = await served.raw()
    stream = client.request(fields)
    await client.ending(stream)
    assert client.of(StreamReset, stream)[0].error_code == 1
    assert not app.scopes
    await served.quiet()


@pytest.mark.parametrize(
    "fields, status",
    [(headers("/%ff"), "400"), (headers("/", ("a", "x" * 40_000)), "431")],
    ids=["path", "headers"],
)
async def test_what_cannot_be_given_to_an_application_is_refused(served, app, fields, status):
    served = await served()
    client = await served.raw()
    if status == "431":
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, fields, end_stream=True)
        client.flush()
    else:
        stream = client.request(fields)
    assert (await client.ending(stream))[":status"] == status
    assert not app.scopes


async def test_a_declared_body_must_come_in_time(served, app):
    served = await served(body_s=0.03)
    client = await served.raw()
    slow = client.request(headers("/echo", ("content-length", "10")), b"abc", end=False)
    assert (await client.ending(slow))[":status"] == "408"
    # One of no declared length may be a stream, on which a caller may be silent.
    quiet = client.request(headers("/two-ways"), b"abc", end=False)
    await asyncio.sleep(0.05)
    client.data(quiet, b"def", end=True)
    assert (await answer(client, quiet)) == ("200", b"ABCDEF")


async def test_a_drain_lets_exchanges_end_and_takes_no_new_ones(served, app):
    served = await served()
    client = await served.raw()
    stream = client.request(headers("/two-ways"), b"abc", end=False)
    await client.until(lambda: client.body(stream))
    drain = asyncio.get_running_loop().create_task(served.server.drain(2))
    await eventually(lambda: served.server._load.draining)
    late = client.request(headers("/echo"), b"abc")
    fields = await client.ending(late)
    assert (fields[":status"], fields["retry-after"]) == ("503", "1")
    client.data(stream, b"def", end=True)
    assert (await answer(client, stream)) == ("200", b"ABCDEF")
    assert (await drain).cut == 0


async def test_a_drain_answers_for_an_application_that_does_not_end(served, app, monkeypatch):
    monkeypatch.setattr(asgi, "UNNOTICED_S", 0.01)
    served = await served(drain_end_s=0.02)
    client = await served.raw()
    stream = client.request(headers("/deaf"))
    await eventually(lambda: app.scopes)
    drained = await served.server.drain(0.02)
    assert (drained.cut, drained.abandoned) == (1, 1)
    assert (await client.ending(stream))[":status"] == "503"
    await eventually(lambda: app.notes == ["CancelledError"])


async def test_rapid_reset_is_bounded_here_too(served, app):
    served = await served()
    client = await served.raw()
    block = client.h2.encoder.encode([(name, value, True) for name, value in headers("/deaf")])
    attack = b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, stream, block) + frame(3, 0, stream, bytes((0, 0, 0, 8)))
        for stream in range(1, 4_000, 2)
    )
    client.write(attack)
    await client.until_closed()
    assert client.goaway() == 11
    await served.quiet()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
async def test_curl(served, version):
    served = await served()
    command = ("curl", "-sS", version, "--data-binary", "x" * 100_000, f"http://{served.target}/echo")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert out == b"x" * 100_000


async def test_the_first_event_of_an_answer_is_its_head(served):
    served = await served()
    client = await served.raw()
    stream = client.request(headers(), b"abc")
    await client.ending(stream)
    kinds = [type(event) for event in client.events if getattr(event, "stream_id", None) == stream]
    assert kinds[:2] == [ResponseReceived, DataReceived]
