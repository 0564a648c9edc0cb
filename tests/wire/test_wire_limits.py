"""What one request may be: checked while it is read, refused as early as can be."""

import asyncio
import gzip
import struct

import pytest
from h2.events import StreamReset
from wire_clients import METHODS_BY_NAME, PATH, cost_below, eventually, message, request_headers

from generated.agentic.gateway.v1 import CountTokensRequest, CountTokensResponse
from generated.agentic.gateway.v1.codec import decode_CountTokensResponse, encode_CountTokensRequest

MIB = 1024 * 1024
EMPTY = message(b"")


async def status_of(client, stream):
    answer = await client.ending(stream)
    return answer["grpc-status"], answer["grpc-message"]


async def test_256_mib_announced_are_refused_by_the_prefix_alone(serve):
    served = await serve()
    client = await served.raw()
    with cost_below(MIB):
        stream = client.request(body=struct.pack(">BI", 0, 256 * MIB) + b"x" * 1_000, end=False)
        assert await status_of(client, stream) == ("8", "a request message may have at most 4194304 bytes")
    assert client.of(StreamReset, stream)[0].error_code == 0
    assert served.server._load.receiving_bytes == 0


async def test_the_limit_is_the_configured_one_to_the_byte(serve):
    served = await serve(message_bytes_max=1_000)
    client = await served.raw()
    fits = encode_CountTokensRequest(CountTokensRequest(model="x" * 997))
    assert len(fits) == 1_000
    assert (await client.ending(client.request(body=message(fits))))["grpc-status"] == "0"
    over = encode_CountTokensRequest(CountTokensRequest(model="x" * 998))
    assert (await status_of(client, client.request(body=message(over))))[0] == "8"


async def test_the_connection_goes_on_after_a_message_too_large(serve):
    served = await serve(message_bytes_max=100)
    client = await served.raw()
    for _ in range(5):
        stream = client.request(body=struct.pack(">BI", 0, 101), end=False)
        assert (await status_of(client, stream))[0] == "8"
    stream = client.request(body=EMPTY)
    assert (await client.ending(stream))["grpc-status"] == "0"


async def test_a_prefix_in_crumbs_is_read(serve):
    served = await serve()
    client = await served.raw()
    stream = client.request(end=False)
    body = message(encode_CountTokensRequest(CountTokensRequest(model="abc")))
    for byte in body:
        client.data(stream, bytes((byte,)))
    client.data(stream, b"", end=True)
    assert (await client.ending(stream))["grpc-status"] == "0"
    assert decode_CountTokensResponse(client.body(stream)[5:]) == CountTokensResponse(input_tokens=3)


@pytest.mark.parametrize(
    "body, status",
    [
        (None, "12"),
        (b"", "12"),
        (EMPTY + EMPTY, "12"),
        (EMPTY + b"\0", "12"),
        (b"\0\0\0", "3"),
        (struct.pack(">BI", 0, 10) + b"short", "3"),
        (struct.pack(">BI", 2, 0), "13"),
        (struct.pack(">BI", 1, 0), "13"),
    ],
    ids=["nothing", "empty", "two", "trailing", "half-prefix", "half-message", "flag-2", "flag-1-without-encoding"],
)
async def test_anything_but_exactly_one_message_is_refused(serve, body, status):
    served = await serve()
    client = await served.raw()
    assert (await status_of(client, client.request(body=body)))[0] == status


async def test_a_second_message_is_refused_before_the_request_ends(serve):
    served = await serve()
    client = await served.raw()
    stream = client.request(body=EMPTY, end=False)
    client.data(stream, EMPTY)
    assert (await status_of(client, stream))[0] == "12"


async def test_a_slow_trickle_is_cut_and_costs_what_it_sent(serve):
    served = await serve(body_s=0.05)
    client = await served.raw()
    stream = client.request(body=struct.pack(">BI", 0, 4 * MIB) + b"x", end=False)
    await eventually(lambda: served.server._load.receiving_bytes == 6)
    client.data(stream, b"y")
    assert served.server.running == 0
    assert (await status_of(client, stream)) == ("4", "the request message did not arrive in time; send it at once")
    assert served.server._load.receiving_bytes == 0


async def test_headers_without_a_body_are_cut_too(serve):
    served = await serve(body_s=0.05)
    client = await served.raw()
    assert (await status_of(client, client.request(end=False)))[0] == "4"


async def test_the_deadline_counts_from_the_headers(serve):
    served = await serve()
    client = await served.raw()
    stream = client.request(request_headers(PATH, ("grpc-timeout", "30m")), end=False)
    assert (await status_of(client, stream)) == ("4", "the deadline passed; give the call more time")


async def test_all_bodies_together_have_a_bound(serve):
    served = await serve(receiving_bytes_max=10_000)
    client, other = await served.raw(), await served.raw()
    first = client.request(body=struct.pack(">BI", 0, 8_000) + b"x" * 7_000, end=False)
    await eventually(lambda: served.server._load.receiving_bytes == 7_005)
    second = other.request(body=struct.pack(">BI", 0, 8_000) + b"x" * 7_000, end=False)
    answer = await other.ending(second)
    assert (answer["grpc-status"], served.log.named("call.ended")[0]["reason"]) == ("14", "wire.receiving_full")
    client.data(first, b"x" * 1_000, end=True)
    assert (await client.ending(first))["grpc-status"] == "0"


async def test_gzip_is_inflated_up_to_the_limit_and_no_further(serve):
    served = await serve(message_bytes_max=100_000)
    client = await served.raw()
    headers = request_headers(PATH, ("grpc-encoding", "gzip"))
    fits = gzip.compress(encode_CountTokensRequest(CountTokensRequest(model="x" * 90_000)))
    stream = client.request(headers, message(fits, 1))
    assert (await client.ending(stream))["grpc-status"] == "0"
    assert decode_CountTokensResponse(client.body(stream)[5:]).input_tokens == 90_000
    bomb = gzip.compress(b"x" * 50 * MIB)
    with cost_below(MIB):
        assert (await status_of(client, client.request(headers, message(bomb, 1))))[0] == "8"


