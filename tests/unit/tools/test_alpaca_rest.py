"""HTTP to the venue: nothing followed, nothing inflated, everything bounded and encoded for its position."""

import asyncio
import gzip

import pytest
from aiohttp import web
from toolcases import config, resets, says

from gateway.terms.limits import RESULT_BYTES_MAX
from gateway.tools.alpaca_rest import Answer, Origin, Request, Rest, open_session
from gateway.tools.roundtrip import NoAnswer


@pytest.fixture
async def rest(venue):
    settings = config(venue.url, idle_ms=200)
    async with open_session(settings) as session:
        yield Rest(session, settings)


def get(*segments, **query):
    return Request(method="GET", origin=Origin.TRADING, segments=segments or ("x",), query=query)


HOSTILE = ["../admin", "a/b", "%2f", "a?x=1", "a#b", "a b", "a\r\nX-Evil: 1", "ü", "a%00b", "a&b=c"]


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_segment_stays_one_segment_and_a_query_value_one_value(venue, rest, text):
    received = {}

    async def respond(request):
        received.update(path=request.match_info["path"], query=dict(request.query))
        return web.json_response({})

    venue.on("GET", "/", respond)
    assert await rest.call(get("v2", text, "end", q=text), 1) == Answer(status=200, body={})
    raw_path, _, raw_query = venue.seen[-1].raw_path.partition("?")
    assert raw_path.count("/") == 3
    assert "&" not in raw_query
    assert raw_query.count("=") == 1
    assert received == {"path": f"v2/{text}/end", "query": {"q": text}}
    assert "X-Evil" not in venue.seen[-1].headers


@pytest.mark.parametrize("text", ["", ".", ".."])
async def test_dots_and_nothing_are_no_segments(rest, text):
    with pytest.raises(ValueError, match="segment"):
        await rest.call(get("v2", text), 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_that_is_not_followed(venue, rest, status):
    venue.on("GET", "/", says("", status, Location=f"{venue.url}/stolen"))
    assert (await rest.call(get(), 1)).status == status
    assert len(venue.seen) == 1


async def test_a_compressed_body_is_not_inflated(venue, rest):
    async def respond(_):
        return web.Response(body=gzip.compress(b" " * (64 << 20), 1), headers={"Content-Encoding": "gzip"})

    venue.on("GET", "/", respond)
    assert await rest.call(get(), 5) == Answer(status=200, readable=False)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_beyond_the_bound_is_left_unread(venue, rest, framing):
    async def respond(request):
        response = web.StreamResponse()
        if framing == "length":
            response.content_length = 1 << 40
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)

    venue.on("GET", "/", respond)
    assert await rest.call(get(), 5) == Answer(status=200, readable=False)


async def test_a_body_of_exactly_the_bound_is_read(venue, rest):
    venue.on("GET", "/", says('"' + "x" * (RESULT_BYTES_MAX - 2) + '"'))
    assert (await rest.call(get(), 5)).readable


async def test_a_body_that_stops_is_lost_after_the_idle_time(venue, rest):
    stopped = asyncio.Event()

    async def respond(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        await stopped.wait()
        return response

    venue.on("GET", "/", respond)
    assert isinstance(await rest.call(get(), 60), NoAnswer)
    stopped.set()


async def test_the_environments_proxy_is_not_used(venue, rest, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    venue.on("GET", "/", says({}))
    assert isinstance(await rest.call(get(), 1), Answer)


async def test_cookies_are_not_kept(venue):
    venue.on("GET", "/", says({}, **{"Set-Cookie": "session=1"}))
    # By name, because no cookie jar takes cookies of a bare address.
    settings = config(venue.url.replace("127.0.0.1", "localhost"))
    async with open_session(settings) as session:
        rest = Rest(session, settings)
        for _ in range(2):
            assert isinstance(await rest.call(get(), 1), Answer)
    assert len(venue.seen) == 2
    assert "Cookie" not in venue.seen[-1].headers


async def test_the_session_inflates_nothing():
    async with open_session(config("http://127.0.0.1:1")) as session:
        assert not session.auto_decompress


async def test_a_post_is_sent_once_also_on_a_connection_that_was_used_before(venue, rest):
    venue.on("POST", "/", says({}), resets)
    post = Request(method="POST", origin=Origin.TRADING, segments=("x",), body={"a": "1"})
    assert isinstance(await rest.call(post, 1), Answer)
    reply = await rest.call(post, 1)
    assert isinstance(reply, NoAnswer)
    assert reply.sent
    assert venue.count("POST") == 2


async def test_without_time_nothing_is_sent(venue, rest):
    reply = await rest.call(get(), 0)
    assert isinstance(reply, NoAnswer)
    assert not reply.sent
    assert venue.seen == []
