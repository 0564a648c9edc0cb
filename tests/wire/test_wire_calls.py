"""Calls over real sockets, by two clients that are not ours: grpcio's C core and grpclib."""

import asyncio
import re

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from h2.settings import SettingCodes
from wire_clients import CHAT_PATH, CODECS_BY_TYPE, METHODS_BY_NAME, grpcio, message, request_headers, stub

from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.ids import RuleId
from gateway.terms.verdict import Kind, Refusal, RefusedError, Violation
from gateway.wire.errors import OUTCOMES
from generated.agentic.gateway.v1 import (
    ChatEvent,
    ChatRequest,
    CountTokensRequest,
    CountTokensResponse,
    ExecuteToolRequest,
    ListModelsRequest,
    TextDelta,
)
from generated.agentic.wire.v1.codec import decode_ErrorInfo, decode_Status

REQUEST_ID = re.compile(r"req-[a-z2-7]{26}")


class OurCodec(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        return CODECS_BY_TYPE[message_type].encode(message)

    def decode(self, data, message_type):
        return CODECS_BY_TYPE[message_type].decode(data)


def refusing(refusal):
    async def count_tokens(request, passage):
        raise RefusedError(refusal)

    return count_tokens


async def refused_by(served, name="CountTokens", request=None, **call):
    async with grpcio(served) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub(channel, name)(request or CountTokensRequest(model="m"), timeout=5, **call)
    return caught.value


async def test_a_unary_call_brings_reply_request_id_and_timing(serve):
    served = await serve()
    async with grpcio(served) as channel:
        call = stub(channel, "CountTokens")(CountTokensRequest(model="gemini"), timeout=5)
        assert await call == CountTokensResponse(input_tokens=6)
        assert REQUEST_ID.fullmatch(dict(await call.initial_metadata())["gateway-request"])
        assert re.fullmatch(r"wire;dur=[0-9.]+", dict(await call.trailing_metadata())["gateway-timing"])
        assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_brings_every_message_in_order(serve):
    served = await serve()
    async with grpcio(served) as channel:
        events = [event async for event in stub(channel, "Chat")(ChatRequest(model="m"), timeout=5)]
    assert [event.sequence for event in events] == [1, 2, 3]


async def test_both_services_are_on_one_port(serve):
    served = await serve()
    async with grpcio(served) as channel:
        operation = await stub(channel, "ExecuteTool")(ExecuteToolRequest(tool="t", arguments_json='{"a":1}'))
    assert operation.result_json == '{"a":1}'


async def test_the_passage_tells_the_call_about_itself(serve):
    passages = []

    async def count_tokens(request, passage):
        passages.append(passage)
        with passage.stages.stage("ledger"):
            passage.reply_headers["gateway-operation"] = "op-7"
        return CountTokensResponse()

    served = await serve(count_tokens=count_tokens)
    sent = (("authorization", "Bearer a"), ("x-serverless-authorization", "Bearer b"), ("authorization", "Bearer c"))
    async with grpcio(served) as channel:
        call = stub(channel, "CountTokens")(CountTokensRequest(), timeout=5, metadata=sent)
        initial, trailing = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
    (passage,) = passages
    assert passage.credentials.authorization == ("Bearer a", "Bearer c")
    assert passage.credentials.serverless_authorization == ("Bearer b",)
    assert 4 < passage.left_s() < 5.1
    assert initial["gateway-operation"] == "op-7"
    assert initial["gateway-request"] == passage.request
    assert "ledger;dur=" in trailing["gateway-timing"]


async def test_no_timeout_is_no_deadline(serve):
    seen = []

    async def count_tokens(request, passage):
        seen.append((passage.deadline_ns, passage.credentials.authorization))
        return CountTokensResponse()

    served = await serve(count_tokens=count_tokens)
    async with grpcio(served) as channel:
        await stub(channel, "CountTokens")(CountTokensRequest())
    assert seen == [(None, ())]


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
async def test_every_kind_of_refusal_has_its_status(serve, kind):
    served = await serve(count_tokens=refusing(Refusal(kind=kind, reason="some.reason", sentence="Do this.")))
    error = await refused_by(served)
    assert error.code().value[0] == OUTCOMES[kind].grpc.value
    assert error.details() == "Do this."


async def test_a_refusal_tells_everything_in_google_details(serve):
    refusal = Refusal(
        kind=Kind.FORBIDDEN,
        reason="limit.notional",
        sentence="Order less: 5\u00a0000 is over the limit \u2014 100 %.",
        rules=(RuleId("notional"), RuleId("room")),
        policy_hash="ab" * 32,
        violations=(Violation(field="qty", description="too much"),),
        retry_after_ms=1_500,
        operation_id="op-3",
    )
    served = await serve(count_tokens=refusing(refusal))
    error = await refused_by(served)
    status = rpc_status.from_call(error)
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    assert [any_.Unpack(into) for any_, into in zip(status.details, (info, retry, bad), strict=True)] == [True] * 3
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert error.details() == "Order less: 5\ufffd000 is over the limit \u2014 100 %."
    assert (info.reason, info.domain) == ("limit.notional", "agentic.gateway")
    request = dict(error.initial_metadata() + error.trailing_metadata())["gateway-request"]
    assert dict(info.metadata) == {
        "request": request,
        "rules": "notional,room",
        "policy_hash": "ab" * 32,
        "operation": "op-3",
    }
    assert retry.retry_delay.ToMilliseconds() == 1_500
    assert [(v.field, v.description) for v in bad.field_violations] == [("qty", "too much")]
    assert "wire;dur=" in dict(error.trailing_metadata())["gateway-timing"]


async def test_our_own_generated_types_read_the_same_details(serve):
    served = await serve(count_tokens=refusing(Refusal(kind=Kind.NOT_FOUND, reason="a.b", sentence="No.")))
    error = await refused_by(served)
    status = decode_Status(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert (status.code, status.message) == (5, "No.")
    assert decode_ErrorInfo(status.details[0].value).reason == "a.b"


async def test_a_refusal_before_the_first_message_carries_reply_headers(serve):
    async def chat(request, passage):
        passage.reply_headers["gateway-operation"] = "op-1"
        raise RefusedError(Refusal(kind=Kind.EXHAUSTED, reason="budget.tokens", sentence="Wait."))
        yield

    served = await serve(chat=chat)
    client = await served.raw()
    for _ in range(20):
        # Frame by frame: of an answer that is one block, grpc.aio sometimes loses the metadata to a race of its own.
        told = await client.ending(client.request(request_headers(CHAT_PATH), message(b"")))
        assert (told["grpc-status"], told["gateway-operation"]) == ("8", "op-1")


async def test_a_refusal_after_some_messages_is_a_refusal(serve):
    async def chat(request, passage):
        yield ChatEvent(sequence=1)
        raise RefusedError(Refusal(kind=Kind.UNAVAILABLE, reason="upstream.truncated", sentence="Again."))

    served = await serve(chat=chat)
    async with grpcio(served) as channel:
        call = stub(channel, "Chat")(ChatRequest(), timeout=5)
        assert (await call.read()).sequence == 1
        with pytest.raises(grpc.aio.AioRpcError, match="Again"):
            await call.read()


@pytest.mark.parametrize("error", [ValueError("secret-key-123"), TimeoutError("secret-key-123")])
async def test_what_is_not_foreseen_is_logged_whole_and_never_shown(serve, error):
    async def count_tokens(request, passage):
        raise error

    served = await serve(count_tokens=count_tokens)
    told = await refused_by(served)
    request = dict((*told.initial_metadata(), *told.trailing_metadata()))["gateway-request"]
    assert told.code() is grpc.StatusCode.INTERNAL
    assert told.details().startswith(f"internal error; quote request id {request}")
    assert "secret" not in repr(told)
    (logged,) = served.log.named("call.failed")
    assert logged["request"] == request
    assert "secret-key-123" in logged["traceback"]
    assert "in count_tokens" in logged["traceback"]


async def test_a_reply_that_cannot_be_encoded_is_internal(serve):
    async def count_tokens(request, passage):
        return CountTokensResponse(input_tokens=1 << 70)

    served = await serve(count_tokens=count_tokens)
    assert (await refused_by(served)).code() is grpc.StatusCode.INTERNAL
    assert "input_tokens" in served.log.named("call.failed")[0]["traceback"]


async def test_a_function_that_cancels_itself_is_internal(serve):
    async def count_tokens(request, passage):
        raise asyncio.CancelledError

    served = await serve(count_tokens=count_tokens)
    assert (await refused_by(served)).code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    "name, value",
    [
        ("gateway-x", "a\r\nset-cookie: b"),
        ("gateway-x", "\u00e4"),
        ("gateway-x", "x" * 20_000),
        ("Gateway-X", "a"),
        (":status", "500"),
        ("grpc-status", "0"),
        ("gateway-x-bin", "a"),
    ],
)
async def test_a_reply_header_that_no_header_can_carry_is_internal(serve, name, value):
    async def count_tokens(request, passage):
        passage.reply_headers[name] = value
        return CountTokensResponse()

    served = await serve(count_tokens=count_tokens)
    assert (await refused_by(served)).code() is grpc.StatusCode.INTERNAL


async def test_a_ledger_that_cannot_write_is_unavailable(serve):
    async def count_tokens(request, passage):
        raise LedgerUnavailableError("disk full")

    served = await serve(count_tokens=count_tokens)
    error = await refused_by(served)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "disk full" not in repr(error)
    assert "disk full" in served.log.named("call.failed")[0]["traceback"]


async def test_a_compressed_request_is_read(serve):
    served = await serve()
    async with grpcio(served) as channel:
        call = stub(channel, "CountTokens")
        reply = await call(CountTokensRequest(model="x" * 5_000), timeout=5, compression=grpc.Compression.Gzip)
    assert reply.input_tokens == 5_000


async def test_an_unknown_method_is_unimplemented(serve):
    served = await serve()
    async with grpcio(served) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match=r"there is no method /a\.B/C") as caught:
            await channel.unary_unary("/a.B/C")(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_bytes_that_are_no_message_are_an_invalid_argument(serve):
    served = await serve()
    async with grpcio(served) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="is not a CountTokensRequest") as caught:
            await channel.unary_unary(METHODS_BY_NAME["CountTokens"].path)(b"\x0a\xff", timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_large_message_passes_in_both_directions(serve):
    async def chat(request, passage):
        yield ChatEvent(text=TextDelta(text=request.model))

    served = await serve(chat=chat)
    text = "\u00e4" * 1_000_000
    async with grpcio(served) as channel:
        events = [event async for event in stub(channel, "Chat")(ChatRequest(model=text), timeout=10)]
    assert events[0].text.text == text


async def test_grpclib_can_call(serve):
    served = await serve(count_tokens=None)
    async with Channel("127.0.0.1", served.port, codec=OurCodec()) as channel:
        unary = UnaryUnaryMethod(channel, METHODS_BY_NAME["CountTokens"].path, CountTokensRequest, CountTokensResponse)
        assert (await unary(CountTokensRequest(model="abc"), timeout=5)).input_tokens == 3
        stream = UnaryStreamMethod(channel, METHODS_BY_NAME["Chat"].path, ChatRequest, ChatEvent)
        assert [event.sequence for event in await stream(ChatRequest(), timeout=5)] == [1, 2, 3]


async def test_grpclib_reads_a_refusal(serve):
    refusal = Refusal(kind=Kind.EXHAUSTED, reason="budget.tokens", sentence="100 % is spent \u2014 wait.")
    served = await serve(count_tokens=refusing(refusal))
    async with Channel("127.0.0.1", served.port, codec=OurCodec()) as channel:
        unary = UnaryUnaryMethod(channel, METHODS_BY_NAME["CountTokens"].path, CountTokensRequest, CountTokensResponse)
        with pytest.raises(GRPCError) as caught:
            await unary(CountTokensRequest(), timeout=5)
    assert (caught.value.status, caught.value.message) == (Status.RESOURCE_EXHAUSTED, "100 % is spent \u2014 wait.")


async def test_many_calls_at_once_on_one_connection(serve):
    served = await serve()
    async with grpcio(served) as channel:
        call = stub(channel, "CountTokens")
        replies = await asyncio.gather(*(call(CountTokensRequest(model="x" * n), timeout=10) for n in range(250)))
    assert [reply.input_tokens for reply in replies] == list(range(250))


async def test_the_log_tells_how_each_call_ended(serve):
    served = await serve()
    async with grpcio(served) as channel:
        await stub(channel, "ListModels")(ListModelsRequest(), timeout=5)
    await served.quiet()
    (ended,) = served.log.named("call.ended")
    assert (ended["path"], ended["status"]) == (METHODS_BY_NAME["ListModels"].path, "OK")
    assert ended["duration_us"] > 0


async def test_a_client_without_a_compression_table_is_served(serve):
    served = await serve()
    client = await served.raw(settings={SettingCodes.HEADER_TABLE_SIZE: 0})
    client.h2.decoder.max_allowed_table_size = 0
    for _ in range(3):
        answer = await client.ending(client.request(body=message(b"")))
        assert answer["grpc-status"] == "0"
