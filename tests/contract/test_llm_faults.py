"""What each wire's upstream can do wrong, and the one typed fault that comes of it: a row for each fault and wire."""

import asyncio
import socket
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "llm"))

from made_streams import (
    CLAUDE,
    LLAMA,
    MODEL,
    ask,
    claude_at,
    compatible_at,
    count_ask,
    ending,
    heard,
    text,
    until,
    upstream,
    vertex_at,
)

from gateway.terms.conversation import Ending, Finish, Text
from gateway.terms.faults import Fault as Broken
from gateway.terms.faults import UpstreamError
from localcloud.compatible import CompatibleConfig, CompatibleDouble
from localcloud.vertex import Fault, Pace, VertexConfig, VertexDouble
from localcloud.vertex.faults import Params

NATURAL = Pace()


@dataclass
class Wire:
    """An upstream, its adapter, and a model that both know."""

    name: str
    stack: AsyncExitStack
    pace: Pace = NATURAL

    async def begin(self, **config):
        self.model = {"gemini": MODEL, "claude": CLAUDE, "compatible": LLAMA}[self.name]
        if self.name == "compatible":
            self.double = await self.stack.enter_async_context(CompatibleDouble(CompatibleConfig(pace=self.pace)))
        else:
            double = VertexDouble(VertexConfig(allow_any_token=True, pace=self.pace))
            self.double = await self.stack.enter_async_context(double)
        await self.adapted(self.double.url, **config)
        return self

    async def adapted(self, url, **config):
        at = {"gemini": vertex_at, "claude": claude_at, "compatible": compatible_at}[self.name]
        self.adapter = await self.stack.enter_async_context(at(url, **config))

    def fault(self, kind, count=1, **params):
        self.double.faults.add([Fault(kind=kind, count=count, params=Params(**params))])

    async def hears(self, prompt="@pace deltas=4\nhi", chunks=None, **more):
        return await heard(self.adapter, ask(prompt, **more), chunks, of=self.model)

    async def breaks(self, prompt="@pace deltas=4\nhi", chunks=None, **more):
        with pytest.raises(UpstreamError) as caught:
            await self.hears(prompt, chunks, **more)
        return caught.value

    async def nothing_is_open(self):
        await until(lambda: self.double.journal.streams()["open"] == 0)


@pytest.fixture(params=["gemini", "claude", "compatible"])
async def wire(request):
    async with AsyncExitStack() as stack:
        yield await Wire(request.param, stack).begin(tail_s=0.1)


BEFORE_THE_ANSWER = {
    # kind, params: the fault, and how long to wait
    "400": (("status", {"code": 400}), Broken.REFUSED, None),
    "401": (("status", {"code": 401}), Broken.DENIED, None),
    "403": (("status", {"code": 403}), Broken.DENIED, None),
    "404": (("status", {"code": 404}), Broken.MISSING, None),
    "413": (("status", {"code": 413}), Broken.REFUSED, None),
    "429": (("status", {"code": 429}), Broken.QUOTA, None),
    "429 with a delay": (("status", {"code": 429, "retry_after_s": 7}), Broken.QUOTA, 7_000),
    "500": (("status", {"code": 500}), Broken.UNREACHABLE, None),
    "503": (("status", {"code": 503}), Broken.UNREACHABLE, None),
    "503 with a delay": (("status", {"code": 503, "retry_after_s": 2}), Broken.UNREACHABLE, 2_000),
    "529": (("status", {"code": 529}), Broken.UNREACHABLE, None),
    "reset": (("reset_before", {}), Broken.UNREACHABLE, None),
    "slow first byte": (("slow_first_byte", {"ms": 900}), Broken.STALLED, None),
}


@pytest.mark.parametrize("row", BEFORE_THE_ANSWER)
async def test_a_fault_before_the_answer(wire, row):
    (kind, params), broken, retry_ms = BEFORE_THE_ANSWER[row]
    if broken is Broken.STALLED:
        await wire.adapted(wire.double.url, idle_s=0.2)
    wire.fault(kind, count=None, **params)
    chunks = []
    error = await wire.breaks(chunks=chunks)
    assert (error.fault, error.retry_after_ms, chunks) == (broken, retry_ms, [])
    # The head of a stream is not asked for twice: a request on a new connection may be under way.
    assert wire.double.journal.requests == 1


