"""Deadlines, callers that leave, and readers that do not read."""

import asyncio

import grpc
import grpc.aio
import pytest
from h2.settings import SettingCodes
from wire_clients import CHAT_PATH, PATH, eventually, grpcio, message, request_headers, stub

from gateway.terms.verdict import Kind, Refusal, RefusedError
from generated.agentic.gateway.v1 import ChatEvent, ChatRequest, CountTokensRequest, CountTokensResponse, TextDelta

KILOBYTE = ChatEvent(text=TextDelta(text="x" * 1_000))


class Watched:
    """A stream of kilobytes that notes how far it came, and who closed it."""

    def __init__(self, *, pause_s=0.0):
        self.sent = 0
        self.notes = []
        self.pause_s = pause_s
        self.tasks = []

    async def chat(self, request, passage):
        self.tasks.append(asyncio.current_task())
        try:
            while True:
                self.sent += 1
                yield KILOBYTE
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
        finally:
            # An await shows that closing is waited for, not only begun.
            await asyncio.sleep(0.005)
            self.tasks.append(asyncio.current_task())
            self.notes.append("closed")

    def tell(self, event, fields):
        if event == "call.ended":
            self.notes.append(fields["status"])

    async def ended(self):
        await eventually(lambda: "closed" in self.notes and len(self.notes) > 1)


async def still(watched):
    """Wait until the generator makes no step any more."""
    before = -1
    while before != watched.sent:
        before = watched.sent
        await asyncio.sleep(0.03)


async def watched_server(serve, watched, **bounds):
    served = await serve(chat=watched.chat, **bounds)
    served.log.tell = watched.tell
    return served


async def test_a_caller_that_resets_while_the_server_is_blocked_by_flow_control(serve):
    watched = Watched()
    served = await watched_server(serve, watched)
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 10_000}, acks=False)
    stream = client.request(request_headers(CHAT_PATH), message(b""))
    await still(watched)
    assert watched.sent == 10
    client.reset(stream)
    await watched.ended()
    # The generator's own clean-up was over before the call was, and it ran in the call's own task.
    assert watched.notes == ["closed", "CANCELLED"]
    assert watched.tasks[0] is watched.tasks[-1]


async def test_a_connection_that_breaks_while_the_server_is_blocked(serve):
    watched = Watched()
    served = await watched_server(serve, watched)
    client = await served.raw(acks=False)
    client.request(request_headers(CHAT_PATH), message(b""))
    await still(watched)
    client.writer.transport.abort()
    await watched.ended()
    assert watched.notes == ["closed", "CANCELLED"]
    assert watched.tasks[0] is watched.tasks[-1]


async def test_a_caller_that_leaves_while_the_server_waits_for_the_upstream(serve):
    watched = Watched(pause_s=60)
    served = await watched_server(serve, watched)
    async with grpcio(served) as channel:
        call = stub(channel, "Chat")(ChatRequest())
        await call.read()
        call.cancel()
        await watched.ended()
    assert watched.notes == ["closed", "CANCELLED"]


async def test_a_caller_that_leaves_during_a_unary_call(serve):
    ends = []

    async def count_tokens(request, passage):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    served = await serve(count_tokens=count_tokens)
    async with grpcio(served) as channel:
        call = stub(channel, "CountTokens")(CountTokensRequest())
        await eventually(lambda: served.server.running)
        call.cancel()
        await served.quiet()
    assert ends == ["cancelled"]


async def test_a_reset_in_the_same_segment_never_runs_the_call(serve):
    ran = []

    async def count_tokens(request, passage):
        ran.append(request)
        return CountTokensResponse()

    served = await serve(count_tokens=count_tokens)
    client = await served.raw()
    stream = client.h2.get_next_available_stream_id()
    client.h2.send_headers(stream, request_headers())
    client.h2.send_data(stream, message(b""), end_stream=True)
    client.h2.reset_stream(stream)
    client.flush()
    last = client.request(body=message(b""))
    assert (await client.ending(last))["grpc-status"] == "0"
    await served.quiet()
    assert len(ran) == 1


