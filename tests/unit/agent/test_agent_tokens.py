import asyncio
import contextlib
import json
from base64 import urlsafe_b64encode

import pytest
from agent_parts import AGENT, AUDIENCE, STRANGER, Pauses
from aiohttp import web

from agent.tokens import HOLD_OFF_S, MARGIN_S, MetadataTokens, TokenError
from localcloud.google import GoogleConfig, LocalGoogle, TokenAge
from localcloud.google.faults import Fault

NOW = 1_800_000_000


class Clock:
    """Unix time that a test moves."""

    def __init__(self):
        self.now = float(NOW)

    def __call__(self):
        return self.now


@contextlib.asynccontextmanager
async def town(jitter=0.0, **config):
    """A metadata server, a source of its tokens, and the clock of both."""
    clock, pauses = Clock(), Pauses()
    google = LocalGoogle(GoogleConfig(identities={"agent": AGENT, "other": STRANGER}, **config), clock=clock)
    async with (
        google,
        MetadataTokens(google.metadata_address("agent"), now=clock, jitter=lambda: jitter, sleep=pauses) as tokens,
    ):
        yield google.metadata["agent"], tokens, clock, pauses


async def test_a_token_is_kept_until_its_margin_before_the_end():
    async with town() as (server, tokens, clock, _):
        token = await tokens.id_token(AUDIENCE)
        clock.now = NOW + 3600 - MARGIN_S - 1
        assert await tokens.id_token(AUDIENCE) == token
        assert server.requests["identity"] == 1
        clock.now += 2
        assert await tokens.id_token(AUDIENCE) != token
        assert server.requests["identity"] == 2


async def test_jitter_renews_earlier():
    async with town(jitter=0.5) as (server, tokens, clock, _):
        await tokens.id_token(AUDIENCE)
        clock.now = NOW + 3600 - MARGIN_S - 31
        await tokens.id_token(AUDIENCE)
        assert server.requests["identity"] == 1
        clock.now += 2
        await tokens.id_token(AUDIENCE)
        assert server.requests["identity"] == 2


async def test_a_hundred_callers_ask_once():
    async with town() as (server, tokens, _, _):
        server.faults.order(Fault(latency_seconds=0.03))
        given = await asyncio.gather(*(tokens.id_token(AUDIENCE) for _ in range(100)))
    assert len(set(given)) == 1
    assert server.requests["identity"] == 1


async def test_a_hundred_callers_hear_of_one_failure_together():
    async with town() as (server, tokens, _, pauses):
        server.faults.order(Fault(status=500, times=1000))
        told = await asyncio.gather(*(tokens.id_token(AUDIENCE) for _ in range(100)), return_exceptions=True)
    assert all(isinstance(error, TokenError) for error in told)
    assert server.requests["identity"] == 4
    assert len(pauses.seconds) == 3


async def test_each_audience_has_its_own_token_and_reaches_the_server_as_it_is():
    odd = "https://a.example/?x=1&audience=z#f+ %20/ü"
    async with town() as (_, tokens, _, _):
        assert await tokens.id_token(odd) != await tokens.id_token(AUDIENCE)  # each is checked for its audience


async def test_while_one_renews_the_others_get_the_old_token_at_once():
    async with town() as (server, tokens, clock, _):
        old = await tokens.id_token(AUDIENCE)
        clock.now = NOW + 3600 - MARGIN_S + 1
        server.faults.order(Fault(latency_seconds=0.1))
        async with asyncio.TaskGroup() as group:
            renewal = group.create_task(tokens.id_token(AUDIENCE))
            while server.requests["identity"] < 2:  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0.001)
            async with asyncio.timeout(0.05):
                assert await tokens.id_token(AUDIENCE) == old
        assert renewal.result() != old


