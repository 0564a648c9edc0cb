"""Operations of an HTTP service on a real socket: placed, sent once, and told apart honestly."""

import asyncio
import base64
import contextlib
import json
from dataclasses import replace

import pytest
from aiohttp import web
from servicecases import (
    CREATE,
    LIST,
    LOOKED_UP,
    NOTE,
    ONCE,
    REFUND,
    SECRET,
    SERVED,
    act,
    service,
    status,
    toolbox_of,
    watched,
)
from toolcases import asked, resets, says

from gateway.terms.aftercare import NotYet, Unknowable
from gateway.terms.clock import SystemClock
from gateway.terms.limits import RESULT_BYTES_MAX
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Succeeded, Unknown
from gateway.terms.verdict import Refusal
from gateway.tools.http import HttpTools


@pytest.fixture
async def tools(venue):
    venue.script.clear()
    async with HttpTools(service(venue.url), SystemClock()) as backend:
        yield toolbox_of(backend)


async def test_a_call_is_placed_with_our_key_and_the_credentials(venue, tools):
    venue.on("POST", "/v1/refunds", says({"id": "r-1", "amount": 12.5}, 201))
    outcome = await act(tools, "create_refund", REFUND, "the-agents-own-key")
    assert isinstance(outcome, Succeeded), outcome
    assert outcome.result == b'{"service":"refunds","status":201,"body":{"id":"r-1","amount":12.5}}'
    assert dict(outcome.charges) == {Unit.CALLS: 1, Unit.COST: 250_000}
    (seen,) = venue.seen
    assert seen.raw_path == "/v1/refunds?token=second-secret"
    assert json.loads(seen.body) == REFUND["body"]
    assert seen.headers["X-Api-Key"] == SECRET
    assert seen.headers["Accept-Encoding"] == "identity"
    assert seen.headers["Idempotency-Key"].startswith("gw-")
    assert "agents-own" not in str(seen)


async def test_the_same_call_has_the_same_key_and_another_call_another(venue, tools):
    venue.on("POST", "/v1/refunds", says({}))
    for key in ("a", "a", "b"):
        await act(tools, "create_refund", REFUND, key)
    first, again, other = (seen.headers["Idempotency-Key"] for seen in venue.seen)
    assert first == again != other


async def test_the_body_is_written_anew(venue, tools):
    venue.on("POST", "/v1/refunds", says({}))
    await act(tools, "create_refund", '{ "body" : {"\\u006frder": "o-\\u0031",\n "amount":"1.00", "cents" : 3 } }')
    assert venue.seen[0].body == b'{"order":"o-1","amount":"1.00","cents":3}'


async def test_queries_and_headers_carry_values_and_nothing_else(venue, tools):
    venue.on("GET", "/v1/refunds", says([]))
    arguments = {
        "page_size_": 5,
        "state": ["open", "done"],
        "tags": ["a&b=c", "d,e", "#"],
        "all": True,
        "X_Trace": "t 1",
    }
    assert isinstance(await act(tools, "list_refunds", arguments, ""), Succeeded)
    assert venue.seen[0].raw_path == (
        "/v1/refunds?page%5Bsize%5D=5&state=open&state=done&tags=a%26b%3Dc,d%2Ce,%23&all=true&token=second-secret"
    )
    assert venue.seen[0].headers["X-Trace"] == "t 1"


@pytest.mark.parametrize("text", ["a b", "a?x=1", "a#b", "ü", "a;b", "a{refund_id}", "...", ".a", "a:b@c"])
async def test_a_path_argument_stays_one_segment(venue, tools, text):
    venue.on("GET", "/v1/refunds/", says({}))
    assert isinstance(await act(tools, "get_refund", {"refund_id": text}, ""), Succeeded)
    path = venue.seen[0].raw_path
    assert path.count("/") == 3
    assert path.endswith("?token=second-secret")
    assert "#" not in path


HOSTILE = ["../admin", "a/b", "%2f", "..%2f", "\\..\\", "a\r\nb", ".", "..", "", "a\x00", "\u202e"]


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_could_leave_its_path_segment_is_refused_before_anything_is_held(venue, tools, text):
    ask = asked(tools, "get_refund", {"refund_id": text}, "", SERVED)
    refusal = tools.demand(SERVED, ask, {})
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.violations[0].field) == ("arguments.unencodable", "refund_id")
    assert venue.seen == []


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "a\nb", "ü", " a", "a ", "a\x00", "a\tb"])
async def test_a_header_argument_is_one_plain_line(tools, text):
    ask = asked(tools, "list_refunds", {"X_Trace": text}, "", SERVED)
    refusal = tools.demand(SERVED, ask, {})
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "arguments.unencodable"