@pytest.mark.parametrize(
    "body",
    [b"not gzip", gzip.compress(b"")[:-4], gzip.compress(b"") + b"\0", gzip.compress(b"") * 2],
    ids=["garbage", "cut-off", "trailing", "two-members"],
)
async def test_anything_but_one_gzip_member_is_refused(serve, body):
    served = await serve()
    client = await served.raw()
    stream = client.request(request_headers(PATH, ("grpc-encoding", "gzip")), message(body, 1))
    assert (await status_of(client, stream))[0] == "3"


async def test_gzip_may_leave_a_message_uncompressed(serve):
    served = await serve()
    client = await served.raw()
    stream = client.request(request_headers(PATH, ("grpc-encoding", "gzip")), EMPTY)
    assert (await client.ending(stream))["grpc-status"] == "0"


async def test_an_unknown_encoding_is_answered_with_those_that_are_known(serve):
    served = await serve()
    client = await served.raw()
    answer = await client.ending(client.request(request_headers(PATH, ("grpc-encoding", "br")), EMPTY))
    assert (answer["grpc-status"], answer["grpc-accept-encoding"]) == ("12", "identity,gzip")


@pytest.mark.parametrize("value", ["", "5", "S", "1s", "-1S", "1.5S", "123456789S", "\u0661S", " 1S", "1S "])
async def test_a_timeout_that_is_none_is_refused(serve, value):
    served = await serve()
    client = await served.raw()
    stream = client.request(request_headers(PATH, ("grpc-timeout", value)), EMPTY)
    assert (await status_of(client, stream))[0] == "3"


async def test_two_timeouts_are_refused(serve):
    served = await serve()
    client = await served.raw()
    stream = client.request(request_headers(PATH, ("grpc-timeout", "1S"), ("grpc-timeout", "9S")), EMPTY)
    assert (await status_of(client, stream))[0] == "3"


async def test_more_headers_than_the_bound_are_refused_and_the_connection_goes_on(serve):
    served = await serve()
    client = await served.raw()
    stream = client.request(request_headers(PATH, ("x-big", "x" * 33_000)), EMPTY)
    assert (await status_of(client, stream))[0] == "8"
    many = [(f"x-{number}", "") for number in range(130)]
    assert (await status_of(client, client.request(request_headers(PATH, *many), EMPTY)))[0] == "8"
    assert (await client.ending(client.request(body=EMPTY)))["grpc-status"] == "0"


@pytest.mark.parametrize(
    "headers, status",
    [
        (request_headers(content_type="application/json"), "415"),
        (request_headers(content_type="application/grpc-web"), "415"),
        (request_headers(content_type="application/grpc+json"), "415"),
        (request_headers(content_type=""), "415"),
        (request_headers(method="GET"), "405"),
    ],
    ids=["json", "grpc-web", "grpc+json", "none", "get"],
)
async def test_what_is_not_grpc_is_answered_in_http(serve, headers, status):
    served = await serve()
    client = await served.raw()
    answer = await client.ending(client.request(headers, EMPTY))
    assert answer[":status"] == status
    assert "grpc-status" not in answer
    assert answer["gateway-request"].startswith("req-")


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc; charset=utf-8"])
async def test_other_spellings_of_grpc_are_accepted(serve, content_type):
    served = await serve()
    client = await served.raw()
    answer = await client.ending(client.request(request_headers(content_type=content_type), EMPTY))
    assert answer["grpc-status"] == "0"


@pytest.mark.parametrize(
    "headers",
    [
        request_headers()[1:],
        [*request_headers(), (":path", PATH)],
        [*request_headers()[:1], ("x-early", "1"), *request_headers()[1:]],
        [*request_headers(), (":status", "200")],
        [*request_headers(), ("X-Upper", "1")],
        [*request_headers(), ("connection", "close")],
        [*request_headers(), ("transfer-encoding", "chunked")],
        [*request_headers(), ("x-line", "a\r\nb: c")],
        [*request_headers(), ("x\ny", "a")],
        [*request_headers(), ("", "a")],
    ],
    ids=["no-method", "two-paths", "late-pseudo", "status", "upper", "connection", "te", "crlf", "name", "no-name"],
)
async def test_what_is_no_http2_request_is_reset(serve, headers):
    served = await serve()
    client = await served.raw()
    stream = client.request(headers, EMPTY)
    await client.until(lambda: client.of(StreamReset, stream))
    assert client.of(StreamReset, stream)[0].error_code == 1
    assert (await client.ending(client.request(body=EMPTY)))["grpc-status"] == "0"


async def test_no_more_calls_run_than_the_bound_and_health_still_answers(serve):
    go = asyncio.Event()

    async def count_tokens(request, passage):
        await go.wait()
        return CountTokensResponse()

    served = await serve(count_tokens=count_tokens, calls_running_max=3)
    client = await served.raw()
    streams = [client.request(body=EMPTY) for _ in range(3)]
    await eventually(lambda: served.server.running == 3)
    answer = await client.ending(client.request(body=EMPTY))
    assert answer["grpc-status"] == "14"
    assert served.log.named("call.ended")[0]["reason"] == "wire.full"
    health = await client.ending(client.request(request_headers(METHODS_BY_NAME["Check"].path), EMPTY))
    assert health["grpc-status"] == "0"
    go.set()
    for stream in streams:
        assert (await client.ending(stream))["grpc-status"] == "0"
