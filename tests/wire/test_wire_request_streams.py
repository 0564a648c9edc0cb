"""Requests that stream: client-streaming and bidirectional calls, their flow control, their limits and their ends."""

import asyncio
import gzip
import struct

import grpc
import grpclib
import pytest
from grpclib.client import Channel
from h2.errors import ErrorCodes
from h2.events import StreamReset, WindowUpdated
from wire_clients import DATA, eventually, frame, grpcio, message, request_headers

from gateway.terms.verdict import Kind, Refusal, RefusedError
from gateway.wire.errors import EndedError
from gateway.wire.table import bind
from generated.agentic.gateway.v1 import CountTokensRequest, CountTokensResponse
from generated.agentic.gateway.v1.codec import (
    decode_CountTokensResponse,
    encode_CountTokensRequest,
)
from generated.service_table import Cardinality, Method

KIB = 1024
GATHER, EACH = "/test.Letters/Gather", "/test.Letters/Each"
METHODS = tuple(
    Method(
        path=path,
        cardinality=cardinality,
        request=CountTokensRequest,
        reply=CountTokensResponse,
        side_effect_free=False,
    )
    for path, cardinality in ((GATHER, Cardinality.STREAM_UNARY), (EACH, Cardinality.STREAM_STREAM))
)


def _check(request):
    if request.model == "refuse":
        raise RefusedError(Refusal(kind=Kind.FORBIDDEN, reason="test.no", sentence="no"))


class Letters:
    """Counts letters: of all requests, or of each one."""

    def __init__(self):
        self.seen = []
        self.notes = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.error = None

    async def gather(self, requests, passage):
        total = 0
        async for request in self._noted(requests):
            total += len(request.model)
        return CountTokensResponse(input_tokens=total)

    async def each(self, requests, passage):
        task = asyncio.current_task()
        try:
            async for request in self._noted(requests):
                yield CountTokensResponse(input_tokens=len(request.model))
        finally:
            await asyncio.sleep(0)
            self.notes.append("closed" if asyncio.current_task() is task else "closed elsewhere")

    async def _noted(self, requests):
        try:
            await self.may_read.wait()
            async for request in requests:
                self.seen.append(len(request.model))
                _check(request)
                yield request
                await self.may_read.wait()
        except BaseException as error:
            self.error = error
            raise


@pytest.fixture
def letters():
    return Letters()


@pytest.fixture
def served(serve, letters):
    return lambda **bounds: serve(more=bind(METHODS, letters), **bounds)


def body(*models):
    return b"".join(message(encode_CountTokensRequest(CountTokensRequest(model=model))) for model in models)


def counts(data):
    found = []
    while data:
        size = struct.unpack(">I", data[1:5])[0]
        found.append(decode_CountTokensResponse(data[5 : 5 + size]).input_tokens)
        data = data[5 + size :]
    return found


def coded(make, path):
    return make(path, request_serializer=encode_CountTokensRequest, response_deserializer=decode_CountTokensResponse)


def requests(*models):
    return iter([CountTokensRequest(model=model) for model in models])


async def status_of(client, stream):
    answer = await client.ending(stream)
    return answer["grpc-status"], answer["grpc-message"]


async def ready(client):
    """Wait until the server's windows are known."""
    http2 = client.h2
    await client.until(lambda: http2.remote_settings.initial_window_size > 65_535)
    await client.until(lambda: http2.outbound_flow_control_window > 65_535)


async def test_grpcio_streams_requests(served):
    served = await served()
    async with grpcio(served) as channel:
        reply = await coded(channel.stream_unary, GATHER)(requests("a", "bcd", ""))
        assert reply.input_tokens == 4
        reply = await coded(channel.stream_unary, GATHER)(requests())
        assert reply.input_tokens == 0
        replies = coded(channel.stream_stream, EACH)(requests("a", "bcd", ""))
        assert [reply.input_tokens async for reply in replies] == [1, 3, 0]


async def test_grpcio_talks_in_turns(served):
    """Each answer comes before the next question: nothing waits for the end of the requests."""
    served = await served()
    async with grpcio(served) as channel:
        call = coded(channel.stream_stream, EACH)()
        for model in ("a", "bb", "ccc"):
            await call.write(CountTokensRequest(model=model))
            assert (await call.read()).input_tokens == len(model)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


class GrpclibCodec:
    __content_subtype__ = "proto"

    def encode(self, value, kind):
        return encode_CountTokensRequest(value)

    def decode(self, data, kind):
        return decode_CountTokensResponse(data)


