"""The agent's client on connections that are cut at random bytes: every event once, every effect once."""

import asyncio
import contextlib
import random
from contextlib import aclosing, asynccontextmanager

import pytest
from served import served
from whole import agent, budget, token, world

from agent.client.contract import ChatRequest, Content, FinishReason, Part, Resumable, Role, RunTools
from agent.client.errors import GatewayError
from agent.client.gateway import CallReport, GatewayClient, Patience

BUDGETS = (budget("calls", 10_000), budget("tokens", 100_000_000), budget("cost_micro_usd", 10**12))
SLOW = "@pace deltas=40 interval_ms=1 size=2\n{}"


@pytest.fixture
async def whole(tmp_path):
    async with world() as around, around.gateway(tmp_path, [agent(budgets=BUDGETS)]) as running:
        yield running


class Wire:
    """Carries bytes to the gateway and back, and cuts each connection after so many bytes of the gateway's."""

    def __init__(self, port, lives):
        self._port = port
        self._lives = lives
        self.cuts = 0
        self._tasks = set()

    @asynccontextmanager
    async def laid(self):
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        left = next(self._lives)
        onward, back = await asyncio.open_connection("127.0.0.1", self._port)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                up = group.create_task(self._carry(reader, back, None))
                await self._carry(onward, writer, left)
                up.cancel()
        for end in (writer, back):
            end.transport.abort()

    async def _carry(self, reader, writer, left):
        while data := await reader.read(4096):
            if left is not None:
                data, left = data[:left], left - len(data)
            with contextlib.suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
            if left is not None and left <= 0:
                self.cuts += 1
                return


class Tokens:
    def __init__(self, whole):
        self._whole = whole

    async def id_token(self, audience):
        return token(self._whole.world.clock)


def lives(seed):
    chance = random.Random(seed)
    while True:
        yield chance.randint(60, 2_500)


def always():
    while True:
        yield None


@asynccontextmanager
async def talking(whole, lengths, **patience):
    async with served(whole) as client:
        wire = Wire(client._channel._port, lengths)
        patience = Patience(**({"attempts": 50, "first_pause_s": 0.0, "longest_pause_s": 0.01} | patience))
        async with wire.laid() as url, GatewayClient(url, Tokens(whole), connections=1, patience=patience) as gateway:
            yield gateway, wire


def chat(text, **fields):
    contents = [Content(role=Role.USER, parts=[Part(text=text)])]
    return ChatRequest(model="flash", contents=contents, **fields)


async def heard(gateway, request, **options):
    async with aclosing(gateway.chat(request, **options)) as events:
        return [event async for event in events]


@pytest.mark.parametrize("seed", range(8))
async def test_a_stream_over_a_wire_that_is_cut_at_random_bytes_is_whole(whole, seed):
    async with talking(whole, lives(seed)) as (gateway, wire):
        for number in range(3):
            text = SLOW.format(f"{seed} {number}")
            events = await heard(gateway, chat(text, resumable=Resumable.CONNECTION_LOST))
            assert [event.sequence for event in events] == list(range(1, 43))
            assert events[-1].finish.reason is FinishReason.STOP
        assert wire.cuts > 0
    await whole.agree()


@pytest.mark.parametrize("seed", range(4))
async def test_a_loop_over_such_a_wire_repeats_no_effect(whole, seed):
    async with talking(whole, lives(seed)) as (gateway, wire):
        text = "buy 2 AAPL and buy 3 AAPL then buy 4 AAPL"
        events = await heard(gateway, chat(text, run_tools=RunTools(), resumable=Resumable.CONNECTION_LOST))
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert len([event for event in events if event.tool_run and event.tool_run.outcome]) == 3
        assert wire.cuts > 0
    await whole.agree()
    assert len(whole.world.orders()) == 3


async def test_a_stream_that_may_not_be_resumed_says_that_it_broke(whole):
    def one_cut():
        yield 1_200
        yield from always()

    async with talking(whole, one_cut()) as (gateway, wire):
        with pytest.raises(GatewayError) as raised:
            await heard(gateway, chat(SLOW.format("x")))
        assert raised.value.reason == "gateway.connection_lost"
        assert wire.cuts == 1
    await whole.agree()


