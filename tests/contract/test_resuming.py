"""A stream whose caller's connection breaks: who may come back, until when, and what it gets then."""

import asyncio
import contextlib
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest
from failing import instead
from grpclib.exceptions import GRPCError, StreamTerminatedError
from served import served
from whole import agent, budget, eventually, prompt, refusal, world

from gateway.call.lasting import Bounds, Resumable
from gateway.call.resume import Resuming, converse_lasting, resume
from gateway.terms import asks
from gateway.terms.conversation import Text
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.passage import Leaving
from gateway.terms.verdict import Kind
from generated.agentic.gateway.v1 import (
    ChatRequest,
    Content,
    FinishReason,
    OperationState,
    Part,
    ResumeChatRequest,
    Role,
    RunTools,
)
from generated.agentic.gateway.v1 import Resumable as Mode

BUDGETS = (budget("calls", 1_000), budget("tokens", 10_000_000), budget("cost_micro_usd", 10**12))
SLOW = "@pace deltas=40 interval_ms=2 size=2\nTell me."
LONG = "@pace deltas=400 interval_ms=50 size=2\nTell me."
"""Is never heard to its end."""
MANY = "@pace deltas=400 interval_ms=1 size=2\nTell me."
LOST, CANCELLED = Resumable.CONNECTION_LOST, Resumable.CANCELLED


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@asynccontextmanager
async def running(around, folder, **bounds):
    agents = [agent(budgets=BUDGETS), agent("other")]
    async with around.gateway(folder, agents, bounds=Bounds(**bounds)) as whole:
        yield whole


@pytest.fixture
async def whole(around, tmp_path):
    async with running(around, tmp_path) as one:
        yield one


class Call:
    """One call of a stream as the wire makes it: it reads, and goes in a way that the wire notes."""

    def __init__(self, whole, told, passage):
        self.passage = passage
        self._whole = whole
        self._told = told

    @property
    def operation(self):
        return self.passage.reply_headers["gateway-operation"]

    async def some(self, count):
        return [await anext(self._told) for _ in range(count)]

    async def rest(self):
        async with aclosing(self._told) as told:
            return [event async for event in told]

    async def go(self, how):
        self.passage.departure.how = how
        await self._told.aclose()


def begin(whole, text=SLOW, mode=LOST, *, timeout_s=None, caller="trader", digest=None, run_tools=None, **options):
    passage = whole.passage(caller, timeout_s=timeout_s)
    request = prompt(text, **options)
    read = replace(request.read(), run_tools=run_tools)
    read = read if digest is None else replace(read, digest=digest)
    request = replace(request, read=lambda: read)
    told = converse_lasting(whole.stations, whole.lasting, passage, request, mode)
    return Call(whole, told, passage)


def again(whole, operation, after, *, caller="trader", leave=False):
    passage = whole.passage(caller)
    asked = Resuming(operation=operation, after=after, leave=leave)
    return Call(whole, resume(whole.stations, whole.lasting, passage, asked), passage)


def words(events):
    return "".join(event.text for _, event in events if isinstance(event, Text))


async def expected(whole, text=SLOW):
    return "".join(event.text for event in await whole.converse(text) if isinstance(event, Text))


async def gone(whole, operation, after=0, **options):
    assert (await refusal(again(whole, operation, after, **options).rest())).reason == "stream.gone"


async def test_who_lost_its_connection_gets_every_event_once(whole):
    first = begin(whole)
    had = await first.some(5)
    await first.go(Leaving.LOST)
    second = again(whole, first.operation, 5)
    got = await second.rest()
    assert [number for number, _ in had + got] == list(range(1, 43))
    assert words(had + got) == await expected(whole)
    assert second.operation == first.operation
    await whole.agree()
    assert whole.world.vertex.journal.streams_aborted == 0


async def test_it_can_break_again_and_again(whole):
    call = begin(whole)
    heard = await call.some(1)
    for _ in range(10):
        await call.go(Leaving.LOST)
        call = again(whole, call.operation, heard[-1][0])
        heard += await call.some(3)
    heard += await call.rest()
    assert [number for number, _ in heard] == list(range(1, 43))
    await whole.agree()