@pytest.mark.parametrize(
    "code, tool, kind, reason",
    [
        (400, "create_refund", Failed, "service.invalid"),
        (401, "create_refund", Failed, "service.unauthorized"),
        (404, "create_refund", Failed, "service.not_found"),
        (418, "create_refund", Failed, "service.refused"),
        (429, "create_refund", Failed, "service.rate_limited"),
        (409, "create_refund", Unknown, "upstream.reply_lost"),
        (409, "refund_once", Failed, "service.conflict"),
        (400, "refund_by_reference", Failed, "service.invalid"),
        (408, "refund_once", Unknown, "upstream.reply_lost"),
        (425, "create_refund", Unknown, "upstream.reply_lost"),
        (500, "create_refund", Unknown, "upstream.reply_lost"),
        (501, "refund_once", Unknown, "upstream.reply_lost"),
        (503, "refund_once", Unknown, "upstream.reply_lost"),
        (504, "refund_once", Unknown, "upstream.reply_lost"),
        (302, "refund_once", Unknown, "upstream.reply_lost"),
        (303, "refund_once", Unknown, "upstream.reply_lost"),
        (307, "refund_once", Failed, "service.redirected"),
    ],
)
async def test_an_answer_says_no_more_than_it_means_and_nothing_is_sent_twice(venue, tools, code, tool, kind, reason):
    venue.on("POST", "/v1/refunds", status(code))
    outcome = await act(
        tools, tool, {"body": {**REFUND["body"], "reference": "x"}} if tool == "refund_once" else REFUND
    )
    assert isinstance(outcome, kind), outcome
    assert outcome.failure.reason == reason
    assert venue.count("POST") == 1


@pytest.mark.parametrize("answer", [resets, status(500), status(302), says("nonsense"), says('{"a":1,"a":2}')])
async def test_a_read_without_a_good_answer_has_failed(venue, tools, answer):
    venue.on("GET", "/v1/refunds", answer)
    assert isinstance(await act(tools, "list_refunds", {}, ""), Failed)


@pytest.mark.parametrize("answer", [resets, says("nonsense"), says('{"a":1,"a":2}'), says("NaN")])
async def test_an_effect_without_a_good_answer_is_unknown_and_sent_once(venue, tools, answer):
    venue.on("POST", "/v1/refunds", answer)
    assert isinstance(await act(tools, "create_refund", REFUND), Unknown)
    assert len(venue.seen) == 1


async def test_a_service_that_is_not_there_got_nothing():
    async with HttpTools(service("http://127.0.0.1:9"), SystemClock()) as backend:
        outcome = await act(toolbox_of(backend), "create_refund", REFUND)
    assert isinstance(outcome, Failed)
    assert (outcome.failure.reason, outcome.charges) == ("upstream.unreachable", ())


async def test_an_address_without_allowance_is_not_connected_to(venue):
    async with HttpTools(service(venue.url, networks=()), SystemClock()) as backend:
        outcome = await act(toolbox_of(backend), "create_refund", REFUND)
    assert isinstance(outcome, Failed)
    assert (outcome.failure.reason, outcome.charges) == ("egress.refused", ())
    assert venue.seen == []


def texts(body, kind="text/plain; charset=utf-8"):
    async def respond(_):
        return web.Response(body=body, headers={"Content-Type": kind})

    return respond


@pytest.mark.parametrize(
    "answer, body",
    [
        (texts("grüezi\n".encode()), "grüezi\n"),
        (texts(b"", "text/html"), None),
        (texts(b'{"a":[1,2.50,null]}', "application/problem+json"), {"a": [1, 2.5, None]}),
    ],
)
async def test_a_text_becomes_a_string_and_nothing_null(venue, tools, answer, body):
    venue.on("GET", "/v1/refunds", answer)
    outcome = await act(tools, "list_refunds", {}, "")
    assert json.loads(outcome.result) == {"service": "refunds", "status": 200, "body": body}


@pytest.mark.parametrize("answer", [texts(b"\xff"), texts(b"x", "image/png"), texts(b"{", "application/json")])
async def test_other_bodies_are_not_told(venue, tools, answer):
    venue.on("GET", "/v1/refunds", answer)
    outcome = await act(tools, "list_refunds", {}, "")
    assert outcome.failure.reason == "upstream.reply_unreadable"


async def test_numbers_stay_as_the_service_wrote_them(venue, tools):
    venue.on("GET", "/v1/refunds", says('{"n":12345678901234567890123,"d":0.1000000000000000000001}'))
    outcome = await act(tools, "list_refunds", {}, "")
    assert b'"n":12345678901234567890123,"d":0.1000000000000000000001' in outcome.result


async def test_an_answer_never_tells_a_credential(venue, tools):
    """Attack row 33: a service that echoes what it was sent."""

    async def echo(request):
        told = {**dict(request.headers), "url": str(request.rel_url), SECRET: [SECRET, {"deep": f"x{SECRET}y"}]}
        return web.json_response(told, headers={"X-Echo": SECRET, "Set-Cookie": f"a={base64.b64encode(b'1').decode()}"})

    venue.on("GET", "/v1/refunds", echo)
    venue.on("POST", "/v1/refunds", status(400, f"bad key {SECRET} and second-secret"))
    listed = await act(tools, "list_refunds", {}, "")
    refused = await act(tools, "create_refund", REFUND)
    for told in (listed.result.decode(), refused.failure.message):
        assert "s3cret" not in told
        assert "second-secret" not in told
        assert "[removed]" in told
    assert "X-Echo" not in listed.result.decode()


