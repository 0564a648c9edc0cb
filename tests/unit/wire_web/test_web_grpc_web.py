"""gRPC-Web, binary and text, through ASGI alone."""

import gzip
from base64 import b64decode, b64encode

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from web_echo import Web, envelope, reply, request, trailers

from gateway.terms.verdict import Kind, Refusal, RefusedError, Violation
from gateway.wire.errors import EndedError
from gateway.wire.web.grpc_web_text import Base64Text
from generated.agentic.gateway.v1 import Operation

PROTO = "application/grpc-web+proto"
TEXT = "application/grpc-web-text"


def trailers_of(exchange):
    """The trailers, which are in the last envelope and the only one of its kind."""
    flags = [flag for flag, _ in exchange.envelopes]
    assert flags[-1] == 0x80
    assert not any(flag & 0x80 for flag in flags[:-1])
    return trailers(exchange.envelopes[-1][1])


def replies(exchange, codec="proto"):
    return [
        reply(gzip.decompress(data) if flag & 1 else data, codec).id
        for flag, data in exchange.envelopes
        if not flag & 0x80
    ]


@pytest.mark.parametrize("content_type", ["application/grpc-web", PROTO, "application/grpc-web+json"])
@pytest.mark.parametrize(
    "name,tools,expected",
    [
        ("Say", ["s"], ["s"]),
        ("Look", ["s"], ["s"]),
        ("Tell", ["t"], ["t0", "t1", "t2"]),
        ("Collect", ["a", "b"], ["a+b"]),
        ("Talk", ["a", "b"], ["a", "b"]),
    ],
)
async def test_every_kind_of_method(content_type, name, tools, expected):
    codec = "json" if content_type.endswith("json") else "proto"
    web = Web()
    done = await web.call(name, b"".join(envelope(request(codec, tool=tool)) for tool in tools), content_type)
    assert (done.status, done.headers["content-type"]) == (200, content_type)
    assert replies(done, codec) == expected
    assert trailers_of(done)["grpc-status"] == "0"
    assert trailers_of(done)["gateway-timing"].startswith("wire;dur=")
    assert web.quiet()


@pytest.mark.parametrize("name", ["Say", "Tell"])
@pytest.mark.parametrize("body", [b"", envelope(b"") * 2])
async def test_one_request_is_neither_none_nor_two(name, body):
    assert trailers_of(await Web().call(name, body, PROTO))["grpc-status"] == "12"


async def test_a_refusal_is_told_as_grpc_tells_it():
    refusal = Refusal(
        kind=Kind.EXHAUSTED,
        reason="budget.exhausted",
        sentence="n\u00f6 budget",
        violations=(Violation(field="tool", description="too dear"),),
        retry_after_ms=1_500,
    )

    async def say(request, passage):
        raise RefusedError(refusal)

    done = await Web(say=say).call("Say", envelope(b""), PROTO)
    found = trailers_of(done)
    assert done.status == 200
    assert (found["grpc-status"], found["grpc-message"]) == ("8", "n%C3%B6 budget")
    bits = found["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(b64decode(bits + "=" * (-len(bits) % 4)))
    assert (status.code, status.message) == (8, "n\u00f6 budget")
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.metadata["request"]) == ("budget.exhausted", done.headers["gateway-request"])
    assert len(status.details) == 3


async def test_a_refusal_after_some_replies_is_in_the_trailers():
    async def tell(request, passage):
        yield Operation(id="1")
        raise RefusedError(Refusal(kind=Kind.NOT_FOUND, reason="no", sentence="no"))

    done = await Web(tell=tell).call("Tell", envelope(b""), PROTO)
    assert replies(done) == ["1"]
    assert trailers_of(done)["grpc-status"] == "5"


async def test_an_unknown_path_is_answered_in_the_callers_protocol():
    exchange = await Web().call("/toy.v1.Nobody/Home", envelope(b""), PROTO)
    assert exchange.status == 200
    assert trailers_of(exchange)["grpc-status"] == "12"


