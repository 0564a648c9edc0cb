"""Connect's unary calls through ASGI alone."""

import gzip

import pytest
from web_echo import Web, details, reply, request

from gateway.terms.ids import RuleId
from gateway.terms.verdict import Kind, Refusal, RefusedError, Violation
from gateway.wire.web.options import WebOptions
from generated.agentic.gateway.v1 import Operation


def raising(error):
    async def say(request, passage):
        raise error

    return say


@pytest.mark.parametrize("codec", ["json", "proto"])
async def test_a_call_is_answered_in_its_own_codec(codec):
    web = Web()
    done = await web.call("Say", request(codec, tool="hammer", arguments_json='{"n":1}'), f"application/{codec}")
    assert (done.status, done.headers["content-type"]) == (200, f"application/{codec}")
    assert reply(done.body, codec) == Operation(id="hammer", result_json='{"n":1}')
    assert done.headers["content-length"] == str(len(done.body))
    assert done.headers["gateway-request"].startswith("req-")
    assert done.headers["trailer-gateway-timing"].startswith("wire;dur=")
    assert web.quiet()


async def test_an_empty_body_is_an_empty_message_in_proto_and_none_in_json():
    assert (await Web().call("Say", b"", "application/proto")).status == 200
    refused = await Web().call("Say", b"")
    assert (refused.status, refused.json["code"]) == (400, "invalid_argument")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", 'application/json;charset="utf-8"']
)
async def test_content_types_are_read_as_http_reads_them(content_type):
    assert (await Web().call("Say", b"{}", content_type)).status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/xml",
        "application/json; charset=latin-1",
        "application/connect+json",
        "image/jpeg",
    ],
)
async def test_another_content_type_is_415_and_says_which_ones_are_taken(content_type):
    done = await Web().call("Say", b"{}", content_type)
    assert (done.status, done.json["code"]) == (415, "unknown")
    assert "send content-type: application/json" in done.json["message"]
    assert "application/json" in done.headers["accept-post"].split(", ")


async def test_a_version_of_the_protocol_may_be_named_and_must_be_known():
    assert (await Web().call("Say", b"{}", "application/json", ("connect-protocol-version", "1"))).status == 200
    done = await Web().call("Say", b"{}", "application/json", ("connect-protocol-version", "2"))
    assert (done.status, done.json["code"]) == (400, "invalid_argument")


@pytest.mark.parametrize("codec", ["json", "proto"])
async def test_a_compressed_request_is_inflated(codec):
    body = gzip.compress(request(codec, tool="saw"))
    done = await Web().call("Say", body, f"application/{codec}", ("content-encoding", "gzip"))
    assert reply(done.body, codec).id == "saw"


async def test_an_empty_body_is_never_inflated():
    assert (await Web().call("Say", b"", "application/proto", ("content-encoding", "gzip"))).status == 200


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "foo"])
async def test_an_unknown_encoding_names_the_known_ones(encoding):
    done = await Web().call("Say", b"{}", "application/json", ("content-encoding", encoding))
    assert (done.status, done.json["code"]) == (501, "unimplemented")
    assert "gzip" in done.json["message"]


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"{}", mtime=0) + b"x", gzip.compress(b"{}", mtime=0)[:-1]])
async def test_what_is_not_one_gzip_member_is_refused(body):
    done = await Web().call("Say", body, "application/json", ("content-encoding", "gzip"))
    assert (done.status, details(done.json)["google.rpc.ErrorInfo"]["reason"]) == (400, "wire.gzip_malformed")


async def test_a_bomb_is_not_inflated_beyond_the_bound():
    bomb = gzip.compress(b" " * 10_000_000)
    done = await Web(bounds={"message_bytes_max": 20_000}).call(
        "Say", bomb, "application/json", ("content-encoding", "gzip")
    )
    assert (done.status, done.json["code"]) == (429, "resource_exhausted")


@pytest.mark.parametrize(
    "accepted,compressed",
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("deflate", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        (None, False),
    ],
)
async def test_a_long_answer_is_compressed_for_whom_it_may_be(accepted, compressed):
    headers = [("accept-encoding", accepted)] if accepted else []
    text = "x" * 2_000
    done = await Web().call("Say", request(tool=text), "application/json", *headers)
    assert (done.headers.get("content-encoding") == "gzip") is compressed
    body = gzip.decompress(done.body) if compressed else done.body
    assert reply(body).id == text
    assert done.headers["vary"] == "accept-encoding"
    assert done.headers["content-length"] == str(len(done.body))


