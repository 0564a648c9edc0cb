"""Connect's streams through ASGI alone."""

import asyncio
import gzip
import json

import pytest
from web_echo import Web, details, envelope, eventually, reply, request

from gateway.terms.verdict import Kind, Refusal, RefusedError
from gateway.wire.web.options import WebOptions
from generated.agentic.gateway.v1 import Operation

JSON = "application/connect+json"
CODECS = pytest.mark.parametrize("codec", ["json", "proto"])


def end_of(exchange):
    """The EndStreamResponse, which is the last envelope and the only one of its kind."""
    flags = [flag for flag, _ in exchange.envelopes]
    assert flags[-1] == 2
    assert not any(flag & 2 for flag in flags[:-1])
    return json.loads(exchange.envelopes[-1][1])


def reason(exchange):
    return details(end_of(exchange)["error"])["google.rpc.ErrorInfo"]["reason"]


def replies(exchange, codec="json"):
    return [
        reply(gzip.decompress(data) if flag & 1 else data, codec).id
        for flag, data in exchange.envelopes
        if not flag & 2
    ]


@CODECS
async def test_a_server_stream(codec):
    web = Web()
    content_type = f"application/connect+{codec}"
    done = await web.call("Tell", envelope(request(codec, tool="t")), content_type)
    assert (done.status, done.headers["content-type"]) == (200, content_type)
    assert replies(done, codec) == ["t0", "t1", "t2"]
    end = end_of(done)
    assert "error" not in end
    assert end["metadata"]["gateway-timing"][0].startswith("wire;dur=")
    assert web.quiet()


@CODECS
async def test_a_client_stream(codec):
    body = b"".join(envelope(request(codec, tool=tool)) for tool in ("a", "b", "c"))
    done = await Web().call("Collect", body, f"application/connect+{codec}")
    assert replies(done, codec) == ["a+b+c"]
    # One reply, the end: one write.
    assert len(done.pieces) == 1


async def test_requests_may_come_in_any_pieces():
    body = b"".join(envelope(request(tool=tool)) for tool in ("abc", "", "d"))
    exchange = Web().open("Collect", JSON)
    for byte in body:
        exchange.write(bytes((byte,)))
    exchange.write(b"", more=False)
    await exchange.ended()
    assert replies(exchange) == ["abc++d"]


async def test_no_request_at_all_is_a_stream_of_none():
    assert replies(await Web().call("Collect", b"", JSON)) == [""]
    assert replies(await Web().call("Talk", b"", JSON)) == []


async def test_both_directions_are_open_at_once():
    web = Web()
    exchange = web.open("Talk", JSON)
    for tool in ("one", "two"):
        exchange.write(envelope(request(tool=tool)))
        await exchange.until(lambda tool=tool: exchange.pieces and tool.encode() in exchange.pieces[-1])
    exchange.write(b"", more=False)
    await exchange.ended()
    assert replies(exchange) == ["one", "two"]
    assert web.quiet()


@pytest.mark.parametrize("name", ["Tell", "Say"])
async def test_unary_and_streaming_content_types_are_not_exchanged(name):
    wrong = "application/json" if name == "Tell" else JSON
    done = await Web().call(name, b"{}", wrong)
    assert done.status == 415
    assert wrong not in done.headers["accept-post"].split(", ")


@pytest.mark.parametrize("body", [b"", envelope(b"{}") * 2])
async def test_one_request_is_neither_none_nor_two(body):
    done = await Web().call("Tell", body, JSON)
    assert (done.status, end_of(done)["error"]["code"]) == (200, "unimplemented")


@pytest.mark.parametrize(
    "body,found",
    [
        (envelope(b"{}", 2), "wire.flag_malformed"),
        (envelope(b"{}", 1), "wire.flag_malformed"),
        (envelope(b"{}")[:-1], "wire.message_cut_off"),
        (envelope(b"{")[:3], "wire.message_cut_off"),
        (envelope(b"{"), "wire.message_malformed"),
    ],
)
@pytest.mark.parametrize("name", ["Tell", "Collect"])
async def test_what_is_no_request_is_refused(name, body, found):
    web = Web()
    assert reason(await web.call(name, body, JSON)) == found
    assert web.quiet()


@pytest.mark.parametrize("name", ["Tell", "Collect", "Talk"])
async def test_a_message_beyond_the_bound_is_refused_by_its_prefix(name):
    web = Web(bounds={"message_bytes_max": 1_000})
    exchange = web.open(name, JSON)
    exchange.write(envelope(b"x" * 1_001)[:5])
    await exchange.ended()
    assert end_of(exchange)["error"]["code"] == "resource_exhausted"
    assert web.quiet()