async def test_grpclib_streams_requests(served):
    served = await served()
    async with Channel("127.0.0.1", served.port, codec=GrpclibCodec()) as channel:
        streaming = grpclib.const.Cardinality.STREAM_STREAM
        async with channel.request(EACH, streaming, CountTokensRequest, CountTokensResponse) as stream:
            for model in ("a", "bb"):
                await stream.send_message(CountTokensRequest(model=model))
                assert (await stream.recv_message()).input_tokens == len(model)
            await stream.end()
            assert await stream.recv_message() is None
        gathering = grpclib.const.Cardinality.STREAM_UNARY
        async with channel.request(GATHER, gathering, CountTokensRequest, CountTokensResponse) as stream:
            for number in range(9):
                await stream.send_message(CountTokensRequest(model="x" * 40_000), end=number == 8)
            assert (await stream.recv_message()).input_tokens == 360_000


async def test_messages_are_read_however_they_are_cut(served):
    served = await served()
    client = await served.raw()
    stream = client.request(request_headers(EACH), end=False)
    for byte in body("abc", "", "de"):
        client.data(stream, bytes((byte,)))
    client.data(stream, body("f", "gh"), end=True)
    assert (await client.ending(stream))["grpc-status"] == "0"
    assert counts(client.body(stream)) == [3, 0, 2, 1, 2]


async def test_a_compressed_message_among_plain_ones(served):
    served = await served()
    client = await served.raw()
    packed = message(gzip.compress(encode_CountTokensRequest(CountTokensRequest(model="x" * 5_000))), flag=1)
    stream = client.request(request_headers(EACH, ("grpc-encoding", "gzip")), body("a") + packed + body("b"))
    assert (await client.ending(stream))["grpc-status"] == "0"
    assert counts(client.body(stream)) == [1, 5_000, 1]


async def test_the_window_opens_as_messages_are_read(served, letters):
    """What waits for its reader is the stream's window and no more; a reader that goes on lets the caller go on."""
    letters.may_read.clear()
    served = await served()
    client = await served.raw()
    stream = client.request(request_headers(GATHER), end=False)
    await ready(client)
    sent = 0
    while client.h2.local_flow_control_window(stream) >= 10_240:
        client.data(stream, message(encode_CountTokensRequest(CountTokensRequest(model="x" * 10_232))))
        sent += 1
    assert sent == 25
    await eventually(lambda: served.server._load.receiving_bytes >= 250 * KIB)
    assert not client.of(WindowUpdated, stream)
    letters.may_read.set()
    await client.until(lambda: client.h2.local_flow_control_window(stream) >= 128 * KIB)
    client.data(stream, b"", end=True)
    assert (await client.ending(stream))["grpc-status"] == "0"
    assert counts(client.body(stream)) == [25 * 10_232]


async def test_who_sends_more_than_the_window_loses_the_connection(served, letters):
    letters.may_read.clear()
    served = await served()
    client = await served.raw()
    stream = client.request(request_headers(GATHER), end=False)
    client.follows = False
    client.write(frame(DATA, 0, stream, struct.pack(">BI", 0, 3_000_000) + bytes(16_379)) * 17)
    await client.until_closed()
    assert client.goaway() is ErrorCodes.FLOW_CONTROL_ERROR


async def test_streams_that_nobody_reads_do_not_hold_up_the_connection(served, letters):
    letters.may_read.clear()
    served = await served()
    client = await served.raw()
    await ready(client)
    for _ in range(5):
        stream = client.request(request_headers(GATHER), end=False)
        for _ in range(25):
            while client.h2.outbound_flow_control_window < 10_240:
                await client.read()
            client.data(stream, message(encode_CountTokensRequest(CountTokensRequest(model="x" * 10_232))))
    other = client.request(body=body("x" * 20_000))
    assert (await client.ending(other))["grpc-status"] == "0"


async def test_a_message_larger_than_the_window_is_read(served):
    served = await served(stream_window_bytes=65_535)
    async with grpcio(served) as channel:
        big = "x" * 3_000_000
        assert (await coded(channel.stream_unary, GATHER)(requests(big, big))).input_tokens == 6_000_000


async def test_all_calls_together_hold_a_bounded_number_of_bytes(served, letters):
    letters.may_read.clear()
    served = await served(receiving_bytes_max=100 * KIB)
    client = await served.raw()
    await ready(client)
    first = client.request(request_headers(GATHER), body("x" * 60_000), end=False)
    await eventually(lambda: served.server._load.receiving_bytes > 60_000)
    second = client.request(request_headers(GATHER), body("x" * 60_000), end=False)
    assert (await status_of(client, second))[0] == "14"
    letters.may_read.set()
    client.data(first, b"", end=True)
    assert (await client.ending(first))["grpc-status"] == "0"


