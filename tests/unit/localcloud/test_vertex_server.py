"""The double over real sockets: framing, pacing, tokens, and what it notices of its clients."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from localcloud.vertex import Pace, Principal, VertexConfig, VertexDouble
from localcloud.vertex.bearer import CLOUD_PLATFORM
from localcloud.vertex.server import ConfigurationError

MODEL = "/v1/projects/p/locations/global/publishers/google/models/gemini-3.5-flash"
BEARER = {"Authorization": "Bearer token"}


def body(text="hello", **more):
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}


@pytest.fixture
async def vertex():
    async with VertexDouble(VertexConfig(allow_any_token=True)) as double:
        yield double


@pytest.fixture
async def client(vertex):
    async with aiohttp.ClientSession(vertex.url, headers=BEARER) as session:
        yield session


async def until(happened):
    """Wait until something is so, looking every millisecond; two seconds are far more than it takes."""
    async with asyncio.timeout(2):
        while not happened():  # noqa: ASYNC110 - the journal has no event to wait for
            await asyncio.sleep(0.001)


async def noticed(entry, ending):
    await until(lambda: entry.ending == ending)


async def status(client, path, **more):
    async with client.post(path, **more) as answer:
        await answer.read()
        return answer.status


async def events(answer):
    raw = await answer.read()
    frames = raw.split(b"\r\n\r\n")
    assert frames.pop() == b""
    assert all(frame.startswith(b"data: ") for frame in frames)
    return [json.loads(frame[6:]) for frame in frames]


async def test_server_sent_events(client):
    answer = await client.post(MODEL + ":streamGenerateContent?alt=sse", json=body("@pace deltas=4\nhi"))
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert len(await events(answer)) == 4


async def test_without_alt_sse_one_array(client):
    answer = await client.post(MODEL + ":streamGenerateContent", json=body("@pace deltas=4\nhi"))
    assert answer.content_type == "application/json"
    assert len(json.loads(await answer.read())) == 4


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_one_answer(client, version):
    answer = await client.post(MODEL.replace("v1", version, 1) + ":generateContent", json=body())
    document = await answer.json()
    assert document["candidates"][0]["finishReason"] == "STOP"
    assert document["modelVersion"] == "gemini-3.5-flash"


async def test_counting_agrees_with_the_usage(client):
    asked = body("a rather long question, isn't it?", systemInstruction={"parts": [{"text": "be brief"}]})
    counted = await (await client.post(MODEL + ":countTokens", json=asked)).json()
    answered = await (await client.post(MODEL + ":generateContent", json=asked)).json()
    assert counted["totalTokens"] == answered["usageMetadata"]["promptTokenCount"]
    assert counted["totalBillableCharacters"] == len("arather longquestion,isn'tit?bebrief".replace(" ", ""))


async def test_traffic_types(client):
    for headers, kind in [
        ({}, "ON_DEMAND"),
        ({"X-Vertex-AI-LLM-Request-Type": "dedicated"}, "PROVISIONED_THROUGHPUT"),
        ({"X-Vertex-AI-LLM-Shared-Request-Type": "flex"}, "ON_DEMAND_FLEX"),
    ]:
        answer = await client.post(MODEL + ":generateContent", json=body(), headers=headers)
        assert (await answer.json())["usageMetadata"]["trafficType"] == kind


@pytest.mark.parametrize(
    "path, status",
    [
        (MODEL.replace("gemini-3.5-flash", "gemini-2.0-flash") + ":generateContent", "NOT_FOUND"),
        (MODEL.replace("google", "anthropic") + ":generateContent", "NOT_FOUND"),
        (MODEL + ":generateContent?foo=1", "INVALID_ARGUMENT"),
        (MODEL + ":generateContent?alt=proto", "INVALID_ARGUMENT"),
    ],
)
async def test_refused_addresses(client, path, status):
    answer = await client.post(path, json=body())
    error = (await answer.json())["error"]
    assert (error["status"], error["code"]) == (status, answer.status)


@pytest.mark.parametrize("path", ["/", "/v2" + MODEL[3:] + ":generateContent", MODEL + ":predict", MODEL])
async def test_paths_that_do_not_exist(client, path):
    answer = await client.post(path, json=body())
    assert (answer.status, answer.content_type) == (404, "text/html")
    assert b"404" in await answer.read()


async def test_only_posts_are_calls(client):
    async with client.get(MODEL + ":generateContent") as answer:
        assert answer.status == 404


async def test_a_stream_error_without_sse_is_an_array(client):
    plain = await client.post(MODEL + ":streamGenerateContent", json={})
    assert (await plain.json())[0]["error"]["status"] == "INVALID_ARGUMENT"
    sse = await client.post(MODEL + ":streamGenerateContent?alt=sse", json={})
    assert (await sse.json())["error"]["status"] == "INVALID_ARGUMENT"


async def test_chunks_are_paced_each_alone(client, vertex):
    started = time.monotonic()
    answer = await client.post(MODEL + ":streamGenerateContent?alt=sse", json=body("@pace deltas=6 interval_ms=10\nhi"))
    times = [time.monotonic() async for _ in answer.content.iter_chunks()]
    assert len(times) == 6
    assert times[-1] - started >= 0.049
    assert vertex.journal.entries[-1].chunks_sent == 6
    assert vertex.journal.streams() == {"open": 0, "total": 1, "completed": 1, "aborted": 0}


async def test_the_servers_own_pace_holds_without_a_directive():
    config = VertexConfig(allow_any_token=True, pace=Pace(deltas=3, size=2, first_ms=20))
    async with VertexDouble(config) as vertex, aiohttp.ClientSession(vertex.url, headers=BEARER) as client:
        started = time.monotonic()
        found = await events(await client.post(MODEL + ":streamGenerateContent?alt=sse", json=body()))
        assert time.monotonic() - started >= 0.02
        assert len(found) == 3
        assert found[-1]["usageMetadata"]["candidatesTokenCount"] == 6


async def test_a_client_that_leaves_is_noticed(client, vertex):
    answer = await client.post(
        MODEL + ":streamGenerateContent?alt=sse", json=body("@pace deltas=1000 interval_ms=5\nhi")
    )
    await answer.content.readany()
    assert vertex.journal.streams()["open"] == 1
    left_us = time.time_ns() // 1000
    answer.close()
    entry = vertex.journal.entries[-1]
    await noticed(entry, "client_left")
    assert 0 < entry.chunks_sent < 1000
    assert entry.left_us - left_us < 200_000
    sent = entry.chunks_sent
    await asyncio.sleep(0.02)
    assert entry.chunks_sent == sent
    assert vertex.journal.streams() == {"open": 0, "total": 1, "completed": 0, "aborted": 1}


async def test_a_client_that_leaves_before_the_first_chunk_is_noticed(client, vertex):
    request = asyncio.ensure_future(
        client.post(MODEL + ":streamGenerateContent?alt=sse", json=body("@pace first_ms=60000\nhi"))
    )
    await until(lambda: vertex.journal.streams()["open"])
    request.cancel()
    await noticed(vertex.journal.entries[-1], "client_left")
    assert vertex.journal.entries[-1].chunks_sent == 0


async def test_a_slow_reader_slows_its_stream(vertex):
    host, port = vertex.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    content = json.dumps(body("@pace deltas=2000 interval_ms=1 size=4000\nhi")).encode()
    head = f"POST {MODEL}:streamGenerateContent?alt=sse HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    await reader.readline()
    entry = vertex.journal.entries[-1]
    async with asyncio.timeout(5):
        before = -1
        while entry.chunks_sent != before or not entry.chunks_sent:
            before = entry.chunks_sent
            await asyncio.sleep(0.03)
    assert entry.chunks_sent < 2000
    assert entry.ending == "open"
    writer.close()
    await noticed(entry, "client_left")


async def test_a_connection_is_used_again(client, vertex):
    for _ in range(3):
        await events(await client.post(MODEL + ":streamGenerateContent?alt=sse", json=body("@pace deltas=2\nhi")))
        await (await client.post(MODEL + ":generateContent", json=body())).read()
    assert [entry.ending for entry in vertex.journal.entries] == ["complete"] * 6


async def test_too_large_bodies_are_refused():
    config = VertexConfig(allow_any_token=True, max_body_bytes=1000)
    async with VertexDouble(config) as vertex, aiohttp.ClientSession(vertex.url, headers=BEARER) as client:
        assert await status(client, MODEL + ":generateContent", json=body("x" * 2000)) == 413


async def test_shutting_down_ends_open_streams():
    async with aiohttp.ClientSession(headers=BEARER) as client:
        async with VertexDouble(VertexConfig(allow_any_token=True)) as vertex:
            url = vertex.url + MODEL + ":streamGenerateContent?alt=sse"
            answer = await client.post(url, json=body("@pace deltas=1000 interval_ms=50\nhi"))
            await answer.content.readany()
        assert vertex.journal.entries[-1].ending == "shutdown"
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
        answer.close()


# Tokens.


@pytest.mark.parametrize("more", [{}, {"allow_any_token": True, "introspect_url": "http://127.0.0.1:1"}])
def test_one_way_of_checking_tokens_is_needed(more):
    with pytest.raises(ConfigurationError, match="exactly one of"):
        VertexDouble(VertexConfig(**more))


@asynccontextmanager
async def guarded(**more):
    """A double that asks an issuer, which knows a handful of tokens."""
    scope = f"openid {CLOUD_PLATFORM}"
    known = {
        "good": {"email": "sa-gateway@p.example", "scope": scope, "expires": time.time() + 100},
        "agent": {"email": "sa-agent@p.example", "scope": scope, "expires": str(int(time.time()) + 100)},
        "old": {"email": "sa-gateway@p.example", "scope": scope, "expires": 1},
        "narrow": {"email": "sa-gateway@p.example", "scope": "openid", "expires": time.time() + 100},
        "strange": {"email": "x"},
        "nameless": {"active": True, "scopes": [CLOUD_PLATFORM], "expiry": time.time() + 100},
        "listed": {"active": True, "email": "a@p.example", "scopes": scope.split(), "expiry": time.time() + 100},
        "inactive": {"active": False},
    }
    asked = []

    async def introspect(request):
        token = request.query["token"]
        asked.append(token)
        if token == "broken":
            return web.Response(status=500)
        return web.json_response(known[token]) if token in known else web.Response(status=404)

    application = web.Application()
    application.router.add_get("/introspect", introspect)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    config = VertexConfig(introspect_url=f"http://{host}:{port}/introspect", **more)
    try:
        async with VertexDouble(config) as vertex, aiohttp.ClientSession(vertex.url) as client:
            yield client, asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "headers, code, reason",
    [
        ([], 401, "CREDENTIALS_MISSING"),
        ([("Authorization", "Basic abc")], 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ([("Authorization", "Bearer ")], 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ([("Authorization", "Bearer forged")], 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ([("Authorization", "Bearer inactive")], 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ([("Authorization", "Bearer old")], 401, "ACCESS_TOKEN_EXPIRED"),
        ([("Authorization", "Bearer good"), ("Authorization", "Bearer good")], 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ([("Authorization", "Bearer " + "x" * 4097)], 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ([("Authorization", "Bearer narrow")], 403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
        ([("Authorization", "Bearer agent")], 403, "IAM_PERMISSION_DENIED"),
    ],
)
async def test_callers_that_are_refused(headers, code, reason):
    async with guarded(members=frozenset({"sa-gateway@p.example"})) as (client, _):
        answer = await client.post(MODEL + ":generateContent", json=body(), headers=headers)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (code, code)
        assert error["status"] == {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}[code]
        assert error["details"][0]["reason"] == reason
        assert ("WWW-Authenticate" in answer.headers) == (code == 401)


async def test_a_member_with_a_good_token_is_served_and_asked_about_once():
    async with guarded(members=frozenset({"sa-gateway@p.example"})) as (client, asked):
        for _ in range(3):
            headers = {"Authorization": "bearer good"}
            assert await status(client, MODEL + ":generateContent", json=body(), headers=headers) == 200
        assert asked == ["good"]


@pytest.mark.parametrize("token", ["broken", "strange", "nameless"])
async def test_an_issuer_that_fails_lets_nobody_in(token):
    async with guarded() as (client, _):
        headers = {"Authorization": f"Bearer {token}"}
        assert await status(client, MODEL + ":generateContent", json=body(), headers=headers) == 503


async def test_the_other_form_of_an_introspection_is_understood():
    async with guarded() as (client, _):
        headers = {"Authorization": "Bearer listed"}
        assert await status(client, MODEL + ":generateContent", json=body(), headers=headers) == 200


async def test_an_issuer_that_is_away_lets_nobody_in(unused_tcp_port):
    config = VertexConfig(introspect_url=f"http://127.0.0.1:{unused_tcp_port}/")
    async with VertexDouble(config) as vertex, aiohttp.ClientSession(vertex.url, headers=BEARER) as client:
        assert await status(client, MODEL + ":generateContent", json=body()) == 503


async def test_a_check_of_the_callers_own():
    async def check(token):
        known = Principal(email="a@p.example", scope=CLOUD_PLATFORM, expires=time.time() + 9)
        return known if token == "mine" else None

    async with VertexDouble(VertexConfig(token_check=check)) as vertex, aiohttp.ClientSession(vertex.url) as client:
        for token, code in [("mine", 200), ("yours", 401)]:
            headers = {"Authorization": f"Bearer {token}"}
            assert await status(client, MODEL + ":generateContent", json=body(), headers=headers) == code
        seen = vertex.journal.entries
        assert [(entry.authorization, entry.caller, entry.status) for entry in seen] == [
            (True, "a@p.example", 200),
            (True, "", 401),
        ]


async def test_a_defect_answers_500_and_leaves_nothing_open(caplog):
    async def check(token):
        raise RuntimeError("the check is broken")

    async with VertexDouble(VertexConfig(token_check=check)) as vertex, aiohttp.ClientSession(vertex.url) as client:
        answer = await client.post(MODEL + ":generateContent", json=body(), headers=BEARER)
        assert (await answer.json())["error"] == {
            "code": 500,
            "message": "Internal error encountered.",
            "status": "INTERNAL",
        }
        assert vertex.journal.entries[-1].ending == "broken"
        assert "the check is broken" in caplog.text