async def test_what_was_sent_and_never_arrived_is_given_again(whole):
    first = begin(whole)
    had = await first.some(20)
    await first.go(Leaving.LOST)
    got = await again(whole, first.operation, 7).rest()
    assert got[:13] == had[7:]
    assert got[-1][0] == 42


async def test_the_end_can_be_asked_for_again(whole):
    first = begin(whole)
    had = await first.rest()
    assert await again(whole, first.operation, 40).rest() == had[40:]
    assert await again(whole, first.operation, 42).rest() == []
    assert await again(whole, first.operation, 0).rest() == had
    await whole.agree()


@pytest.mark.parametrize(
    "mode, how", [(LOST, Leaving.LEFT), (LOST, Leaving.STAYED), (CANCELLED, Leaving.STAYED)], ids=str
)
async def test_who_leaves_is_left(whole, mode, how):
    """STAYED: the gateway itself ended the call, for its deadline or because it stops."""
    first = begin(whole, LONG, mode)
    await first.some(3)
    await first.go(how)
    await whole.agree()
    assert whole.world.vertex.journal.streams_aborted == 1
    assert [one["failure"]["reason"] for one in whole.told("outcome")] == ["call.cut"]
    await gone(whole, first.operation, 3)


async def test_a_cancelled_stream_goes_on_where_that_was_asked_for(whole):
    first = begin(whole, SLOW, CANCELLED)
    await first.some(3)
    await first.go(Leaving.LEFT)
    assert len(await again(whole, first.operation, 3).rest()) == 39


async def test_it_can_be_left_on_purpose(whole):
    first = begin(whole, LONG, CANCELLED)
    await first.some(3)
    await first.go(Leaving.LEFT)
    assert whole.world.vertex.journal.streams_aborted == 0
    assert await again(whole, first.operation, 0, leave=True).rest() == []
    await whole.agree()
    assert whole.world.vertex.journal.streams_aborted == 1
    await gone(whole, first.operation, leave=True)


async def test_another_caller_finds_nothing(whole):
    """Attack row 2."""
    first = begin(whole, LONG)
    await first.some(3)
    await first.go(Leaving.LOST)
    for leave in (False, True):
        await gone(whole, first.operation, 3, caller="other", leave=leave)
    assert len(await again(whole, first.operation, 3).some(2)) == 2


async def test_an_unknown_operation_is_as_absent(whole):
    await gone(whole, "op-nobody")
    for operation, after in (("", 0), ("op 1", 0), ("op-1", -1)):
        assert (await refusal(again(whole, operation, after).rest())).reason == "request.malformed"


async def test_nobody_is_waited_for_longer_than_the_grace(around, tmp_path):
    async with running(around, tmp_path, grace_s=0.01) as whole:
        first = begin(whole, LONG)
        await first.some(3)
        await first.go(Leaving.LOST)
        await eventually(lambda: whole.world.vertex.journal.streams_aborted == 1)
        await whole.agree()
        await gone(whole, first.operation, 3)
        assert whole.lasting.held_bytes == 0


async def test_nobody_is_waited_for_beyond_the_deadline(whole):
    first = begin(whole, LONG, timeout_s=10)
    await first.some(3)
    whole.world.clock.pass_s(9.99)
    await first.go(Leaving.LOST)
    await eventually(lambda: whole.world.vertex.journal.streams_aborted == 1)
    await whole.agree()


async def test_the_first_calls_deadline_holds_for_who_comes_back_with_more_time(whole):
    whole.world.vertex_fails("stall_after_n", n=3)
    first = begin(whole, timeout_s=30)
    await first.some(3)
    await first.go(Leaving.LOST)
    second = asyncio.get_running_loop().create_task(refusal(again(whole, first.operation, 3).rest()))
    await eventually(lambda: whole.log.named("stream.resumed"))
    (stream,) = whole.lasting._open
    left_s = stream._deadline.when() - asyncio.get_running_loop().time()
    assert 0 < left_s <= 30
    whole.world.clock.pass_s(30)
    stream._deadline._run()  # what the loop does when the time has come
    assert (await second).reason == "deadline.passed"
    await whole.agree()
    assert [one["failure"]["reason"] for one in whole.told("outcome")] == ["deadline.passed"]