async def test_a_slow_reader_slows_the_generator(serve):
    watched = Watched()
    served = await watched_server(serve, watched)
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 4_000}, acks=False)
    stream = client.request(request_headers(CHAT_PATH), message(b""))
    await still(watched)
    assert watched.sent == 4
    client.h2.increment_flow_control_window(3_000, stream)
    client.flush()
    await still(watched)
    assert watched.sent == 7
    client.reset(stream)
    await watched.ended()


async def test_a_socket_that_nobody_reads_slows_the_generator_too(serve):
    watched = Watched()
    served = await watched_server(serve, watched)
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1}, acks=False)
    client.h2.increment_flow_control_window(2**30)
    client.writer.transport.pause_reading()
    client.request(request_headers(CHAT_PATH), message(b""))
    await still(watched)
    # What the two kernels and one transport buffer hold, and no more.
    assert watched.sent < 16_000
    client.writer.transport.abort()
    await watched.ended()


async def test_a_generator_that_never_waits_lets_other_calls_in(serve):
    watched = Watched()
    served = await watched_server(serve, watched)
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1}, acks=False)
    client.h2.increment_flow_control_window(2**30)
    client.request(request_headers(CHAT_PATH), message(b""))
    async with grpcio(served) as channel:
        assert await stub(channel, "CountTokens")(CountTokensRequest(), timeout=5) is not None
    client.writer.transport.abort()
    await watched.ended()


async def test_the_deadline_cancels_the_call_and_is_told(serve):
    watched = Watched(pause_s=60)
    served = await watched_server(serve, watched)
    client = await served.raw()
    stream = client.request(request_headers(CHAT_PATH, ("grpc-timeout", "30m")), message(b""))
    answer = await client.ending(stream)
    assert answer["grpc-status"] == "4"
    assert answer["grpc-message"] == "the deadline passed; give the call more time"
    assert "wire;dur=" in answer["gateway-timing"]
    await watched.ended()
    assert watched.notes == ["closed", "DEADLINE_EXCEEDED"]


async def test_the_deadline_ends_a_call_that_is_blocked_by_flow_control(serve):
    watched = Watched()
    served = await watched_server(serve, watched)
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 100}, acks=False)
    stream = client.request(request_headers(CHAT_PATH, ("grpc-timeout", "50m")), message(b""))
    assert (await client.ending(stream))["grpc-status"] == "4"
    await watched.ended()


async def test_a_deadline_of_nothing_never_runs_the_call(serve):
    ran = []

    async def count_tokens(request, passage):
        ran.append(passage)
        await asyncio.sleep(60)

    served = await serve(count_tokens=count_tokens)
    client = await served.raw()
    stream = client.request(request_headers(PATH, ("grpc-timeout", "0n")))
    assert (await client.ending(stream))["grpc-status"] in {"4", "12"}
    stream = client.request(request_headers(PATH, ("grpc-timeout", "0n")), message(b""))
    assert (await client.ending(stream))["grpc-status"] == "4"
    assert ran == []


async def test_grpcio_sees_the_deadline(serve):
    async def count_tokens(request, passage):
        await asyncio.sleep(60)

    served = await serve(count_tokens=count_tokens)
    async with grpcio(served) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub(channel, "CountTokens")(CountTokensRequest(), timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await served.quiet()


async def test_a_timeout_inside_is_not_the_deadline(serve):
    async def count_tokens(request, passage):
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)

    served = await serve(count_tokens=count_tokens)
    client = await served.raw()
    stream = client.request(request_headers(PATH, ("grpc-timeout", "5S")), message(b""))
    assert (await client.ending(stream))["grpc-status"] == "13"


async def test_the_clean_up_is_not_cut_when_the_caller_leaves_after_the_deadline(serve):
    steps = []

    async def chat(request, passage):
        try:
            yield KILOBYTE
            await asyncio.sleep(60)
        finally:
            steps.append("began")
            await asyncio.sleep(0.05)
            steps.append("ended")

    served = await serve(chat=chat)
    client = await served.raw()
    stream = client.request(request_headers(CHAT_PATH, ("grpc-timeout", "20m")), message(b""))
    await eventually(lambda: steps)
    client.reset(stream)
    client.writer.transport.abort()
    await served.quiet()
    assert steps == ["began", "ended"]