async def test_who_compresses_and_does_not_say_what_it_accepts_gets_the_same_back():
    done = await Web().call(
        "Say", gzip.compress(request(tool="x" * 2_000)), "application/json", ("content-encoding", "gzip")
    )
    assert done.headers["content-encoding"] == "gzip"


async def test_a_short_answer_is_sent_as_it_is():
    done = await Web().call("Say", b"{}", "application/json", ("accept-encoding", "gzip"))
    assert "content-encoding" not in done.headers
    options = WebOptions(compress_bytes_min=1)
    done = await Web(options=options).call("Say", b"{}", "application/json", ("accept-encoding", "gzip"))
    assert done.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    "body,field,words",
    [
        (b"{", None, "not JSON"),
        (b'{"tool":1}', "tool", "string"),
        (b'{"tool":"a","tool":"b"}', "tool", "twice"),
        (b'{"nope":1}', "nope", "no such field"),
        (b"[]", None, "object"),
    ],
)
async def test_what_is_no_message_is_refused_with_its_field(body, field, words):
    done = await Web().call("Say", body)
    assert (done.status, done.json["code"]) == (400, "invalid_argument")
    assert words in done.json["message"]
    assert done.headers["trailer-gateway-timing"].startswith("wire;dur=")
    found = details(done.json)
    assert found["google.rpc.ErrorInfo"]["reason"] == "wire.message_malformed"
    if field:
        assert [violation["field"] for violation in found["google.rpc.BadRequest"]["fieldViolations"]] == [field]


async def test_bytes_that_are_no_message_are_refused():
    done = await Web().call("Say", b"\xff", "application/proto")
    assert (done.status, done.headers["content-type"], done.json["code"]) == (
        400,
        "application/json",
        "invalid_argument",
    )


@pytest.mark.parametrize("size,status", [(1_000, 200), (1_001, 429)])
@pytest.mark.parametrize("announced", [True, False])
async def test_the_bound_on_a_message_is_exact_and_known_before_it_is_read(size, status, announced):
    web = Web(bounds={"message_bytes_max": 1_000})
    body = b'{"tool":"' + b"x" * (size - 11) + b'"}'
    headers = [("content-length", str(size))] if announced else []
    exchange = web.open("Say", "application/json", *headers)
    if announced and status == 429:
        # Not one byte of the body is waited for.
        await exchange.ended()
    else:
        for at in range(0, size, 100):
            exchange.write(body[at : at + 100])
        if status == 200:
            exchange.write(b"", more=False)
        await exchange.ended()
    assert exchange.status == status
    assert web.quiet()


async def test_all_requests_together_are_bounded():
    web = Web(bounds={"receiving_bytes_max": 1_000})
    slow = web.open("Say", "application/json")
    slow.write(b"{" + b" " * 900)
    other = web.open("Say", "application/json")
    other.write(b"{" + b" " * 900)
    await other.ended()
    assert (other.status, other.json["code"]) == (503, "unavailable")
    assert details(other.json)["google.rpc.ErrorInfo"]["reason"] == "wire.receiving_full"
    slow.write(b"}", more=False)
    await slow.ended()
    assert slow.status == 200
    assert web.quiet()


async def test_headers_are_bounded():
    many = [(f"x-{number}", "v") for number in range(200)]
    done = await Web().call("Say", b"{}", "application/json", *many)
    assert details(done.json)["google.rpc.ErrorInfo"]["reason"] == "wire.headers_too_large"
    done = await Web().call("Say", b"{}", "application/json", ("x-long", "v" * 40_000))
    assert done.status == 429


async def test_a_refusal_is_told_whole():
    refusal = Refusal(
        kind=Kind.EXHAUSTED,
        reason="budget.exhausted",
        sentence="the budget of team desk is used up; wait for the next hour",
        rules=(RuleId("budget-desk"),),
        policy_hash="ab12",
        violations=(Violation(field="tool", description="too dear"),),
        retry_after_ms=1_500,
        operation_id="op-1",
    )
    done = await Web(say=raising(RefusedError(refusal))).call("Say", b"", "application/proto")
    assert (done.status, done.headers["content-type"]) == (429, "application/json")
    done = await Web(say=raising(RefusedError(refusal))).call("Say", b"{}")
    error = done.json
    assert list(error) == ["code", "message", "details"]
    assert (error["code"], error["message"]) == ("resource_exhausted", refusal.sentence)
    found = details(error)
    assert found["google.rpc.ErrorInfo"] == {
        "reason": "budget.exhausted",
        "domain": "agentic.gateway",
        "metadata": {
            "request": done.headers["gateway-request"],
            "rules": "budget-desk",
            "policy_hash": "ab12",
            "operation": "op-1",
        },
    }
    assert found["google.rpc.RetryInfo"] == {"retryDelay": "1.500s"}
    assert found["google.rpc.BadRequest"] == {"fieldViolations": [{"field": "tool", "description": "too dear"}]}
    assert done.headers["retry-after"] == "2"
    assert done.headers["trailer-gateway-timing"].startswith("wire;dur=")