async def test_a_finished_stream_is_forgotten_after_the_grace(around, tmp_path):
    async with running(around, tmp_path, grace_s=0.01) as whole:
        first = begin(whole)
        await first.rest()
        await eventually(lambda: whole.lasting.held_bytes == 0)
        await gone(whole, first.operation, 42)


async def test_what_was_let_go_of_is_gone_and_the_rest_is_not_given_with_a_hole(around, tmp_path):
    async with running(around, tmp_path, window_bytes=2_000, ahead_bytes=1_000) as whole:
        first = begin(whole)
        await first.some(30)
        await first.go(Leaving.LOST)
        await gone(whole, first.operation, 5)
        await gone(whole, first.operation, 43)
        assert len(await again(whole, first.operation, 30).rest()) == 12


async def test_the_window_and_what_is_ahead_are_bounded_and_slow_the_model(around, tmp_path):
    """Without a reader the window fills and the model waits; a slow one is never far behind."""
    async with running(around, tmp_path, window_bytes=8_000, ahead_bytes=3_000) as whole:
        taken = []
        stream = whole.stations.models.stream

        async def counted(reservation, deadline_ns, may_hedge):
            async with aclosing(stream(reservation, deadline_ns, may_hedge)) as chunks:
                async for chunk in chunks:
                    taken.append(chunk)
                    yield chunk

        whole.stations = instead("models", stream=counted)(whole.stations)
        first = begin(whole, MANY)
        await first.some(1)
        await eventually(lambda: len(taken) > 5)
        await asyncio.sleep(0.02)
        assert len(taken) * 256 < 2 * 3_000
        await first.go(Leaving.LOST)
        await eventually(lambda: whole.lasting.held_bytes >= 8_000)
        before = len(taken)
        await asyncio.sleep(0.01)
        assert len(taken) == before
        assert whole.lasting.held_bytes < 8_000 + 600
        heard = await again(whole, first.operation, 1).rest()
        assert heard[-1][0] == 402
        await whole.agree()


async def test_there_are_only_so_many_windows(around, tmp_path):
    async with running(around, tmp_path, streams_max=2) as whole:
        calls = [begin(whole, LONG), begin(whole)]
        for call in calls:
            await call.some(1)
        refused = await refusal(begin(whole).rest())
        assert (refused.reason, refused.retry_after_ms) == ("stream.windows_full", 1_000)
        assert len(whole.told("refusal")) == 1
        await calls[1].rest()
        # One that is over makes room for another.
        assert len(await begin(whole).rest()) == 42
        await gone(whole, calls[1].operation, 42)
        await calls[0].go(Leaving.STAYED)
        await whole.agree()


async def test_one_caller_leaves_windows_to_the_others(around, tmp_path):
    async with running(around, tmp_path, streams_max=4) as whole:
        calls = [begin(whole, LONG), begin(whole, LONG), begin(whole)]
        for call in calls:
            await call.some(1)
        refused = await refusal(begin(whole).rest())
        assert (refused.kind, refused.reason, refused.retry_after_ms) == (Kind.EXHAUSTED, "stream.share_full", 1_000)
        assert len(await begin(whole, caller="other").rest()) == 42
        await calls[2].rest()
        # One of its own that is over makes room for another, and nobody else's does.
        assert len(await begin(whole).rest()) == 42
        await gone(whole, calls[2].operation, 42)
        for call in calls[:2]:
            await call.go(Leaving.STAYED)
        await whole.agree()