async def test_an_old_token_serves_while_the_server_fails_and_the_server_is_not_hammered():
    async with town() as (server, tokens, clock, pauses):
        old = await tokens.id_token(AUDIENCE)
        clock.now = NOW + 3600 - MARGIN_S + 1
        server.faults.order(Fault(status=500, times=2))
        for _ in range(20):
            assert await tokens.id_token(AUDIENCE) == old
        assert server.requests["identity"] == 2
        assert pauses.seconds == []  # and nobody waits for the server while there is a token
        clock.now += HOLD_OFF_S + 1
        assert await tokens.id_token(AUDIENCE) == old
        assert server.requests["identity"] == 3
        clock.now += HOLD_OFF_S + 1
        assert await tokens.id_token(AUDIENCE) != old


async def test_an_old_token_does_not_serve_beyond_its_end():
    async with town() as (server, tokens, clock, _):
        await tokens.id_token(AUDIENCE)
        server.faults.order(Fault(status=503, times=1000))
        clock.now = NOW + 3600
        with pytest.raises(TokenError, match="HTTP 503"):
            await tokens.id_token(AUDIENCE)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again_with_growing_pauses(status):
    async with town(jitter=0.5) as (server, tokens, _, pauses):
        server.faults.order(Fault(status=status, times=3))
        assert await tokens.id_token(AUDIENCE)
    assert server.requests["identity"] == 4
    assert pauses.seconds == [pytest.approx(0.15), pytest.approx(0.3), pytest.approx(0.6)]


@pytest.mark.parametrize(("status", "said"), [(404, "no service account"), (400, "HTTP 400"), (403, "HTTP 403")])
async def test_what_will_not_pass_is_said_at_once(status, said):
    async with town() as (server, tokens, _, pauses):
        server.faults.order(Fault(status=status))
        with pytest.raises(TokenError, match=said):
            await tokens.id_token(AUDIENCE)
    assert server.requests["identity"] == 1
    assert pauses.seconds == []


async def test_a_token_with_less_life_than_the_margin_is_used_and_not_asked_for_again_with_every_call():
    async with town(token_age=TokenAge(born=3500)) as (server, tokens, clock, _):
        for _ in range(10):
            await tokens.id_token(AUDIENCE)
        assert server.requests["identity"] == 1
        clock.now += HOLD_OFF_S + 1
        await tokens.id_token(AUDIENCE)
        assert server.requests["identity"] == 2


async def test_a_token_that_has_already_ended_is_not_given():
    async with town(token_age=TokenAge(born=3599)) as (_, tokens, clock, _):
        tokens._now = lambda: clock.now + 2
        with pytest.raises(TokenError, match="already ended; check this machine's clock"):
            await tokens.id_token(AUDIENCE)


async def test_a_forgotten_token_is_replaced_and_a_newer_one_is_not_forgotten():
    async with town() as (server, tokens, clock, _):
        first = await tokens.id_token(AUDIENCE)
        clock.now += 1
        tokens.forget(AUDIENCE, first)
        second = await tokens.id_token(AUDIENCE)
        assert second != first
        tokens.forget(AUDIENCE, first)
        tokens.forget("https://never-asked-for", first)
        assert await tokens.id_token(AUDIENCE) == second
        assert server.requests["identity"] == 2


async def test_when_the_one_who_asks_is_cancelled_another_takes_over():
    async with town() as (server, tokens, _, _):
        server.faults.order(Fault(latency_seconds=10.0))
        async with asyncio.TaskGroup() as group:
            first = group.create_task(tokens.id_token(AUDIENCE))
            while not server.requests["identity"]:  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0.001)
            second = group.create_task(tokens.id_token(AUDIENCE))
            await asyncio.sleep(0)
            first.cancel()
            assert await asyncio.wait_for(second, 2)
        assert server.requests["identity"] == 2


