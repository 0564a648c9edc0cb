"""Each fault as a client sees it, injected over the admin port, and what the journal says afterwards."""

import asyncio
import json

import aiohttp
import pytest

from localcloud.vertex import Fault, VertexConfig, VertexDouble

MODEL = "/v1/projects/p/locations/global/publishers/google/models/gemini-3.5-flash"
BODY = {"contents": [{"role": "user", "parts": [{"text": "@pace deltas=5 interval_ms=1\nhi"}]}]}
STREAM, WHOLE, COUNT = ":streamGenerateContent?alt=sse", ":generateContent", ":countTokens"


@pytest.fixture
async def vertex():
    async with VertexDouble(VertexConfig(allow_any_token=True)) as double:
        yield double


@pytest.fixture
async def client(vertex):
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer token"}) as session:
        yield session


async def inject(client, vertex, kind, **more):
    async with client.post(vertex.admin_url + "/admin/faults", json={"kind": kind, **more}) as answer:
        assert answer.status == 200, await answer.text()


async def post(client, vertex, method=STREAM):
    return await client.post(vertex.url + MODEL + method, json=BODY)


def frames(raw):
    return [frame.removeprefix(b"data: ") for frame in raw.split(b"\r\n\r\n") if frame]


async def code_of(client, vertex, method):
    async with await post(client, vertex, method) as answer:
        await answer.read()
        return answer.status


async def ended(vertex, ending):
    async with asyncio.timeout(2):
        while vertex.journal.entries[-1].ending != ending:  # noqa: ASYNC110 - the journal has no event to wait for
            await asyncio.sleep(0.001)
    return vertex.journal.entries[-1]


