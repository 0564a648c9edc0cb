"""The gateway's own tokens: how often they are fetched, and what is served when they cannot be."""

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from made_streams import StandingClock, upstream

from gateway.llm.credentials import AccessToken, CachedToken, metadata_fetch
from gateway.terms.faults import Fault, UpstreamError
from localcloud.google import GoogleConfig, LocalGoogle, TokenAge
from localcloud.google.faults import Fault as Order

ROOT = Path(__file__).resolve().parents[3]
EMAIL = "sa-gateway@local-project.iam.gserviceaccount.com"


class Issuer:
    """Gives `t1`, `t2` and so on, each for `life_s`; fails, or waits, when it is told to."""

    def __init__(self, clock):
        self.clock = clock
        self.life_s = 3600
        self.fetches = 0
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self):
        self.fetches += 1
        number = self.fetches
        await self.gate.wait()
        if self.broken:
            raise UpstreamError(Fault.CREDENTIALS, f"attempt {number}")
        return AccessToken(token=f"t{number}", expires_ns=self.clock.monotonic_ns() + self.life_s * 1_000_000_000)


@pytest.fixture
def clock():
    return StandingClock()


@pytest.fixture
def issuer(clock):
    return Issuer(clock)


@pytest.fixture
def cached(issuer, clock):
    return CachedToken(issuer, clock)


async def test_a_token_is_kept_until_shortly_before_its_end(cached, issuer, clock):
    assert [await cached.token() for _ in range(3)] == ["t1"] * 3
    clock.now_s += 3600 - 226
    assert await cached.token() == "t1"
    clock.now_s += 2
    assert await cached.token() == "t2"
    assert issuer.fetches == 2


async def test_a_hundred_at_once_fetch_once(cached, issuer):
    issuer.gate.clear()
    asking = [asyncio.ensure_future(cached.token()) for _ in range(100)]
    await asyncio.sleep(0)
    issuer.gate.set()
    assert await asyncio.gather(*asking) == ["t1"] * 100
    assert issuer.fetches == 1


async def test_a_hundred_at_once_share_a_failure(cached, issuer):
    """One after the other they would wait a hundred timeouts."""
    issuer.broken = True
    issuer.gate.clear()
    asking = [asyncio.ensure_future(cached.token()) for _ in range(100)]
    await asyncio.sleep(0)
    issuer.gate.set()
    failures = await asyncio.gather(*asking, return_exceptions=True)
    assert {(failure.fault, failure.detail) for failure in failures} == {(Fault.CREDENTIALS, "attempt 1")}
    assert issuer.fetches == 1


async def test_the_old_one_serves_while_a_new_one_is_fetched(cached, issuer, clock):
    await cached.token()
    clock.now_s += 3500
    issuer.gate.clear()
    first = asyncio.ensure_future(cached.token())
    await asyncio.sleep(0)
    assert await cached.token() == "t1"
    issuer.gate.set()
    assert await first == "t2"


async def test_the_old_one_serves_while_no_new_one_is_to_be_had(cached, issuer, clock):
    await cached.token()
    clock.now_s += 3500
    issuer.broken = True
    assert [await cached.token() for _ in range(10)] == ["t1"] * 10
    assert issuer.fetches == 2  # not every call waits for another attempt
    clock.now_s += 5
    assert await cached.token() == "t1"
    assert issuer.fetches == 3
    clock.now_s += 95
    with pytest.raises(UpstreamError, match="attempt 4"):
        await cached.token()
    issuer.broken = False
    assert await cached.token() == "t5"


async def test_a_short_life_is_not_fetched_for_ever(cached, issuer, clock):
    issuer.life_s = 100
    assert [await cached.token() for _ in range(3)] == ["t1"] * 3
    clock.now_s += 6
    assert await cached.token() == "t2"


async def test_a_token_that_had_ended_before_it_arrived(cached, issuer):
    issuer.life_s = 0
    with pytest.raises(UpstreamError) as caught:
        await cached.token()
    assert caught.value.fault is Fault.CREDENTIALS


async def test_a_refused_token_is_never_given_again(cached, issuer):
    assert await cached.token() == "t1"
    for _ in range(100):
        cached.refused("t1")
    assert await cached.token() == "t2"
    cached.refused("t1")  # late news of the old one
    assert await cached.token() == "t2"
    assert issuer.fetches == 2