async def test_a_repeat_that_was_found_too_late_gets_no_other_events(around, tmp_path):
    """While the rules are asked about a repeat, who reads the stream goes on, and its beginning is let go of."""
    async with running(around, tmp_path, window_bytes=2_000, ahead_bytes=1_000) as whole:
        asked = {"run_tools": asks.RunTools(turns_max=3, tools=(), key="task-1")}
        first = begin(whole, **asked)
        await first.some(2)
        decide, waiting, goes_on = whole.stations.policy.decide, asyncio.Event(), asyncio.Event()

        async def decided_later(caller, ask, facts):
            waiting.set()
            await goes_on.wait()
            return await decide(caller, ask, facts)

        whole.stations = instead("policy", decide=decided_later)(whole.stations)
        repeat = asyncio.ensure_future(refusal(begin(whole, **asked).rest()))
        await waiting.wait()
        await first.some(30)
        goes_on.set()
        assert (await repeat).reason == "stream.gone"
        # Who reads it is not disturbed.
        assert (await first.rest())[-1][0] == 42
        await whole.agree()


async def test_who_resumes_takes_the_place_of_who_read_before(whole):
    """A caller often knows that its connection is dead before the gateway does."""
    first = begin(whole)
    await first.some(5)
    second = again(whole, first.operation, 5)
    assert [number for number, _ in await second.some(2)] == [6, 7]
    assert (await refusal(first.rest())).reason == "stream.resumed_elsewhere"
    assert (await second.rest())[-1][0] == 42
    await whole.agree()


async def test_a_stream_that_ends_badly_says_so_to_who_comes_back(whole):
    whole.world.vertex_fails("truncate_after_n", n=10)
    first = begin(whole)
    await first.some(3)
    await first.go(Leaving.LOST)
    for _ in range(2):
        call = again(whole, first.operation, 3)
        assert len(await call.some(7)) == 7
        assert (await refusal(call.rest())).reason == "upstream.truncated"
    await whole.agree()


async def test_a_refusal_before_the_first_event_is_told_as_ever(whole):
    assert (await refusal(begin(whole, model="pro").rest())).reason == "model.unknown"
    assert (await refusal(begin(whole, timeout_s=0.04).rest())).reason == "deadline.bankrupt"


async def test_without_room_for_streams_none_can_be_resumed(around, tmp_path):
    async with running(around, tmp_path, streams_max=0) as whole:
        assert (await refusal(begin(whole).rest())).reason == "stream.windows_full"


async def test_a_gateway_that_stops_settles_what_waits_for_its_caller(around, tmp_path):
    async with running(around, tmp_path) as whole:
        first = begin(whole, LONG)
        await first.some(3)
        await first.go(Leaving.LOST)
    assert [one["failure"]["reason"] for one in whole.told("outcome")] == ["call.cut"]
    await around.upstream_quiet()


async def test_a_reader_that_is_there_when_the_gateway_stops_is_told(around, tmp_path):
    async with running(around, tmp_path) as whole:
        first = begin(whole, LONG)
        await first.some(3)
        listening = asyncio.get_running_loop().create_task(refusal(first.rest()))
        await asyncio.sleep(0)
    assert (await listening).reason == "stream.ended"


async def test_the_same_request_under_its_key_is_the_same_stream(whole):
    """A caller that lost its connection before it heard anything knows no operation: it sends its request again."""
    asked = {"run_tools": asks.RunTools(turns_max=3, tools=(), key="task-1")}
    first = begin(whole, **asked)
    had = await first.some(2)
    await first.go(Leaving.LOST)
    second = begin(whole, **asked)
    assert (await second.some(2), second.operation) == (had, first.operation)
    other = begin(whole, LONG, **asked | {"digest": b"o" * 32})
    await other.some(1)
    assert other.operation != first.operation
    await other.go(Leaving.LEFT)
    assert (await second.rest())[-1][0] == 42
    stranger = begin(whole, caller="other", **asked)
    await stranger.rest()
    assert stranger.operation != first.operation
    await whole.agree()
    assert whole.world.vertex.journal.streams_total == 3


KEYED = {"run_tools": asks.RunTools(turns_max=3, tools=(), key="task-1")}