async def test_401_says_how_to_authenticate():
    refusal = Refusal(kind=Kind.UNAUTHENTICATED, reason="token.missing", sentence="send a token")
    done = await Web(say=raising(RefusedError(refusal))).call("Say", b"{}")
    assert (done.status, done.headers["www-authenticate"]) == (401, "Bearer")


async def test_an_unexpected_failure_is_logged_and_not_shown():
    web = Web(say=raising(KeyError("secret of the house")))
    done = await web.call("Say", b"{}")
    assert (done.status, done.json["code"]) == (500, "internal")
    assert "secret" not in repr((done.body, done.header_list))
    assert done.headers["gateway-request"] in done.json["message"]
    (failure,) = web.log.named("call.failed")
    assert "secret of the house" in failure["traceback"]
    assert failure["request"] == done.headers["gateway-request"]


async def test_what_the_call_wants_said_first_is_a_header_also_when_it_is_refused():
    async def say(request, passage):
        passage.reply_headers["gateway-operation"] = "op-7"
        if request.tool:
            raise RefusedError(Refusal(kind=Kind.FORBIDDEN, reason="no", sentence="no"))
        return Operation()

    assert (await Web(say=say).call("Say", b"{}")).headers["gateway-operation"] == "op-7"
    refused = await Web(say=say).call("Say", request(tool="x"))
    assert (refused.status, refused.headers["gateway-operation"]) == (403, "op-7")


async def test_a_header_that_cannot_be_sent_fails_the_call_and_not_the_answer():
    async def say(request, passage):
        passage.reply_headers["bad"] = "a\r\nset-cookie: b"
        return Operation()

    web = Web(say=say)
    done = await web.call("Say", b"{}")
    assert (done.status, done.json["code"]) == (500, "internal")
    assert "bad" not in done.headers
    assert web.log.named("call.failed")


async def test_the_call_is_given_all_credentials_and_its_deadline():
    seen = []

    async def say(request, passage):
        seen.append(passage)
        return Operation()

    await Web(say=say).call(
        "Say",
        b"{}",
        "application/json",
        ("authorization", "Bearer a"),
        ("authorization", "Bearer b"),
        ("x-serverless-authorization", "Bearer c"),
        ("connect-timeout-ms", "5000"),
    )
    await Web(say=say).call("Say", b"{}")
    assert seen[0].credentials.authorization == ("Bearer a", "Bearer b")
    assert seen[0].credentials.serverless_authorization == ("Bearer c",)
    assert 4.5 < seen[0].left_s() < 5
    assert seen[1].left_s() is None


@pytest.mark.parametrize("value", ["", "-1", "1.5", "12345678901", "1s", "\u0661"])
async def test_a_timeout_is_a_number_of_milliseconds(value):
    done = await Web().call("Say", b"{}", "application/json", ("connect-timeout-ms", value))
    assert details(done.json)["google.rpc.ErrorInfo"]["reason"] == "wire.timeout_malformed"


async def test_every_call_is_told_to_the_log():
    web = Web()
    done = await web.call("Say", b"{}")
    (told,) = web.log.named("call.ended")
    assert told["request"] == done.headers["gateway-request"]
    assert (told["path"], told["content_type"], told["status"]) == ("/toy.v1.Echo/Say", "application/json", "OK")
    await web.call("Say", b"")
    assert [call["reason"] for call in web.log.named("call.ended")] == ["", "wire.message_malformed"]


async def test_health_is_called_like_any_other_method():
    web = Web()
    assert (await web.call("/grpc.health.v1.Health/Check", b"{}")).json == {"status": "SERVING"}
    web.load.draining = True
    assert (await web.call("/grpc.health.v1.Health/Check", b"{}")).status == 200
