"""Fetching and keeping Google's keys, from a server on a real socket."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from made_tokens import OTHER_KEY, SetClock, jwk, jwk_set

from gateway.identity.jwks import Jwks, JwksConfig, KeysUnavailableError


class KeyServer:
    """Serves a key set, as the test wants it, and counts."""

    def __init__(self):
        self.document = jwk_set(jwk())
        self.headers = {"cache-control": "public, max-age=19800, must-revalidate"}
        self.status = 200
        self.asked = 0
        self.arrived = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request):
        self.asked += 1
        self.arrived.set()
        await self.gate.wait()
        return web.Response(body=self.document, headers=self.headers, status=self.status)


async def moved(request):
    raise web.HTTPFound("/certs")


@asynccontextmanager
async def serving(server):
    app = web.Application()
    app.router.add_get("/certs", server.answer)
    app.router.add_get("/moved", moved)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/certs"
    finally:
        server.gate.set()
        await runner.cleanup()


@pytest.fixture
async def world():
    server, clock = KeyServer(), SetClock()
    async with serving(server) as url, Jwks(JwksConfig(url=url, timeout_s=1.0), clock) as keys:
        yield server, clock, keys


async def test_fetches_once_while_fresh(world):
    server, clock, keys = world
    await keys.warm()
    clock.pass_s(19_799)
    assert await keys.key("key-1") is not None
    assert server.asked == 1
    clock.pass_s(1)
    assert await keys.key("key-1") is not None
    assert server.asked == 2


async def test_fetches_when_first_needed(world):
    server, _, keys = world
    assert await keys.key("key-1") is not None
    assert server.asked == 1


@pytest.mark.parametrize(
    ("cache_control", "fresh_s"),
    [
        ("max-age=0", 300),
        ("no-store", 300),
        ("", 300),
        ("max-age=x", 300),
        ("s-maxage=9000", 300),
        ("private,max-age=1000", 1000),
        ("MAX-AGE=1000", 1000),
        ("max-age=999999999", 86_400),
    ],
)
async def test_the_age_is_bounded(world, cache_control, fresh_s):
    server, clock, keys = world
    server.headers = {"cache-control": cache_control}
    await keys.warm()
    clock.pass_s(fresh_s - 1)
    await keys.key("key-1")
    assert server.asked == 1
    clock.pass_s(1)
    await keys.key("key-1")
    assert server.asked == 2


async def test_many_callers_make_one_fetch(world):
    server, _, keys = world
    server.gate.clear()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(keys.key("key-1")) for _ in range(50)]
        await server.arrived.wait()
        server.gate.set()
    assert all(task.result() is not None for task in waiting)
    assert server.asked == 1


async def test_nobody_waits_for_a_new_set_while_the_old_one_will_do(world):
    server, clock, keys = world
    await keys.warm()
    clock.pass_s(20_000)
    server.gate.clear()
    server.arrived.clear()
    async with asyncio.TaskGroup() as group:
        renewing = group.create_task(keys.key("key-1"))
        await server.arrived.wait()
        async with asyncio.timeout(0.5):
            assert await keys.key("key-1") is not None
        assert not renewing.done()
        server.gate.set()


async def test_a_new_key_is_looked_for_once(world):
    server, clock, keys = world
    await keys.warm()
    clock.pass_s(31)
    server.document = jwk_set(jwk(), jwk(OTHER_KEY, kid="key-2"))
    assert await keys.key("key-2") is not None
    assert server.asked == 2


async def test_a_flood_of_unknown_ids_does_not_reach_google(world):
    """Attack row 5."""
    server, clock, keys = world
    await keys.warm()
    for number in range(200):
        assert await keys.key(f"made-up-{number}") is None
    assert server.asked == 1
    clock.pass_s(30)
    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(keys.key(f"made-up-{number}"))
    assert server.asked == 2


async def test_leaving_callers_cannot_make_a_flood(world):
    server, clock, keys = world
    await keys.warm()
    clock.pass_s(31)
    server.gate.clear()
    for number in range(20):
        server.arrived.clear()
        asking = asyncio.create_task(keys.key(f"made-up-{number}"))
        if number == 0:
            await server.arrived.wait()
            asking.cancel()
        await asyncio.wait([asking], timeout=1)
        assert asking.cancelled() if number == 0 else asking.result() is None
    assert server.asked == 2


@pytest.mark.parametrize(
    ("status", "document"),
    [(500, b""), (404, b""), (304, b""), (200, b"<html>"), (200, b'{"keys":[]}'), (200, b" " * 70_000)],
)
async def test_the_last_good_set_is_kept(world, status, document):
    server, clock, keys = world
    await keys.warm()
    server.status, server.document = status, document
    clock.pass_s(19_800)
    assert await keys.key("key-1") is not None
    assert server.asked == 2
    assert await keys.key("key-1") is not None
    assert server.asked == 2, "a failed fetch is not repeated at once"
    clock.pass_s(5)
    assert await keys.key("key-1") is not None
    assert server.asked == 3


async def test_an_unknown_id_is_not_called_unknown_while_nobody_can_know(world):
    server, clock, keys = world
    await keys.warm()
    server.status = 503
    clock.pass_s(31)
    with pytest.raises(KeysUnavailableError):
        await keys.key("key-2")


async def test_a_set_is_not_kept_for_ever(world):
    server, clock, keys = world
    await keys.warm()
    server.status = 503
    clock.pass_s(19_800 + 86_399)
    assert await keys.key("key-1") is not None
    clock.pass_s(1)
    with pytest.raises(KeysUnavailableError, match="status 503") as caught:
        await keys.key("key-1")
    assert caught.value.retry_after_ms == 5_000


async def test_says_why_there_are_no_keys(world):
    server, clock, keys = world
    server.status = 403
    with pytest.raises(KeysUnavailableError, match="status 403"):
        await keys.warm()
    with pytest.raises(KeysUnavailableError, match="status 403"):
        await keys.key("key-1")
    assert server.asked == 1
    server.status = 200
    clock.pass_s(5)
    assert await keys.key("key-1") is not None


async def test_a_redirect_is_not_followed():
    server = KeyServer()
    async with serving(server) as url, Jwks(JwksConfig(url=url.replace("certs", "moved")), SetClock()) as keys:
        with pytest.raises(KeysUnavailableError, match="status 302"):
            await keys.warm()
    assert server.asked == 0


async def test_a_compressed_answer_is_refused(world):
    server, _, keys = world
    server.headers = {"content-encoding": "gzip"}
    with pytest.raises(KeysUnavailableError):
        await keys.warm()


async def test_a_silent_server_is_left_in_time():
    server = KeyServer()
    server.gate.clear()
    async with serving(server) as url, Jwks(JwksConfig(url=url, timeout_s=0.05), SetClock()) as keys:
        with pytest.raises(KeysUnavailableError, match="TimeoutError"):
            await keys.warm()


async def test_nobody_there():
    async with Jwks(JwksConfig(url="http://127.0.0.1:1/certs"), SetClock()) as keys:
        with pytest.raises(KeysUnavailableError, match="no keys from"):
            await keys.warm()


async def test_a_given_session_stays_open():
    server = KeyServer()
    async with serving(server) as url, aiohttp.ClientSession() as session:
        async with Jwks(JwksConfig(url=url), SetClock(), session) as keys:
            await keys.warm()
        assert not session.closed