async def test_a_reader_that_stalls_for_too_long_is_ended(serve):
    watched = Watched()
    served = await watched_server(serve, watched, send_stall_s=0.05)
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 100}, acks=False)
    stream = client.request(request_headers(CHAT_PATH), message(b""))
    answer = await client.ending(stream)
    assert (answer["grpc-status"], answer["grpc-message"]) == ("4", "the caller stopped reading; read on, or cancel")
    await watched.ended()


async def test_a_peer_that_reads_nothing_for_too_long_loses_its_connection(serve):
    watched = Watched()
    served = await watched_server(serve, watched, write_stall_s=0.05)
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1}, acks=False)
    client.h2.increment_flow_control_window(2**30)
    client.writer.transport.pause_reading()
    client.request(request_headers(CHAT_PATH), message(b""))
    await watched.ended()
    assert watched.notes == ["closed", "CANCELLED"]
    client.writer.transport.abort()


async def test_a_call_that_never_ends_is_ended(serve):
    watched = Watched(pause_s=60)
    served = await watched_server(serve, watched, call_s_max=0.05)
    client = await served.raw()
    stream = client.request(request_headers(CHAT_PATH), message(b""))
    answer = await client.ending(stream)
    assert answer["grpc-status"] == "14"
    await watched.ended()


async def blocked_line(serve, **calls):
    """A connection whose socket takes nothing more, because one of its streams has filled it."""
    watched = Watched()
    served = await watched_server(serve, watched, **calls)
    client = await served.raw(settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1}, acks=False)
    client.h2.increment_flow_control_window(2**30)
    client.writer.transport.pause_reading()
    client.request(request_headers(CHAT_PATH), message(b""))
    await still(watched)
    return served, client


async def test_an_answer_that_waits_for_the_socket_ends_with_its_connection(serve):
    async def count_tokens(request, passage):
        await asyncio.sleep(60)

    served, client = await blocked_line(serve, count_tokens=count_tokens)
    client.request(request_headers(PATH, ("grpc-timeout", "20m")), message(b""))
    await eventually(lambda: served.server.running == 2)
    await asyncio.sleep(0.04)
    assert served.server.running == 2
    client.writer.transport.abort()
    await served.quiet()


async def test_an_answer_that_waits_for_the_socket_is_not_cut_by_the_deadline(serve):
    async def count_tokens(request, passage):
        raise RefusedError(Refusal(kind=Kind.FORBIDDEN, reason="a.b", sentence="No."))

    served, client = await blocked_line(serve, count_tokens=count_tokens)
    stream = client.request(request_headers(PATH, ("grpc-timeout", "20m")), message(b""))
    await eventually(lambda: served.server.running == 2)
    await asyncio.sleep(0.04)
    client.reset(1)
    client.writer.transport.resume_reading()
    client.acks = True
    assert (await client.ending(stream))["grpc-message"] == "No."


async def test_a_stream_that_never_waits_lets_the_loop_turn(serve):
    turns = []

    async def chat(request, passage):
        began = len(turns)
        for number in range(320):
            yield ChatEvent(sequence=number)
        turns.append(len(turns) - began)

    served = await serve(chat=chat)
    client = await served.raw()

    def turn():
        turns.append(0)
        if not client.closed:
            asyncio.get_running_loop().call_soon(turn)

    turn()
    stream = client.request(request_headers(CHAT_PATH), message(b""))
    assert (await client.ending(stream))["grpc-status"] == "0"
    client.closed = True
    assert max(turns) >= 10


async def test_leaving_a_fast_stream_is_no_attack(serve):
    sent = []

    async def chat(request, passage):
        while True:
            sent.append(1)
            yield ChatEvent(sequence=1)

    served = await serve(chat=chat, chatter_burst=50, resets_burst=5)
    client = await served.raw()
    await client.until(lambda: client.events)
    client.writer.transport.pause_reading()
    stream = client.request(request_headers(CHAT_PATH), message(b""))
    await eventually(lambda: len(sent) > 2_000)
    # h2 answers every frame that it finds on a stream it has reset with another reset, as grpclib's clients do.
    client.reset(stream)
    client.writer.transport.resume_reading()
    await served.quiet()
    assert (await client.ending(client.request(body=message(b""))))["grpc-status"] == "0"
    assert client.goaway() is None
