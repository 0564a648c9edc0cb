"""A stream over time: what is waited for, what is not, and how a slow consumer holds its upstream back."""

import asyncio
import time
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest
from made_streams import MODEL, STOP, ask, ending, event, heard, saying, text, until, upstream, usage, vertex_at

from gateway.llm.event_stream import HELD_S, EventStream, Patience
from gateway.terms.conversation import Ending, Finish, Text, Usage
from gateway.terms.faults import Fault, UpstreamError

COUNTED = {"usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2}}


async def fault_of(calling):
    with pytest.raises(UpstreamError) as caught:
        await calling
    return caught.value.fault


async def forever(exchange, data, pause_s=0.002):
    while True:
        await exchange.chunk(data)
        await asyncio.sleep(pause_s)


@pytest.mark.parametrize("data", [b": ping\n\n", b"x", b"event: e\n\n"])
async def test_bytes_that_complete_no_event_are_no_progress(data):
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one"))
        await forever(exchange, data)

    async with upstream(play) as seen, vertex_at(seen.url, idle_s=0.08) as vertex:
        chunks, started = [], time.monotonic()
        assert await fault_of(heard(vertex, ask("hi"), chunks)) is Fault.STALLED
        assert 0.07 < time.monotonic() - started < 1
        assert text(chunks) == "one"
        await until(lambda: seen.open == 0)


async def test_each_event_gives_new_patience():
    async def play(exchange):
        await exchange.start()
        for _ in range(6):
            await exchange.say(saying("a"))
            await asyncio.sleep(0.03)
        await exchange.say(STOP)
        await exchange.end()

    async with upstream(play) as seen, vertex_at(seen.url, idle_s=0.1) as vertex:
        assert text(await heard(vertex, ask("hi"))) == "aaaaaa"


async def test_a_stream_that_never_ends_is_ended():
    async def play(exchange):
        await exchange.start()
        await forever(exchange, event({}))

    async with upstream(play) as seen, vertex_at(seen.url, idle_s=0.1, total_s=0.1) as vertex:
        assert await fault_of(heard(vertex, ask("hi"))) is Fault.TOO_LONG
        await until(lambda: seen.open == 0)


async def test_an_upstream_that_never_says_a_word_is_silent_whichever_time_is_over():
    async def play(exchange):
        await exchange.start()
        await forever(exchange, b": ping\n\n")

    async with upstream(play) as seen, vertex_at(seen.url, idle_s=0.1, total_s=0.1) as vertex:
        assert await fault_of(heard(vertex, ask("hi"))) is Fault.STALLED


async def test_a_consumer_that_never_comes_back_does_not_hold_the_upstream_for_ever():
    async def play(exchange):
        await exchange.start()
        await forever(exchange, event(saying("one")))

    async with (
        upstream(play) as seen,
        vertex_at(seen.url, idle_s=0.05, total_s=0.1) as vertex,
        aclosing(vertex.stream(MODEL, ask("hi"), "c")) as stream,
    ):
        await anext(stream)
        await until(lambda: seen.open == 0)
        with pytest.raises(UpstreamError) as caught:
            async for _ in stream:
                pass
    # It was the consumer's own doing, and tells nothing of the upstream.
    assert caught.value.fault is Fault.UNREAD


class Hands:
    """The time of a stream, moved by hand."""

    def __init__(self):
        self.now_s = 1_000.0

    def __call__(self):
        return self.now_s


@asynccontextmanager
async def read_by(play, **patience):
    """An event stream over a real reply, and its time."""
    patience = Patience(**({"idle_s": 100.0, "total_s": 1_000.0, "tail_s": 1.0} | patience))
    async with upstream(play) as seen, aiohttp.ClientSession() as session, session.post(seen.url, data=b"{}") as reply:
        stream, hands = EventStream(reply, patience, 1_000_000), Hands()
        stream._now, stream._ends = hands, hands() + patience.total_s
        with stream:
            yield stream, hands


@pytest.mark.parametrize("pauses", [(HELD_S,), (HELD_S / 4,) * 4], ids=["one", "many"])
@pytest.mark.parametrize("cut", [True, False], ids=["reset", "ended without an end"])
async def test_an_upstream_that_gave_up_on_who_did_not_read_has_not_failed(pauses, cut):
    async def play(exchange):
        await exchange.start()
        for _ in pauses:
            await exchange.say(saying("x"))
            await read.wait()
            read.clear()
        if cut:
            exchange.reset()
        else:
            await exchange.end()

    read = asyncio.Event()
    async with read_by(play) as (stream, hands):
        for pause_s in pauses:
            assert await stream.more(whole=False)
            hands.now_s += pause_s
            read.set()
        if cut:
            assert await fault_of(stream.more(whole=False)) is Fault.UNREAD
        else:
            assert await stream.more(whole=False) is None
            assert stream.broken(Fault.TRUNCATED, "").fault is Fault.UNREAD


async def test_an_upstream_that_was_waited_for_as_long_as_it_was_held_back_fails_by_itself():
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one"))
        await asked_again.wait()
        hands.now_s += 10 * HELD_S
        await exchange.say(saying("two"))
        await heard_two.wait()
        exchange.reset()

    asked_again, heard_two = asyncio.Event(), asyncio.Event()
    async with read_by(play) as (stream, hands):
        assert await stream.more(whole=False)
        hands.now_s += 9.5 * HELD_S
        asyncio.get_running_loop().call_soon(asked_again.set)
        assert await stream.more(whole=False)
        hands.now_s += HELD_S / 2
        heard_two.set()
        assert await fault_of(stream.more(whole=False)) is Fault.TRUNCATED


async def test_silence_after_a_long_pause_of_the_consumer_is_not_the_upstreams():
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one"))
        await exchange.gone()

    async with read_by(play) as (stream, hands):
        assert await stream.more(whole=False)
        hands.now_s += 200
        waiting = asyncio.ensure_future(fault_of(stream.more(whole=False)))
        await asyncio.sleep(0)
        hands.now_s += 101
        stream._look()  # what the loop does when the time has come
        assert await waiting is Fault.UNREAD


async def test_a_slow_consumer_is_not_the_upstreams_silence():
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one"))
        await go_on.wait()
        await exchange.say(saying("two"), STOP)
        await exchange.end()

    go_on = asyncio.Event()
    async with (
        upstream(play) as seen,
        vertex_at(seen.url, idle_s=0.3) as vertex,  # for the head and the first event too, on a slow machine
        aclosing(vertex.stream(MODEL, ask("hi"), "c")) as stream,
    ):
        chunks = [await anext(stream)]
        await asyncio.sleep(0.4)
        go_on.set()
        chunks += [chunk async for chunk in stream]
    assert text(chunks) == "onetwo"


async def test_a_slow_consumer_stops_the_upstream():
    sent = 0

    async def play(exchange):
        nonlocal sent
        await exchange.start()
        data = event(saying("x" * 16_000))
        while True:
            await exchange.chunk(data)
            sent += len(data)

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        async with aclosing(vertex.stream(MODEL, ask("hi", max_output_tokens=10_000_000), "c")) as stream:
            await anext(stream)
            held = -1
            while held != sent:
                held = sent
                await asyncio.sleep(0.03)
            # The buffers of two sockets and a writer; an upstream that nobody holds back sends this in 10 ms.
            assert held < 16_000_000
            read = 0
            while sent < held + 1_000_000:
                read += len((await anext(stream)).text)
        assert read < held + 2_000_000
        await until(lambda: seen.open == 0)


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_characters_that_are_cut_by_the_network(size):
    words = "Grüße, π ☃ 🙂"

    async def play(exchange):
        await exchange.start()
        stream = event(saying(words)) + b"data: "
        stream += '{"candidates":[{"content":{"parts":[{"text":"π☃🙂"}]},"finishReason":"STOP"}]}\r\n\r\n'.encode()
        for place in range(0, len(stream), size):
            await exchange.chunk(stream[place : place + size])
            await asyncio.sleep(0)
        await exchange.end()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert text(await heard(vertex, ask("hi"))) == words + "π☃🙂"


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
async def test_line_ends_of_every_kind(end):
    async def play(exchange):
        await exchange.start("text/event-stream; charset=utf-8")
        stream = b": hello" + end + b'data: {"candidates":' + end + b'data: [{"finishReason":"STOP"}]}' + end + end
        await exchange.chunk(stream)
        await exchange.end()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert ending(await heard(vertex, ask("hi"))).finish is Finish.STOP


# After the finish reason.


async def test_a_count_after_the_end_is_heard():
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one", finishReason="STOP"))
        await asyncio.sleep(0.01)
        await exchange.say(COUNTED)
        await exchange.end()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        chunks = await heard(vertex, ask("hi"))
    assert chunks[:2] == [Text(text="one"), Usage(input_tokens=4, output_tokens=2)]
    assert isinstance(ending(chunks), Ending)


async def test_a_body_that_does_not_end_after_the_answer_is_left():
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one", finishReason="STOP"), COUNTED)
        await exchange.gone()
        exchange.close()

    async with upstream(play) as seen, vertex_at(seen.url, tail_s=0.03) as vertex:
        started = time.monotonic()
        chunks = await heard(vertex, ask("hi"))
        assert time.monotonic() - started < 1
        assert ending(chunks).finish is Finish.STOP
        assert usage(chunks).output_tokens == 2
        await until(lambda: seen.open == 0)


@pytest.mark.parametrize("rest", [b"", b": half a comment", b"data: {"])
async def test_a_cut_after_the_answer_takes_nothing_from_it(rest):
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one", finishReason="STOP"))
        await asyncio.sleep(0.005)
        await exchange.raw(b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"")
        exchange.reset()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert ending(await heard(vertex, ask("hi"))).finish is Finish.STOP


async def test_parts_after_the_end_are_no_answer():
    async def play(exchange):
        await exchange.start()
        await exchange.say(saying("one", finishReason="STOP"))
        await exchange.say(saying("two"))
        await exchange.end()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert await fault_of(heard(vertex, ask("hi"))) is Fault.MALFORMED


# Before it.


@pytest.mark.parametrize(
    "stream, where",
    [
        (b"", "without a finish reason"),
        (event(saying("one")), "without a finish reason"),
        (event(saying("one")) + b'data: {"candidates":[{"finishReason":"STOP"}]}\r\n', "inside an event"),
        (event(saying("one")) + b"da", "inside an event"),
    ],
)
async def test_a_clean_end_of_the_body_is_no_end_of_the_answer(stream, where):
    async def play(exchange):
        await exchange.start()
        if stream:
            await exchange.chunk(stream)
        await exchange.end()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        with pytest.raises(UpstreamError) as caught:
            await heard(vertex, ask("hi"))
    assert caught.value.fault is Fault.TRUNCATED
    assert where in caught.value.detail


async def test_a_body_that_ends_with_its_connection():
    """HTTP/1.0 and broken proxies: nothing but the finish reason says that the answer is whole."""

    async def play(exchange):
        await exchange.raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + event(saying("one")))
        if len(seen.exchanges) == 1:
            await exchange.raw(event(STOP))
        exchange.close()

    async with upstream(play) as seen, vertex_at(seen.url) as vertex:
        assert ending(await heard(vertex, ask("hi"))).finish is Finish.STOP
        assert await fault_of(heard(vertex, ask("hi"))) is Fault.TRUNCATED