async def test_who_leaves_while_fetching_does_not_take_the_others_along(cached, issuer):
    issuer.gate.clear()
    first, second, third = (asyncio.ensure_future(cached.token()) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.sleep(0)
    issuer.gate.set()
    assert await third == "t2"
    assert first.cancelled()
    assert second.cancelled()


# The metadata server.


@asynccontextmanager
async def metadata(**config):
    async with (
        LocalGoogle(GoogleConfig(identities={"gateway": EMAIL}, **config)) as google,
        aiohttp.ClientSession() as http,
    ):
        yield google, http


async def test_a_token_of_the_metadata_server_is_one_of_the_issuer(clock):
    async with metadata(token_age=TokenAge(born=600)) as (google, http):
        fetch = metadata_fetch(http, google.metadata_address("gateway"), clock)
        told = await fetch()
        async with http.get(google.introspect_url, params={"token": told.token}) as reply:
            assert (await reply.json())["email"] == EMAIL
    assert told.expires_ns - clock.monotonic_ns() == pytest.approx(3000e9, abs=2e9)


async def test_one_request_for_many_calls(clock):
    async with metadata() as (google, http):
        cached = CachedToken(metadata_fetch(http, google.metadata_address("gateway"), clock), clock)
        assert len(set(await asyncio.gather(*(cached.token() for _ in range(100))))) == 1
        assert google.metadata["gateway"].requests["token"] == 1


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_a_metadata_server_that_refuses(clock, status):
    async with metadata() as (google, http):
        cached = CachedToken(metadata_fetch(http, google.metadata_address("gateway"), clock), clock)
        google.metadata["gateway"].faults.order(Order(status=status, only="token"))
        with pytest.raises(UpstreamError, match=f": {status} ") as caught:
            await cached.token()
        assert caught.value.fault is Fault.CREDENTIALS
        assert await cached.token()


async def test_nobody_at_the_metadata_servers_address(clock):
    async with metadata() as (google, http):
        address = google.metadata_address("gateway")
    async with aiohttp.ClientSession() as http:
        with pytest.raises(UpstreamError) as caught:
            await metadata_fetch(http, address, clock)()
    assert caught.value.fault is Fault.CREDENTIALS
    assert address in caught.value.detail


async def test_a_metadata_server_that_is_silent(clock, monkeypatch):
    monkeypatch.setattr("gateway.llm.credentials.METADATA_S", 0.03)

    async def play(exchange):
        await exchange.gone()
        exchange.close()

    async with metadata_like(play) as fetch:
        with pytest.raises(UpstreamError, match="TimeoutError"):
            await fetch()


GOOD = {"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"}


@asynccontextmanager
async def metadata_like(play):
    """A server whose answers the test writes."""
    async with upstream(play, bodies=False) as seen, aiohttp.ClientSession() as http:
        yield metadata_fetch(http, seen.url.removeprefix("http://"), StandingClock())


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        GOOD | {"access_token": ""},
        GOOD | {"access_token": 5},
        GOOD | {"access_token": "a b"},
        GOOD | {"access_token": "a\r\nX-Evil: 1"},
        GOOD | {"access_token": "ü"},
        GOOD | {"access_token": "a" * 10_000},
        GOOD | {"expires_in": 0},
        GOOD | {"expires_in": -5},
        GOOD | {"expires_in": "3599"},
        GOOD | {"expires_in": 10**12},
        b" " * 100_000 + json.dumps(GOOD).encode(),
    ],
)
async def test_what_is_no_token(document):
    async def play(exchange):
        await exchange.answer(200, document, Metadata_Flavor="Google")

    async with metadata_like(play) as fetch:
        with pytest.raises(UpstreamError) as caught:
            await fetch()
    assert caught.value.fault is Fault.CREDENTIALS
    assert "ya29" not in caught.value.detail


async def test_who_is_no_metadata_server():
    async def play(exchange):
        await exchange.answer(200, GOOD)

    async with metadata_like(play) as fetch:
        with pytest.raises(UpstreamError, match="no metadata server of Google's"):
            await fetch()


async def test_a_redirect_is_not_followed():
    async def play(exchange):
        await exchange.answer(302, b"", Metadata_Flavor="Google", Location="http://127.0.0.1:9/")

    async with metadata_like(play) as fetch:
        with pytest.raises(UpstreamError, match="302"):
            await fetch()


# Application default credentials, in a process of their own: google-auth reads the environment when it is imported.

PROGRAM = """
import asyncio, json, sys

outside = []

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", b"127.0.0.1"):
        outside.append(str(host))

sys.addaudithook(watch)

from gateway.llm.credentials import CachedToken, application_default_fetch
from gateway.terms.clock import SystemClock
from gateway.terms.faults import UpstreamError

assert "google.auth" not in sys.modules

async def main():
    cached = CachedToken(application_default_fetch(SystemClock()), SystemClock())
    try:
        tokens = {await cached.token() for _ in range(3)}
        left = (cached._held.expires_ns - SystemClock().monotonic_ns()) / 1e9
        return {"tokens": sorted(tokens), "left_s": left}
    except UpstreamError as error:
        return {"fault": error.fault.value, "detail": error.detail}

told = asyncio.run(main())
print(json.dumps(told | {"outside": outside}))
"""


async def application_default(tmp_path, **environment):
    """What the program above tells, in an environment with nothing but this."""
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "CLOUDSDK_CONFIG": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def test_application_default_credentials_of_the_metadata_server(tmp_path):
    async with metadata() as (google, http):
        address = google.metadata_address("gateway")
        names = ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP")
        told = await application_default(tmp_path, **dict.fromkeys(names, address))
        (token,) = told["tokens"]
        async with http.get(google.introspect_url, params={"token": token}) as reply:
            assert (await reply.json())["email"] == EMAIL
        assert google.metadata["gateway"].requests["token"] == 1
    assert told["left_s"] == pytest.approx(3600, abs=20)
    assert told["outside"] == []


async def test_application_default_credentials_that_do_not_exist(tmp_path):
    told = await application_default(tmp_path, NO_GCE_CHECK="true", GOOGLE_CLOUD_PROJECT="p")
    assert told["fault"] == "upstream.credentials"
    assert told["outside"] == []


async def test_an_application_default_file_that_cannot_be_read(tmp_path):
    file = tmp_path / "key.json"
    file.write_text("{")
    told = await application_default(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(file))
    assert told["fault"] == "upstream.credentials"
    assert told["outside"] == []