async def test_a_repeat_of_a_stream_that_was_refused_before_its_first_event_is_tried_anew(whole):
    whole.world.vertex_fails("status", 1, code=503)
    assert (await refusal(begin(whole, **KEYED).rest())).reason == "upstream.unreachable"
    assert whole.lasting.held_bytes == 0
    assert not whole.lasting._open  # nobody can ask for it any more
    assert len(await begin(whole, **KEYED).rest()) == 42
    await whole.agree()


async def test_a_repeat_of_a_stream_that_broke_is_tried_anew_and_the_broken_one_can_still_be_resumed(whole):
    whole.world.vertex_fails("truncate_after_n", n=10)
    first = begin(whole, **KEYED)
    await first.some(3)
    await first.go(Leaving.LOST)
    (stream,) = whole.lasting._open
    await eventually(lambda: stream._ended)
    second = begin(whole, **KEYED)
    assert len(await second.rest()) == 42
    assert second.operation != first.operation
    # The repeat that ended well is what a third attempt gets.
    third = begin(whole, **KEYED)
    assert (len(await third.rest()), third.operation) == (42, second.operation)
    assert (await refusal(again(whole, first.operation, 3).rest())).reason == "upstream.truncated"
    await whole.agree()


async def test_a_stream_that_has_ended_is_not_kept_for_longer_by_being_read(whole):
    """While nobody reads it, its time runs on from its end."""
    first = begin(whole, **KEYED)
    await first.rest()
    (stream,) = whole.lasting._open
    until = stream._grace.when()
    for _ in range(3):
        await again(whole, first.operation, 40).rest()
        await begin(whole, **KEYED).rest()
    assert stream._grace.when() == until
    stream._kept_until = asyncio.get_running_loop().time() - 1
    await again(whole, first.operation, 40).rest()
    await eventually(lambda: whole.lasting.held_bytes == 0)
    await gone(whole, first.operation, 42)


async def test_a_stream_that_ends_while_nobody_is_there_is_kept_from_its_end_on(whole):
    first = begin(whole, **KEYED)
    await first.some(3)
    await first.go(Leaving.LOST)
    (stream,) = whole.lasting._open
    left = stream._grace.when()
    await eventually(lambda: stream._ended)
    kept = stream._grace.when()
    assert kept > left
    await again(whole, first.operation, 3).rest()
    assert stream._grace.when() == kept


# Over the wire


def chat(text=SLOW, mode=Mode.CONNECTION_LOST, **fields):
    contents = [Content(role=Role.USER, parts=[Part(text=text)])]
    return ChatRequest(model="flash", contents=contents, resumable=mode, **fields)


async def heard_of(client, count, request, how):
    """The first events, and then the connection is cut or the stream reset; the id that came with the headers."""
    with contextlib.suppress(StreamTerminatedError, GRPCError, ConnectionError):
        async with client.opened("Chat", request) as stream:
            heard = [await stream.recv_message() for _ in range(count)]
            operation = stream.initial_metadata["gateway-operation"]
            if how == "cut":
                stream._stream._transport.abort()
                await eventually(lambda: not client._channel._connected)
            else:
                await stream.cancel()
    return heard, operation


async def rest_of(client, operation, after):
    return await client.call("ResumeChat", ResumeChatRequest(operation_id=operation, after_sequence=after))


@pytest.mark.parametrize(
    "mode, how, resumed",
    [
        (Mode.CONNECTION_LOST, "cut", True),
        (Mode.CONNECTION_LOST, "reset", False),
        (Mode.CANCELLED, "cut", True),
        (Mode.CANCELLED, "reset", True),
        (Mode.UNSPECIFIED, "cut", False),
        (Mode.UNSPECIFIED, "reset", False),
    ],
)
async def test_a_cut_connection_is_not_a_reset_stream(whole, mode, how, resumed):
    async with served(whole) as client:
        heard, operation = await heard_of(client, 4, chat(SLOW if resumed else LONG, mode), how)
        rest = await rest_of(client, operation, 4)
        if resumed:
            assert rest.error is None
            assert [event.sequence for event in heard + rest.replies] == list(range(1, 43))
            assert rest.replies[-1].finish.reason is FinishReason.STOP
            assert rest.metadata["gateway-operation"] == operation
        else:
            assert rest.refused[:2] == ("NOT_FOUND", "stream.gone")
            await whole.agree()
            assert whole.world.vertex.journal.streams_aborted == 1
        await whole.agree()


