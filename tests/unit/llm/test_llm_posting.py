"""One request to the upstream: what is sent once, what is sent again, and what becomes of its connection."""

import asyncio
import json
from contextlib import aclosing

import aiohttp
import pytest
from made_streams import (
    MODEL,
    STOP,
    GivenTokens,
    ask,
    count_ask,
    ending,
    event,
    heard,
    listener,
    saying,
    text,
    until,
    upstream,
    vertex_at,
)

from gateway.llm.throughput import Throughput, Tier
from gateway.llm.vertex import Vertex, VertexConfig
from gateway.terms.conversation import Text
from gateway.terms.faults import Fault, UpstreamError


async def whole(exchange, words="hi"):
    await exchange.start()
    await exchange.say(saying(words), STOP)
    await exchange.end()


async def fault_of(calling):
    with pytest.raises(UpstreamError) as caught:
        await calling
    return caught.value


async def test_whole_answers_share_a_connection():
    async with upstream(whole) as seen, vertex_at(seen.url) as vertex:
        for _ in range(3):
            ending(await heard(vertex, ask("hi")))
    assert (seen.connections, len(seen.exchanges)) == (1, 3)
    assert seen.exchanges[0].token == "t"
    assert json.loads(seen.exchanges[0].body)["contents"][0]["parts"] == [{"text": "hi"}]


async def test_a_stream_that_is_left_takes_its_connection_with_it():
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one"))
        await exchange.gone()
        exchange.close()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        for number in (1, 2):
            async with aclosing(vertex.stream(MODEL, ask("hi"), "c")) as stream:
                assert await anext(stream) == Text(text="one")
            await until(lambda: seen.open == 0)
            assert seen.connections == number


async def test_a_dead_kept_connection_is_tried_once_more():
    async def play(exchange):
        if len(seen.exchanges) == 2:
            exchange.reset()
        else:
            await whole(exchange)

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert text(await heard(vertex, ask("first"))) == "hi"
        assert text(await heard(vertex, ask("second"))) == "hi"
    assert [exchange.connection for exchange in seen.exchanges] == [1, 1, 2]
    assert seen.exchanges[1].body == seen.exchanges[2].body


async def test_a_kept_connection_that_closes_without_a_word_is_tried_once_more():
    async def play(exchange):
        if len(seen.exchanges) == 2:
            exchange.close()
        else:
            await whole(exchange)

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        await heard(vertex, ask("first"))
        assert text(await heard(vertex, ask("x" * 300_000))) == "hi"
    assert len(seen.exchanges) == 3


async def test_only_once_more():
    async def play(exchange):
        if len(seen.exchanges) == 1:
            await whole(exchange)
        else:
            exchange.reset()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        await heard(vertex, ask("first"))
        assert (await fault_of(heard(vertex, ask("second")))).fault is Fault.UNREACHABLE
    assert len(seen.exchanges) == 3


async def test_never_again_after_the_answer_began():
    async def play(exchange):
        if len(seen.exchanges) == 1:
            await whole(exchange)
            return
        await exchange.start()
        exchange.reset()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        await heard(vertex, ask("first"))
        assert (await fault_of(heard(vertex, ask("second")))).fault is Fault.TRUNCATED
    assert len(seen.exchanges) == 2


async def test_nobody_listens():
    async with upstream(whole) as seen:
        url = seen.url
    async with vertex_at(url) as vertex:
        assert (await fault_of(heard(vertex, ask("hi")))).fault is Fault.UNREACHABLE
        assert (await fault_of(vertex.count(MODEL, count_ask("hi")))).fault is Fault.UNREACHABLE


QUOTA = {"error": {"code": 429, "message": "m" * 3000, "details": [{"@type": "x"}, {"retryDelay": "7s"}]}}


async def test_the_body_of_an_error_may_come_in_pieces():
    async def play(exchange):
        body = json.dumps(QUOTA).encode()
        await exchange.raw(b"HTTP/1.1 429 X\r\nContent-Length: %d\r\n\r\n" % len(body))
        for place in range(0, len(body), 1000):
            await exchange.raw(body[place : place + 1000])
            await asyncio.sleep(0.002)

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        for calling in (heard(vertex, ask("hi")), vertex.count(MODEL, count_ask("hi"))):
            error = await fault_of(calling)
            assert (error.fault, error.retry_after_ms) == (Fault.QUOTA, 7000)
    # What was read whole leaves its connection for the next call.
    assert seen.connections == 1


@pytest.mark.parametrize("body", [b"", b"{", b"<html>no", b"\xff", b"[]", b"[" * 10_000, b"x" * 200_000])
async def test_an_error_without_a_readable_body(body):
    async def play(exchange):
        await exchange.answer(429, body, Retry_After="3")

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        error = await fault_of(heard(vertex, ask("hi")))
        assert (error.fault, error.retry_after_ms) == (Fault.QUOTA, 3000)
        assert len(error.detail) < 1000