async def test_the_timeout_is_grpcs():
    seen = []

    async def say(request, passage):
        seen.append(passage.left_s())
        return Operation()

    await Web(say=say).call("Say", envelope(b""), PROTO, ("grpc-timeout", "2M"), ("connect-timeout-ms", "1"))
    assert 119 < seen[0] < 120
    refused = await Web().call("Say", envelope(b""), PROTO, ("grpc-timeout", "2 M"))
    assert trailers_of(refused)["grpc-status"] == "3"


async def test_messages_are_compressed_both_ways():
    body = envelope(gzip.compress(request("proto", tool="x" * 2_000)), 1)
    headers = [("grpc-encoding", "gzip"), ("grpc-accept-encoding", "identity, gzip")]
    done = await Web().call("Say", body, PROTO, *headers)
    assert done.headers["grpc-encoding"] == "gzip"
    assert done.envelopes[0][0] == 1
    assert replies(done) == ["x" * 2_000]
    plain = await Web().call("Say", body, PROTO, headers[0])
    assert plain.envelopes[0][0] == 0
    refused = await Web().call("Say", body, PROTO, ("grpc-encoding", "br"))
    assert trailers_of(refused)["grpc-status"] == "12"
    assert refused.headers["grpc-accept-encoding"] == "gzip"


@pytest.mark.parametrize("content_type", [TEXT, TEXT + "+proto"])
async def test_text_is_the_same_in_base64(content_type):
    web = Web()
    done = await web.call("Tell", b64encode(envelope(request("proto", tool="t"))), content_type)
    assert done.headers["content-type"] == content_type
    # Each piece can be read on its own.
    done.body = b"".join(b64decode(piece, validate=True) for piece in done.pieces)
    assert replies(done) == ["t0", "t1", "t2"]
    assert trailers_of(done)["grpc-status"] == "0"
    assert web.quiet()


@pytest.mark.parametrize("body", [b"AAAA*AAA", b"AAAAA", b"A===", b"AA=A", b"AAAA\nAAA", "\u00e4".encode() * 4])
async def test_text_that_is_no_base64_is_refused(body):
    web = Web()
    done = await web.call("Say", body, TEXT)
    done.body = b64decode(done.body)
    assert trailers_of(done)["grpc-status"] == "3"
    assert "base64" in trailers_of(done)["grpc-message"]
    assert web.quiet()


@pytest.mark.parametrize("name", ["Collect", "Talk"])
async def test_text_that_is_no_base64_ends_a_stream(name):
    web = Web()
    done = await web.call(name, b"****", TEXT)
    done.body = b64decode(done.body)
    assert trailers_of(done)["grpc-status"] == "3"
    assert web.quiet()


@given(st.lists(st.binary(max_size=50)), st.data())
def test_base64_is_read_however_it_was_padded_and_cut(chunks, data):
    text = b"".join(b64encode(chunk) for chunk in chunks)
    reader = Base64Text()
    found = b""
    while text:
        size = data.draw(st.integers(1, len(text)))
        found += reader.decoded(text[:size])
        text = text[size:]
    reader.finish()
    assert found == b"".join(chunks)


@given(st.binary(max_size=60))
def test_base64_is_read_strictly(text):
    reader = Base64Text()
    try:
        found = reader.decoded(text)
        reader.finish()
    except EndedError:
        return
    assert len(text) % 4 == 0
    again = b"".join(b64encode(b64decode(text[at : at + 4])) for at in range(0, len(text), 4))
    assert len(again) == len(text)
    assert found == b"".join(b64decode(text[at : at + 4], validate=True) for at in range(0, len(text), 4))


def test_many_padded_groups_cost_no_more_than_others():
    reader = Base64Text()
    assert len(reader.decoded(b"QQ==" * 100_000)) == 100_000


async def test_a_header_that_cannot_be_sent_fails_the_call_and_not_the_answer():
    async def say(request, passage):
        passage.reply_headers["bad"] = "a\r\nb: c"
        return Operation()

    web = Web(say=say)
    done = await web.call("Say", envelope(b""), PROTO)
    assert trailers_of(done)["grpc-status"] == "13"
    assert replies(done) == []
    assert "bad" not in done.headers