async def test_a_failure_tells_the_services_words_made_harmless(venue, tools):
    venue.on("POST", "/v1/refunds", status(422, "too \x1b[31m late\r\n" + "é" * 5 + "x" * 5000))
    outcome = await act(tools, "create_refund", REFUND)
    message = outcome.failure.message
    assert message.startswith("The service refused (422): too [31m late")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 300


async def test_a_lost_reply_is_looked_up_by_our_key(venue, tools):
    venue.on("POST", "/v1/refunds", resets)
    venue.on("GET", "/v1/references/", says({"id": "r-9"}))
    outcome = await act(tools, "refund_by_reference", REFUND)
    assert isinstance(outcome, Succeeded)
    assert json.loads(outcome.result)["body"] == {"id": "r-9"}
    sent, asked_for = venue.seen
    reference = json.loads(sent.body)["reference"]
    assert reference.startswith("gw-")
    assert asked_for.raw_path == f"/v1/references/{reference}?token=second-secret"


@pytest.mark.parametrize("answer", [status(404), status(500), resets, says("nonsense")])
async def test_a_look_up_that_does_not_show_it_proves_nothing(venue, tools, answer):
    venue.on("POST", "/v1/refunds", status(504))
    venue.on("GET", "/v1/references/", answer)
    assert isinstance(await act(tools, "refund_by_reference", REFUND), Unknown)
    assert venue.count("POST") == 1


async def endless(received):
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(received)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b" " * 65536)
    return response


async def dripping(received):
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(received)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.005)
    return response


async def test_an_endless_body_ends_at_the_bound(venue, tools):
    venue.on("GET", "/v1/refunds", endless)
    venue.on("POST", "/v1/refunds", endless)
    assert (await act(tools, "list_refunds", {}, "")).failure.reason == "upstream.reply_unreadable"
    assert isinstance(await act(tools, "create_refund", REFUND), Unknown)
    venue.on("GET", "/v1/refunds", texts(b"x" * RESULT_BYTES_MAX))
    assert isinstance(await act(tools, "list_refunds", {}, ""), Succeeded)


async def test_a_text_that_grows_when_it_is_written_anew_is_bounded(venue, tools):
    venue.on("GET", "/v1/refunds", texts(b"\x01" * (RESULT_BYTES_MAX // 2)))
    assert (await act(tools, "list_refunds", {}, "")).failure.reason == "upstream.reply_unreadable"


async def test_a_dripping_body_ends_with_the_tools_own_time(venue):
    quick = (replace(LIST, timeout_ms=300), replace(CREATE, timeout_ms=300), ONCE, NOTE, LOOKED_UP)
    venue.on("GET", "/v1/refunds", dripping)
    venue.on("POST", "/v1/refunds", dripping)
    async with HttpTools(service(venue.url, tools=quick), SystemClock()) as backend:
        assert isinstance(await act(toolbox_of(backend), "list_refunds", {}, ""), Failed)
        assert isinstance(await act(toolbox_of(backend), "create_refund", REFUND), Unknown)


async def test_the_origins_path_comes_first_and_the_documents_servers_never(venue):
    venue.on("GET", "/base/v1/refunds", says([]))
    async with HttpTools(service(venue.url + "/base/"), SystemClock()) as backend:
        assert isinstance(await act(toolbox_of(backend), "list_refunds", {}, ""), Succeeded)


@pytest.mark.parametrize(
    "answer, age_ms, kind",
    [
        (says({"id": "r-9"}), 0, Succeeded),
        (status(404), 0, NotYet),
        (status(404), 44_000, NotYet),
        (status(404), 46_000, Failed),
        (status(500), 46_000, NotYet),
        (resets, 46_000, NotYet),
        (says("nonsense"), 46_000, NotYet),
        (status(401), 46_000, NotYet),
    ],
)
async def test_a_lost_call_is_asked_for_until_it_can_arrive_no_more(venue, tools, answer, age_ms, kind):
    ask = asked(tools, "refund_by_reference", REFUND, "key-1", SERVED)
    demand = tools.demand(SERVED, ask, {})
    assert demand.halts == ("venue:refunds",)
    venue.on("GET", "/v1/references/", answer)
    assert isinstance(await tools.look(watched(tools, ask, demand.memo, age_ms)), kind)
    assert venue.seen[0].raw_path == f"/v1/references/{demand.memo.decode()}?token=second-secret"


async def test_a_tool_without_look_up_leaves_it_to_a_person(tools):
    ask = asked(tools, "create_refund", REFUND, "key-1", SERVED)
    assert tools.demand(SERVED, ask, {}).memo == b""
    assert isinstance(await tools.look(watched(tools, ask, b"", 0)), Unknowable)