@contextlib.asynccontextmanager
async def elsewhere(answer, **given):
    """A host that is no metadata server, or a strange one, and a source that asks it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with MetadataTokens(host, now=lambda: NOW, sleep=Pauses(), **given) as tokens:
            yield tokens
    finally:
        await runner.cleanup()


def jwt(claims):
    text = claims if isinstance(claims, str) else json.dumps(claims)
    return f"aGVhZA.{urlsafe_b64encode(text.encode()).rstrip(b'=').decode()}.c2ln"


def answering(body, status=200, **headers):
    async def answer(request):
        return web.Response(status=status, text=body, headers={"Metadata-Flavor": "Google"} | headers)

    return answer


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "no JWT"),
        ("<html>hello</html>", "no JWT"),
        ("a.b", "no JWT"),
        ("a.b.c\nx-evil: 1", "no JWT"),
        (jwt({"aud": AUDIENCE, "exp": NOW + 60, "pad": "x" * 9000}), "no JWT"),
        ("aGVhZA.!!!.c2ln", "no JWT"),
        ("aGVhZA.AAAAA.c2ln", "cannot be read"),
        (jwt("not json"), "cannot be read"),
        (jwt("[" * 5000), "cannot be read"),
        (jwt([1]), "no JSON object"),
        (jwt({"aud": "https://another", "exp": NOW + 60}), "another audience"),
        (jwt({"aud": [AUDIENCE], "exp": NOW + 60}), "another audience"),
        (jwt({"aud": AUDIENCE}), "when it ends"),
        (jwt({"aud": AUDIENCE, "exp": "1900000000"}), "when it ends"),
        (jwt({"aud": AUDIENCE, "exp": True}), "when it ends"),
        (jwt({"aud": AUDIENCE, "exp": 1.9e9}), "when it ends"),
        (jwt({"aud": AUDIENCE, "exp": 10**30}), "when it ends"),
        (jwt('{"aud": "' + AUDIENCE + '", "exp": NaN}'), "when it ends"),
    ],
)
async def test_what_is_no_usable_token_is_refused_with_a_sentence(body, said):
    async with elsewhere(answering(body)) as tokens:
        with pytest.raises(TokenError, match=said):
            await tokens.id_token(AUDIENCE)


async def test_a_token_that_comes_in_pieces_is_whole():
    token = jwt({"aud": AUDIENCE, "exp": NOW + 3600})

    async def answer(request):
        reply = web.StreamResponse()
        await reply.prepare(request)
        for piece in (token[:10], token[10:50], token[50:]):
            await reply.write(piece.encode())
            await asyncio.sleep(0.005)
        await reply.write_eof()
        return reply

    async with elsewhere(answer) as tokens:
        assert await tokens.id_token(AUDIENCE) == token


async def test_an_endless_answer_is_not_read_to_its_end():
    written = 0

    async def answer(request):
        nonlocal written
        reply = web.StreamResponse()
        await reply.prepare(request)
        with contextlib.suppress(ConnectionError):
            while written < 100_000:
                await reply.write(b"x" * 1024)
                written += 1
        return reply

    async with elsewhere(answer) as tokens:
        with pytest.raises(TokenError, match="no JWT"):
            await tokens.id_token(AUDIENCE)
    assert written < 20_000  # what the socket's buffers took in


async def test_redirects_are_not_followed():
    followed = []

    async def answer(request):
        followed.append(request.path)
        raise web.HTTPFound("/elsewhere")

    async with elsewhere(answer) as tokens:
        with pytest.raises(TokenError, match=r"no metadata server \(HTTP 302\)"):
            await tokens.id_token(AUDIENCE)
    assert len(followed) == 1


async def test_another_server_at_that_place_is_named_as_such():
    async with elsewhere(answering("not here", 404, **{"Metadata-Flavor": "none"})) as tokens:
        with pytest.raises(TokenError, match=r"no metadata server.*check GCE_METADATA_HOST"):
            await tokens.id_token(AUDIENCE)


async def test_nobody_there():
    async with MetadataTokens("127.0.0.1:1", sleep=Pauses()) as tokens:
        with pytest.raises(TokenError, match=r"cannot be reached.*GCE_METADATA_HOST"):
            await tokens.id_token(AUDIENCE)


@pytest.mark.parametrize("host", ["", "http://metadata", "a b", "host/path", "user@host", "host:port", "evil\r\nhost"])
def test_a_host_that_is_none_is_refused(host):
    with pytest.raises(ValueError, match="HOST or HOST:PORT"):
        MetadataTokens(host)


async def test_a_source_outside_of_its_context_says_so():
    with pytest.raises(RuntimeError, match="outside of its context"):
        await MetadataTokens("127.0.0.1:1").id_token(AUDIENCE)