async def test_a_loop_whose_connection_breaks_while_a_tool_runs_goes_on_and_repeats_nothing(whole):
    async with served(whole) as client:
        request = chat("buy 2 AAPL then quote for MSFT", run_tools=RunTools())
        heard, operation = await heard_of(client, 2, request, "cut")
        rest = await rest_of(client, operation, 2)
        assert rest.error is None
        events = heard + rest.replies
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert [event.tool_run.tool for event in events if event.tool_run and event.tool_run.outcome] == [
            "place_order",
            "get_quote",
        ]
        assert len(whole.world.orders()) == 1
        await whole.agree()


async def test_the_next_process_knows_no_stream_of_the_one_before_and_says_what_to_do(around, tmp_path):
    """Its ledger does: it tells what became of the operation, and the same key repeats no effect."""
    asked = chat("buy 2 AAPL then quote for MSFT", run_tools=RunTools(idempotency_key="task-1"))
    async with running(around, tmp_path) as whole, served(whole) as client:
        _, operation = await heard_of(client, 2, asked, "cut")
        await eventually(lambda: len(around.orders()) == 1)
    async with running(around, tmp_path) as whole, served(whole) as client:
        rest = await rest_of(client, operation, 2)
        assert (rest.replies, rest.refused[:2]) == ([], ("NOT_FOUND", "stream.gone"))
        assert "send Chat again" in rest.error.message
        told = (await client.operation(operation)).reply
        assert told.state in (OperationState.SUCCEEDED, OperationState.FAILED)
        whole_answer = await client.call("Chat", asked)
        assert whole_answer.replies[-1].finish.reason is FinishReason.STOP
        outcomes = [one.tool_run.outcome for one in whole_answer.replies if one.tool_run and one.tool_run.outcome]
        assert [one.tool for one in outcomes] == ["place_order", "get_quote"]
        assert outcomes[0].replayed
        assert len(around.orders()) == 1
        await whole.agree()


async def test_a_loop_that_failed_after_its_effect_is_tried_anew_under_its_key_and_repeats_no_effect(whole):
    """The keys of its calls guarantee that; the stream that failed is not given again."""
    asked = chat("buy 2 AAPL", run_tools=RunTools(idempotency_key="task-1"))
    stream, turns = whole.stations.models.stream, []

    async def broken_in_its_second_turn(reservation, deadline_ns, may_hedge=None):
        turns.append(reservation.operation)
        if len(turns) == 2:
            raise UpstreamError(Fault.UNREACHABLE, "made by the test")
        async with aclosing(stream(reservation, deadline_ns, may_hedge)) as chunks:
            async for chunk in chunks:
                yield chunk

    whole.stations = instead("models", stream=broken_in_its_second_turn)(whole.stations)
    async with served(whole) as client:
        first = await client.call("Chat", asked)
        assert first.refused[:2] == ("UNAVAILABLE", "upstream.unreachable")
        second = await client.call("Chat", asked)
        assert second.error is None
        assert second.metadata["gateway-operation"] != first.metadata["gateway-operation"]
        assert second.replies[-1].finish.reason is FinishReason.STOP
        runs = [
            [event.tool_run.outcome for event in heard.replies if event.tool_run and event.tool_run.outcome]
            for heard in (first, second)
        ]
        assert [(one.id, one.replayed) for one in runs[1]] == [(one.id, True) for one in runs[0]]
        assert len(whole.world.orders()) == 1
        await whole.agree()


async def test_an_unknown_wish_is_refused(whole):
    async with served(whole) as client:
        heard = await client.call("Chat", replace(chat(), resumable=Mode(7)))
        assert heard.refused[:2] == ("INVALID_ARGUMENT", "request.malformed")