async def test_a_stream_that_is_gone_says_so(whole):
    def one_cut():
        yield 1_200
        yield from always()

    async with talking(whole, one_cut()) as (gateway, wire):
        pauses = []

        async def pause(seconds):
            pauses.append(seconds)
            for stream in tuple(whole.lasting._open):
                await stream.left()

        gateway._patience = Patience(sleep=pause, first_pause_s=0.0)
        with pytest.raises(GatewayError) as raised:
            await heard(gateway, chat(SLOW.format("x"), run_tools=RunTools(), resumable=Resumable.CONNECTION_LOST))
        assert raised.value.reason == "stream.gone"
        assert raised.value.effect_unknown
        assert wire.cuts == 1
    await whole.agree()


async def test_what_is_gone_is_asked_for_anew_and_repeats_no_effect(whole):
    """As after a restart: the rest is nowhere, the answer comes whole from its beginning, the tool ran once."""

    def one_cut():
        yield 3_500
        yield from always()

    async with talking(whole, one_cut()) as (gateway, wire):

        async def pause(_):
            for stream in tuple(whole.lasting._open):
                await stream.left()

        gateway._patience = Patience(sleep=pause, first_pause_s=0.0)
        request = chat(
            "buy 2 AAPL then buy 3 AAPL and " + "say something long " * 40,
            run_tools=RunTools(turns_max=8),
            resumable=Resumable.CONNECTION_LOST,
        )
        heard_now, broken = [], []
        async with aclosing(gateway.chat(request, anew=broken.append)) as events:
            async for event in events:
                if len(broken) == 1 and event.sequence == 1:
                    before, heard_now = heard_now, []
                heard_now.append(event)
        assert wire.cuts == 1
        assert [error.reason for error in broken] == ["stream.gone"]
        assert before
        assert [event.sequence for event in heard_now] == list(range(1, len(heard_now) + 1))
        assert heard_now[-1].finish.reason is FinishReason.STOP
        orders = len(whole.world.orders())
        outcomes = [event.tool_run.outcome for event in heard_now if event.tool_run and event.tool_run.outcome]
        assert orders == len(outcomes) == 2
    await whole.agree()


async def test_who_leaves_a_stream_that_goes_on_when_cancelled_tells_the_gateway(whole):
    async with talking(whole, always()) as (gateway, _):
        request = chat("@pace deltas=400 interval_ms=50 size=2\nx", resumable=Resumable.CANCELLED)
        async with aclosing(gateway.chat(request)) as events:
            async for event in events:
                if event.sequence == 3:
                    break
        await whole.agree()
        assert whole.world.vertex.journal.streams_aborted == 1
        assert whole.lasting.held_bytes == 0


async def test_tools_get_a_key_of_their_own_over_all_attempts(whole):
    async with talking(whole, always()) as (gateway, _):
        report = CallReport()
        await heard(gateway, chat("buy 2 AAPL", run_tools=RunTools()), report=report)
        (key,) = [one["key"] for one in whole.told("intent") if one["ask"] == "place_order"]
        assert key.startswith("chat:agent-")
        assert key.endswith(":1:1")


@pytest.mark.parametrize("resumable", [Resumable.UNSPECIFIED, Resumable.CONNECTION_LOST])
async def test_a_keyed_stream_whose_upstream_failed_once_is_tried_again_and_answered(whole, resumable):
    """The client sends the same key again: it must get another try, not the same failure."""
    whole.world.vertex_fails("status", 1, code=503)
    async with talking(whole, always(), attempts=3) as (gateway, _):
        report = CallReport()
        request = chat("buy 2 AAPL", run_tools=RunTools(), resumable=resumable)
        events = await heard(gateway, request, report=report)
        assert events[-1].finish.reason is FinishReason.STOP
        assert report.attempts == 2
    await whole.agree()
    assert len(whole.world.orders()) == 1


async def test_an_answer_that_broke_is_asked_for_anew_under_its_key(whole):
    """`anew`: the stream failed after events, and the gateway still keeps it for who would resume it."""
    whole.world.vertex_fails("truncate_after_n", 1, n=10)
    async with talking(whole, always(), attempts=3) as (gateway, _):
        broken = []
        request = chat(SLOW.format("x"), run_tools=RunTools(), resumable=Resumable.CONNECTION_LOST)
        async with aclosing(gateway.chat(request, anew=broken.append)) as events:
            told = [event async for event in events]
        assert [error.reason for error in broken] == ["upstream.truncated"]
        assert [event.sequence for event in told] == [*range(1, 11), *range(1, 43)]
        assert told[-1].finish.reason is FinishReason.STOP
    await whole.agree()