@pytest.mark.parametrize("name", ["Tell", "Collect"])
async def test_a_compressed_message_is_inflated_within_the_bound(name):
    web = Web(bounds={"message_bytes_max": 1_000})
    good = envelope(gzip.compress(request(tool="g")), 1)
    done = await web.call(name, good, JSON, ("connect-content-encoding", "gzip"))
    assert replies(done)[0][0] == "g"
    bomb = envelope(gzip.compress(b" " * 100_000), 1)
    done = await web.call(name, bomb, JSON, ("connect-content-encoding", "gzip"))
    assert end_of(done)["error"]["code"] == "resource_exhausted"


async def test_an_unknown_compression_is_refused():
    done = await Web().call("Tell", envelope(b"{}"), JSON, ("connect-content-encoding", "br"))
    assert end_of(done)["error"]["code"] == "unimplemented"
    assert done.headers["connect-accept-encoding"] == "gzip"


async def test_long_messages_are_compressed_one_by_one():
    async def tell(request, passage):
        yield Operation(id="short")
        yield Operation(id="x" * 2_000)

    done = await Web(tell=tell).call("Tell", envelope(b"{}"), JSON, ("connect-accept-encoding", "br, gzip"))
    assert done.headers["connect-content-encoding"] == "gzip"
    assert [flag for flag, _ in done.envelopes] == [0, 1, 2]
    assert replies(done) == ["short", "x" * 2_000]
    done = await Web(tell=tell).call("Tell", envelope(b"{}"), JSON)
    assert "connect-content-encoding" not in done.headers
    assert [flag for flag, _ in done.envelopes] == [0, 0, 2]


async def test_the_only_reply_of_a_client_stream_is_compressed_too():
    options = WebOptions(compress_bytes_min=1)
    done = await Web(options=options).call("Collect", envelope(b"{}"), JSON, ("connect-accept-encoding", "gzip"))
    assert [flag for flag, _ in done.envelopes] == [1, 2]
    assert replies(done) == [""]


async def test_a_refusal_after_some_replies_ends_the_stream():
    async def tell(request, passage):
        passage.reply_headers["gateway-operation"] = "op-1"
        yield Operation(id="1")
        raise RefusedError(Refusal(kind=Kind.UNAVAILABLE, reason="later", sentence="later", retry_after_ms=2_000))

    done = await Web(tell=tell).call("Tell", envelope(b"{}"), JSON)
    assert (done.status, done.headers["gateway-operation"]) == (200, "op-1")
    assert replies(done) == ["1"]
    end = end_of(done)
    assert (end["error"]["code"], end["error"]["message"]) == ("unavailable", "later")
    assert details(end["error"])["google.rpc.RetryInfo"] == {"retryDelay": "2.000s"}
    assert "gateway-timing" in end["metadata"]


async def test_an_unexpected_failure_is_logged_and_not_shown():
    async def tell(request, passage):
        yield Operation(id="1")
        raise KeyError("secret of the house")

    web = Web(tell=tell)
    done = await web.call("Tell", envelope(b"{}"), JSON)
    assert end_of(done)["error"]["code"] == "internal"
    assert b"secret" not in done.body
    assert web.log.named("call.failed")


async def test_a_refusal_of_a_client_stream_does_not_wait_for_its_requests():
    async def collect(requests, passage):
        async for _ in requests:
            raise RefusedError(Refusal(kind=Kind.FORBIDDEN, reason="no", sentence="no"))

    web = Web(collect=collect)
    exchange = web.open("Collect", JSON)
    exchange.write(envelope(b"{}"))
    await exchange.ended()
    assert end_of(exchange)["error"]["code"] == "permission_denied"
    # The reply that there is not is not sent either.
    assert replies(exchange) == []
    assert web.quiet()


async def test_a_reader_of_requests_gets_the_good_ones_before_a_bad_one():
    seen = []

    async def collect(requests, passage):
        async for each in requests:
            seen.append(each.tool)  # noqa: PERF401 - what was seen is looked at while more is waited for
        return Operation()

    web = Web(collect=collect)
    exchange = web.open("Collect", JSON)
    exchange.write(envelope(request(tool="a")))
    await eventually(lambda: seen == ["a"])
    exchange.write(envelope(b"{"))
    await exchange.ended()
    assert reason(exchange) == "wire.message_malformed"
    assert seen == ["a"]


async def test_requests_are_taken_only_as_fast_as_they_are_read():
    gate = asyncio.Event()

    async def collect(requests, passage):
        count = 0
        await gate.wait()
        async for _ in requests:
            count += 1
        return Operation(id=str(count))

    web = Web(bounds={"stream_window_bytes": 65_535}, collect=collect)
    exchange = web.open("Collect", JSON)
    piece = envelope(b'{"tool":"' + b"x" * 9_984 + b'"}')
    for _ in range(50):
        exchange.write(piece)
    exchange.write(b"", more=False)
    await eventually(lambda: web.load.receiving_bytes >= 65_535)
    assert web.load.receiving_bytes <= 65_535 + len(piece)
    assert exchange._incoming.qsize() >= 40
    gate.set()
    await exchange.ended()
    assert replies(exchange) == ["50"]
    assert web.quiet()