@pytest.mark.parametrize("code, status", [(429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE"), (500, "INTERNAL")])
@pytest.mark.parametrize("method", [STREAM, WHOLE, COUNT])
async def test_status(client, vertex, code, status, method):
    await inject(client, vertex, "status", params={"code": code})
    answer = await post(client, vertex, method)
    assert answer.status == code
    assert (await answer.json())["error"]["status"] == status
    assert await code_of(client, vertex, method) == 200
    assert vertex.journal.entries[0].fault == "status"


async def test_retry_info_only_where_asked_for(client, vertex):
    await inject(client, vertex, "status", params={"code": 429, "retry_after_s": 1.5})
    await inject(client, vertex, "status", params={"code": 429})
    error = (await (await post(client, vertex)).json())["error"]
    assert error["details"] == [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"}]
    assert "details" not in (await (await post(client, vertex)).json())["error"]


@pytest.mark.parametrize("method", [STREAM, WHOLE, COUNT])
async def test_reset_before(client, vertex, method):
    await inject(client, vertex, "reset_before")
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await post(client, vertex, method)
    assert (await ended(vertex, "fault")).chunks_sent == 0


async def test_reset_after_n(client, vertex):
    await inject(client, vertex, "reset_after_n", params={"n": 2})
    answer = await post(client, vertex)
    raw = b""
    with pytest.raises(aiohttp.ClientError):  # noqa: PT012 - what came before the reset counts
        async for piece in answer.content.iter_any():
            raw += piece
    answer.close()
    assert len(frames(raw)) == 2
    assert (await ended(vertex, "fault")).chunks_sent == 2


async def test_truncate_after_n_is_a_clean_end_without_a_finish(client, vertex):
    await inject(client, vertex, "truncate_after_n", params={"n": 3})
    raw = await (await post(client, vertex)).read()
    assert len(frames(raw)) == 3
    assert b"finishReason" not in raw


async def test_truncated_before_the_first_chunk(client, vertex):
    await inject(client, vertex, "truncate_after_n", params={"n": 0})
    answer = await post(client, vertex)
    assert (answer.status, await answer.read()) == (200, b"")


async def test_a_truncated_array_is_not_closed(client, vertex):
    await inject(client, vertex, "truncate_after_n", params={"n": 2})
    raw = await (await post(client, vertex, ":streamGenerateContent")).read()
    assert raw.startswith(b"[")
    assert not raw.rstrip().endswith(b"]")


@pytest.mark.parametrize("kind", ["truncate_after_n", "reset_after_n"])
@pytest.mark.parametrize("method", [WHOLE, COUNT])
async def test_single_answers_end_in_the_middle(client, vertex, kind, method):
    await inject(client, vertex, kind)
    answer = await post(client, vertex, method)
    with pytest.raises(aiohttp.ClientError):
        await answer.read()
    answer.close()
    await ended(vertex, "fault")


@pytest.mark.parametrize("method", [STREAM, WHOLE])
async def test_stall_until_the_client_leaves(client, vertex, method):
    await inject(client, vertex, "stall_after_n", params={"n": 1})
    answer = await post(client, vertex, method)
    assert await answer.content.readany()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await answer.content.readany()
    answer.close()
    assert (await ended(vertex, "client_left")).fault == "stall_after_n"


async def test_malformed_sse(client, vertex):
    await inject(client, vertex, "malformed_sse", params={"n": 2})
    found = frames(await (await post(client, vertex)).read())
    assert len(found) == 5
    with pytest.raises(json.JSONDecodeError):
        json.loads(found[1])
    assert json.loads(found[2])


@pytest.mark.parametrize("method", [STREAM, WHOLE, COUNT])
async def test_wrong_json(client, vertex, method):
    await inject(client, vertex, "wrong_json")
    raw = await (await post(client, vertex, method)).read()
    assert json.loads(frames(raw)[0])["candidates"] == "none"


async def test_an_error_event_ends_the_stream(client, vertex):
    await inject(client, vertex, "error_event_after_n", params={"n": 2, "code": 429, "message": "no more"})
    found = [json.loads(frame) for frame in frames(await (await post(client, vertex)).read())]
    assert len(found) == 3
    assert found[-1]["error"] == {"code": 429, "message": "no more", "status": "RESOURCE_EXHAUSTED"}


async def test_slow_first_byte(client, vertex):
    await inject(client, vertex, "slow_first_byte", params={"ms": 30})
    started = asyncio.get_running_loop().time()
    answer = await post(client, vertex)
    assert asyncio.get_running_loop().time() - started >= 0.03
    assert len(frames(await answer.read())) == 5


async def test_gigantic_delta(client, vertex):
    await inject(client, vertex, "gigantic_delta", params={"n": 2, "bytes": 300_000})
    found = frames(await (await post(client, vertex)).read())
    assert [len(frame) > 300_000 for frame in found] == [False, True, False, False, False]


async def test_endless_until_the_client_leaves(client, vertex):
    await inject(client, vertex, "endless", params={"ms": 1})
    answer = await post(client, vertex)
    raw = b""
    while len(frames(raw)) < 30:
        raw += await answer.content.readany()
    assert b"finishReason" not in raw
    answer.close()
    await ended(vertex, "client_left")


async def test_duplicate_finish(client, vertex):
    await inject(client, vertex, "duplicate_finish")
    found = frames(await (await post(client, vertex)).read())
    assert len(found) == 6
    assert found[-1] == found[-2]


async def test_faults_wait_for_the_calls_they_are_for(client, vertex):
    await inject(client, vertex, "status", match={"method": "countTokens"}, params={"code": 500})
    await inject(client, vertex, "status", match={"model": "gemini-3.8-flash"}, params={"code": 500})
    await inject(client, vertex, "duplicate_finish")
    assert await code_of(client, vertex, WHOLE) == 200
    assert await code_of(client, vertex, COUNT) == 500
    shown = await (await client.get(vertex.admin_url + "/admin/faults")).json()
    assert [fault["kind"] for fault in shown["faults"]] == ["status", "duplicate_finish"]
    assert shown["claimed"] == 1


async def test_counts_run_down_and_null_lasts(client, vertex):
    vertex.faults.add([Fault(kind="status", count=2), Fault(kind="status", count=None)])
    assert [await code_of(client, vertex, COUNT) for _ in range(4)] == [503] * 4
    assert [fault.count for fault in vertex.faults.waiting] == [None]
    async with client.delete(vertex.admin_url + "/admin/faults") as answer:
        assert (await answer.json())["faults"] == []
    assert await code_of(client, vertex, COUNT) == 200


async def test_put_replaces_what_waits(client, vertex):
    await inject(client, vertex, "reset_before")
    answer = await client.put(vertex.admin_url + "/admin/faults", json=[{"kind": "status"}, {"kind": "endless"}])
    assert [fault["kind"] for fault in (await answer.json())["faults"]] == ["status", "endless"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "explode"},
        {"kind": "status", "colour": "red"},
        {"kind": "status", "count": 0},
        {"kind": "status", "params": {"code": 200}},
        {"kind": "reset_after_n", "params": {"n": -1}},
        {"kind": "status", "match": {"method": "predict"}},
        [{"kind": "status"}] * 257,
    ],
)
async def test_faults_that_make_no_sense_are_refused(client, vertex, document):
    answer = await client.post(vertex.admin_url + "/admin/faults", json=document)
    assert answer.status == 400
    assert (await answer.json())["error"]
    assert vertex.faults.waiting == []


async def test_the_admin_port_tells_what_was_seen(client, vertex):
    await (await post(client, vertex)).read()
    async with client.post(vertex.url + MODEL + WHOLE, json=BODY, headers={"Authorization": ""}) as answer:
        await answer.read()
    seen = (await (await client.get(vertex.admin_url + "/admin/requests")).json())["requests"]
    assert [(item["method"], item["path"], item["model"]) for item in seen] == [
        ("POST", MODEL + ":streamGenerateContent", "gemini-3.5-flash"),
        ("POST", MODEL + ":generateContent", "gemini-3.5-flash"),
    ]
    assert (seen[0]["chunks_sent"], seen[0]["chunks_planned"], seen[0]["ending"]) == (5, 5, "complete")
    assert seen[0]["body_bytes"] == len(json.dumps(BODY))
    assert seen[1]["status"] == 401
    streams = await (await client.get(vertex.admin_url + "/admin/streams")).json()
    assert streams == {"open": 0, "total": 1, "completed": 1, "aborted": 0}
    async with client.delete(vertex.admin_url + "/admin/requests") as answer:
        assert (await answer.json())["requests"] == []


async def test_the_journal_is_bounded(client):
    async with VertexDouble(VertexConfig(allow_any_token=True, journal_size=2)) as vertex:
        for _ in range(5):
            await code_of(client, vertex, COUNT)
        assert [entry.number for entry in vertex.journal.entries] == [4, 5]
