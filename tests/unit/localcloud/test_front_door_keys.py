"""The edge's copy of the published keys: fetched once, kept as long as allowed, and not fetched for every invention."""

import asyncio
import contextlib

import aiohttp
import pytest
from aiohttp import web

from localcloud.front_door.keys import KeysUnavailableError, PublishedKeys
from localcloud.google import Issuer


class Published:
    """An issuer's keys behind a URL that can break; counts how often it was asked."""

    def __init__(self):
        self.issuer = Issuer()
        self.now = 1_700_000_000.0
        self.asked = 0
        self.broken = False
        self.cache_control = "public, max-age=600"

    async def serve(self, _):
        self.asked += 1
        await asyncio.sleep(0)
        if self.broken:
            return web.Response(status=500)
        return web.json_response(self.issuer.jwks(), headers={"Cache-Control": self.cache_control})


@pytest.fixture
async def published():
    here = Published()
    application = web.Application()
    application.router.add_get("/certs", here.serve)
    async with contextlib.AsyncExitStack() as stack:
        runner = web.AppRunner(application)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = await stack.enter_async_context(aiohttp.ClientSession())
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/certs"
        here.keys = PublishedKeys(session, url, lambda: here.now)
        yield here


async def test_callers_at_once_share_one_fetch(published):
    kid = published.issuer.key.kid
    found = await asyncio.gather(*(published.keys.find(kid) for _ in range(20)))
    assert [key.public_numbers() for key in found] == [published.issuer.key.private.public_key().public_numbers()] * 20
    assert published.asked == 1


async def test_keys_are_kept_for_the_age_that_the_issuer_names(published):
    kid = published.issuer.key.kid
    await published.keys.find(kid)
    published.now += 599
    await published.keys.find(kid)
    assert published.asked == 1
    published.now += 2
    await published.keys.find(kid)
    assert published.asked == 2


async def test_without_an_age_they_are_fetched_again_after_five_minutes(published):
    published.cache_control = "private"
    await published.keys.find(published.issuer.key.kid)
    published.now += 299
    await published.keys.find(published.issuer.key.kid)
    assert published.asked == 1
    published.now += 2
    await published.keys.find(published.issuer.key.kid)
    assert published.asked == 2


async def test_an_unknown_name_is_looked_for_but_not_without_end(published):
    assert await published.keys.find(published.issuer.key.kid) is not None
    for number in range(50):
        assert await published.keys.find(f"invented-{number}") is None
    assert published.asked == 10
    published.now += 61
    assert await published.keys.find("invented-again") is None
    assert published.asked == 11


async def test_the_last_good_set_outlives_a_broken_issuer(published):
    kid = published.issuer.key.kid
    await published.keys.find(kid)
    published.broken = True
    published.now += 601
    assert await published.keys.find(kid) is not None
    with pytest.raises(KeysUnavailableError, match="could not be fetched"):
        await published.keys.find("unknown")


async def test_a_broken_issuer_gives_no_key_at_all(published):
    published.broken = True
    for _ in range(12):  # also when the door has given up asking for this minute
        with pytest.raises(KeysUnavailableError):
            await published.keys.find(published.issuer.key.kid)
    assert published.asked == 10
    published.broken = False
    published.now += 61
    assert await published.keys.find(published.issuer.key.kid) is not None