@pytest.mark.parametrize(
    "tail, status",
    [
        (struct.pack(">BI", 0, 4 * KIB * KIB + 1), "8"),
        (struct.pack(">BI", 2, 0), "13"),
        (struct.pack(">BI", 1, 0), "13"),
        (message(b"\xff"), "3"),
    ],
    ids=["too-large", "flag-2", "flag-1-without-encoding", "no-message"],
)
async def test_a_bad_message_ends_the_call_and_not_the_connection(served, letters, tail, status):
    served = await served()
    client = await served.raw()
    stream = client.request(request_headers(EACH), body("abc") + tail, end=False)
    assert (await status_of(client, stream))[0] == status
    assert client.of(StreamReset, stream)[0].error_code == 0
    assert letters.notes in ([], ["closed"])
    again = client.request(request_headers(EACH), body("abc"))
    assert (await client.ending(again))["grpc-status"] == "0"


@pytest.mark.parametrize("tail", [b"\0\0\0", struct.pack(">BI", 0, 10) + b"short"], ids=["prefix", "message"])
async def test_a_request_that_ends_within_a_message_is_refused(served, tail):
    served = await served()
    client = await served.raw()
    stream = client.request(request_headers(EACH), body("abc") + tail)
    assert await status_of(client, stream) == ("3", "the request ended within its message; send it whole")
    assert counts(client.body(stream)) == [3]


async def test_a_deadline_ends_the_wait_for_requests(served, letters):
    served = await served()
    client = await served.raw()
    stream = client.request(request_headers(EACH, ("grpc-timeout", "50m")), body("abc"), end=False)
    assert (await status_of(client, stream))[0] == "4"
    assert letters.notes == ["closed"]


async def test_a_message_that_has_begun_must_be_complete_in_time(served, letters):
    served = await served(body_s=0.05)
    client = await served.raw()
    quiet = client.request(request_headers(EACH), body("abc"), end=False)
    slow = client.request(request_headers(EACH), body("abc") + b"\0\0", end=False)
    assert await status_of(client, slow) == ("4", "the request message did not arrive in time; send it at once")
    # Between messages a caller may be silent.
    client.data(quiet, b"", end=True)
    assert (await client.ending(quiet))["grpc-status"] == "0"


async def test_time_does_not_run_while_the_gateway_is_the_slow_one(served, letters):
    letters.may_read.clear()
    served = await served(body_s=0.03)
    client = await served.raw()
    stream = client.request(request_headers(EACH), body("abc") + body("de")[:3], end=False)
    await asyncio.sleep(0.06)
    letters.may_read.set()
    client.data(stream, body("de")[3:], end=True)
    assert (await client.ending(stream))["grpc-status"] == "0"


async def test_a_caller_that_leaves_ends_the_iterator_and_closes_the_generator(served, letters):
    served = await served()
    client = await served.raw()
    stream = client.request(request_headers(EACH), body("abc"), end=False)
    await eventually(lambda: letters.seen)
    client.reset(stream)
    await eventually(lambda: letters.notes)
    assert letters.notes == ["closed"]
    assert isinstance(letters.error, asyncio.CancelledError)
    await served.quiet()
    assert served.log.named("call.ended")[-1]["status"] == "CANCELLED"


async def test_who_keeps_the_iterator_beyond_the_call_does_not_wait_for_ever(serve):
    kept = []

    class Keeping(Letters):
        async def gather(self, requests, passage):
            kept.append(requests)
            return CountTokensResponse()

    Keeping.__name__ = "Letters"
    served = await serve(more=bind(METHODS, Keeping()))
    client = await served.raw()
    stream = client.request(request_headers(GATHER), end=False)
    assert (await client.ending(stream))["grpc-status"] == "0"
    with pytest.raises(EndedError, match=r"wire\.caller_left"):
        async with asyncio.timeout(1):
            await anext(kept[0])


async def test_an_answer_before_the_end_of_the_requests_is_whole(served):
    served = await served()
    client = await served.raw()
    stream = client.request(request_headers(GATHER), body("refuse"), end=False)
    assert await status_of(client, stream) == ("7", "no")
    assert client.of(StreamReset, stream)[0].error_code == 0


async def test_the_bound_on_running_calls_holds(served, letters):
    served = await served(calls_running_max=1)
    client = await served.raw()
    first = client.request(request_headers(EACH), end=False)
    await eventually(lambda: served.server.running == 1)
    assert (await client.ending(client.request(request_headers(EACH))))["grpc-status"] == "14"
    client.data(first, b"", end=True)
    assert (await client.ending(first))["grpc-status"] == "0"


async def test_a_drain_ends_a_call_that_waits_for_requests(served, letters):
    served = await served()
    client = await served.raw()
    stream = client.request(request_headers(EACH), body("abc"), end=False)
    await client.until(lambda: client.body(stream))
    drained = asyncio.get_running_loop().create_task(served.server.drain(0.05))
    assert (await client.ending(stream))["grpc-status"] == "14"
    assert (await drained).cut == 1
    assert letters.notes == ["closed"]