async def test_an_error_whose_body_is_cut():
    async def play(exchange):
        await exchange.raw(b"HTTP/1.1 403 X\r\nContent-Length: 100\r\n\r\n{")
        exchange.reset()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert (await fault_of(heard(vertex, ask("hi")))).fault is Fault.DENIED


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_is_not_followed(status):
    async def other(exchange):
        raise AssertionError("the token went elsewhere")

    async def play(exchange):
        await exchange.answer(status, b"", Location=elsewhere.url + "/x")

    async with upstream(other) as elsewhere, upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert (await fault_of(heard(vertex, ask("hi")))).fault is Fault.MALFORMED
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 X\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    ],
)
async def test_what_is_no_answer_of_this_api(answer):
    async def play(exchange):
        await exchange.raw(answer)
        await exchange.gone()
        exchange.close()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert (await fault_of(heard(vertex, ask("hi")))).fault is Fault.MALFORMED


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"5\r\nabc\r\n"])
async def test_a_broken_chunk_coding(chunk):
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one"))
        await asyncio.sleep(0.005)
        await exchange.raw(chunk)
        exchange.close()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        chunks = []
        assert (await fault_of(heard(vertex, ask("hi"), chunks))).fault is Fault.TRUNCATED
        assert text(chunks) == "one"


@pytest.mark.parametrize("body", [b"{}", b'{"totalTokens":-1}', b'{"totalTokens":"4"}', b"\xff", b"4", b"[" * 10_000])
async def test_a_count_that_is_none(body):
    async def play(exchange):
        await exchange.answer(200, body)

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert (await fault_of(vertex.count(MODEL, count_ask("hi")))).fault is Fault.MALFORMED


async def test_a_count_in_pieces_and_one_without_end():
    async def play(exchange):
        if len(seen.exchanges) == 1:
            await exchange.raw(b'HTTP/1.1 200 X\r\nContent-Length: 17\r\n\r\n{"totalT')
            await asyncio.sleep(0.005)
            await exchange.raw(b'okens":4}')
        else:
            await exchange.start("application/json")
            while True:
                await exchange.chunk(b" " * 10_000)

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert await vertex.count(MODEL, count_ask("hi")) == 4
        assert (await fault_of(vertex.count(MODEL, count_ask("hi")))).fault is Fault.TOO_LARGE
        await until(lambda: seen.open == 0)


async def test_a_session_that_is_closed_under_a_stream_ends_it():
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one"))
        await exchange.gone()
        exchange.close()

    async with upstream(play) as seen, aiohttp.ClientSession() as session:
        vertex = Vertex(VertexConfig(project="p", location="us", endpoint=seen.url), session, GivenTokens())
        stream = vertex.stream(MODEL, ask("hi"), "c")
        await anext(stream)
        await session.close()
        assert (await fault_of(anext(stream))).fault is Fault.TRUNCATED


async def test_other_requests_of_the_session_are_left_alone():
    async def play(exchange):
        await exchange.answer(200, b"{}")

    async with upstream(play) as seen, aiohttp.ClientSession() as session:
        for _ in range(2):
            Vertex(VertexConfig(project="p", location="us", endpoint=seen.url), session, GivenTokens())
        for _ in range(2):
            async with session.post(seen.url, data=b"x") as reply:
                assert await reply.read() == b"{}"
        assert len(session.trace_configs) == 1
    assert seen.connections == 1


async def test_leaving_while_the_request_is_still_being_sent():
    """The upstream takes 64 kB of four megabytes, and the rest only when the caller has left."""
    taken, left = asyncio.Event(), asyncio.Event()
    size = 0

    async def serve(reader, writer):
        nonlocal size
        size = len(await reader.readexactly(65_536))
        writer.transport.pause_reading()
        taken.set()
        await left.wait()
        writer.transport.resume_reading()
        try:
            while more := await reader.read(65_536):
                size += len(more)
        except ConnectionError:
            pass
        size = -size

    async with listener(serve) as url, vertex_at(url) as vertex:
        sending = asyncio.ensure_future(heard(vertex, ask("x" * 16_000_000)))
        await taken.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        left.set()
        await until(lambda: size < 0)
    assert -size < 8_000_000


async def test_an_answer_that_comes_before_the_request_was_taken():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        writer.write(b"HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n")

    async with listener(serve) as url, vertex_at(url) as vertex:
        for _ in range(2):
            assert (await fault_of(heard(vertex, ask("x" * 16_000_000)))).fault is Fault.REFUSED


def test_events_are_framed_as_the_double_frames_them():
    assert event({}) == b"data: {}\r\n\r\n"


async def test_the_capacity_of_a_target_is_asked_for_with_every_request():
    async def play(exchange):
        await exchange.answer(200, {"totalTokens": 4})

    config = {"throughput": Throughput.SHARED, "tier": Tier.FLEX}
    async with upstream(play) as seen, vertex_at(seen.url, **config) as vertex:
        await vertex.count(MODEL, count_ask("hi"))
    head = seen.exchanges[0].head.lower()
    assert b"\r\nx-vertex-ai-llm-request-type: shared\r\n" in head
    assert b"\r\nx-vertex-ai-llm-shared-request-type: flex\r\n" in head
    assert b"\r\nauthorization: bearer t\r\n" in head