async def test_nobody_is_there(wire):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        await wire.adapted(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        error = await wire.breaks()
    assert error.fault is Broken.UNREACHABLE


IN_THE_ANSWER = {
    "truncated": (("truncate_after_n", {"n": 5}), Broken.TRUNCATED),
    "stalled": (("stall_after_n", {"n": 5}), Broken.STALLED),
    "malformed": (("malformed_sse", {"n": 5}), Broken.MALFORMED),
    "wrong JSON": (("wrong_json", {"n": 5}), Broken.MALFORMED),
    "a delta of 300 kB": (("gigantic_delta", {"n": 5, "bytes": 300_000}), Broken.TOO_LARGE),
    "a delta of 8 MiB": (("gigantic_delta", {"n": 5}), Broken.TOO_LARGE),
    "400 inside": (("error_event_after_n", {"n": 5, "code": 400}), Broken.REFUSED),
    "429 inside": (("error_event_after_n", {"n": 5, "code": 429}), Broken.QUOTA),
    "500 inside": (("error_event_after_n", {"n": 5, "code": 500}), Broken.UNREACHABLE),
    "503 inside": (("error_event_after_n", {"n": 5, "code": 503}), Broken.UNREACHABLE),
    "two ends": (("duplicate_finish", {}), Broken.MALFORMED),
}


@pytest.mark.parametrize("row", IN_THE_ANSWER)
async def test_a_fault_in_the_answer(wire, row):
    (kind, params), broken = IN_THE_ANSWER[row]
    if broken is Broken.STALLED:
        await wire.adapted(wire.double.url, idle_s=2)
    wire.fault(kind, **params)
    chunks = []
    error = await wire.breaks("@pace deltas=6\nhi", chunks)
    assert error.fault is broken
    assert text(chunks)
    assert not any(isinstance(chunk, Ending) for chunk in chunks)
    await wire.nothing_is_open()


async def test_a_reset_in_the_answer(wire):
    # Paced, so that the deltas are read before the reset discards what is in the sockets.
    wire.fault("reset_after_n", n=4)
    chunks = []
    error = await wire.breaks("@pace deltas=6 interval_ms=5\nhi", chunks)
    assert error.fault is Broken.TRUNCATED
    assert text(chunks)


async def test_an_answer_without_an_end_is_ended_by_what_its_tokens_can_be(wire):
    wire.fault("endless", ms=1)
    chunks = []
    error = await wire.breaks("@pace deltas=3 size=500\nhi", chunks, max_output_tokens=2_000)
    assert error.fault is Broken.TOO_LARGE
    assert len(text(chunks)) <= 2_000 * 32 + 16 * 1024
    await wire.nothing_is_open()


async def test_a_stall_and_a_cut_after_the_end_do_not_matter(wire):
    whole = await wire.hears()
    planned = wire.double.journal.entries[-1].chunks_planned
    for kind in ("stall_after_n", "truncate_after_n"):
        # What follows the reason is a mark of the end and, on one wire, the usage.
        wire.fault(kind, n=planned - (wire.name != "gemini"))
        chunks = await wire.hears()
        assert text(chunks) == text(whole)
        assert ending(chunks).finish is Finish.STOP
    await wire.nothing_is_open()


async def test_who_leaves_closes_the_upstream(wire):
    wire.fault("endless", ms=20)
    stream = wire.adapter.stream(wire.model, ask("hi"), "c")
    async for chunk in stream:
        if isinstance(chunk, Text):
            break
    assert wire.double.journal.streams()["open"] == 1
    await stream.aclose()
    await wire.nothing_is_open()
    assert wire.double.journal.streams()["aborted"] == 1


async def test_a_slow_consumer_stops_the_upstream(request):
    """Two MB a second would come if nobody held them back."""
    async with AsyncExitStack() as stack:
        wire = await Wire("compatible", stack, Pace(deltas=3, size=4_000, interval_ms=1)).begin()
        wire.fault("endless")
        stream = wire.adapter.stream(wire.model, ask("hi", max_output_tokens=65_000), "c")
        size = len((await anext(stream)).text)
        entry, held = wire.double.journal.entries[-1], -1
        async with asyncio.timeout(5):
            while entry.chunks_sent != held:
                held = entry.chunks_sent
                await asyncio.sleep(0.05)
        assert held * size < 16_000_000
        await stream.aclose()
        await wire.nothing_is_open()


COUNTS = {
    "429": (("status", {"code": 429}), Broken.QUOTA),
    "503": (("status", {"code": 503}), Broken.UNREACHABLE),
    "truncated": (("truncate_after_n", {"n": 1}), Broken.TRUNCATED),
    "wrong JSON": (("wrong_json", {}), Broken.MALFORMED),
    "malformed": (("malformed_sse", {}), Broken.MALFORMED),
    "gigantic": (("gigantic_delta", {"bytes": 100_000}), Broken.TOO_LARGE),
}


@pytest.mark.parametrize("row", COUNTS)
async def test_a_fault_of_a_count(wire, row):
    (kind, params), broken = COUNTS[row]
    wire.fault(kind, **params)
    with pytest.raises(UpstreamError) as caught:
        await wire.adapter.count(wire.model, count_ask("hi"))
    assert caught.value.fault is broken
    assert await wire.adapter.count(wire.model, count_ask("hello there")) == 2


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Type: application/json",
        b"Content-Type: text/html",
        b"Content-Type: text/event-stream\r\nContent-Encoding: gzip",
        b"Content-Type: text/event-stream\r\nContent-Encoding: br",
    ],
)
async def test_a_body_that_nobody_asked_for(wire, head):
    async def play(exchange):
        await exchange.raw(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 9\r\n\r\ndata: {}\n" % head)

    async with upstream(play) as server:
        await wire.adapted(server.url)
        assert (await wire.breaks()).fault is Broken.MALFORMED
        sent = server.exchanges[0].head.lower()
    assert b"accept-encoding: identity" in sent


async def test_an_error_of_any_length_and_form(wire):
    """Its status speaks for itself; what comes with it is read within a bound and repeated within another."""

    async def play(exchange):
        await exchange.answer(429, b"x" * 1_000_000, Retry_After="3")

    async with upstream(play) as server:
        await wire.adapted(server.url)
        error = await wire.breaks()
    assert (error.fault, error.retry_after_ms) == (Broken.QUOTA, 3_000)
    assert len(error.detail) < 1_000
