"""What the edge answers itself: the HTTP status, no word of gRPC in it, and what a gRPC client makes of it."""

import asyncio
import socket

import pytest
from front_door_parts import AUDIENCE, config, container, edge
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from h2.events import DataReceived, ResponseReceived, StreamEnded

from localcloud.front_door import FrontDoor
from localcloud.google import forgery

TOKENS = {
    "malformed": lambda all_: "not-a-token",
    "two parts": lambda all_: "a.b",
    "long": lambda all_: all_.token() + "x" * 8192,
    "wrong audience": lambda all_: all_.token(audience="https://other.run.app"),
    "audience with a slash": lambda all_: all_.token(audience=f"{AUDIENCE}/"),
    "access token": lambda all_: all_.google.issuer.access_token(all_.agent).token,
    "expired": lambda all_: forgery.expired(all_.google.issuer, all_.agent, AUDIENCE, seconds_ago=1),
    "from the future": lambda all_: forgery.not_yet_valid(all_.google.issuer, all_.agent, AUDIENCE),
    "altered": lambda all_: forgery.altered(all_.token(all_.stranger), email=all_.agent.email),
    "alg none": lambda all_: forgery.unsigned(all_.token()),
    "HS256": lambda all_: forgery.signed_with_public_key(all_.google.issuer, all_.token()),
    "stranger's key": lambda all_: forgery.signed_by_stranger(all_.token()),
    "embedded key": lambda all_: forgery.signed_by_stranger(all_.token(), embed_key=True),
    "stripped": lambda all_: forgery.stripped(all_.token()),
    "made up": lambda all_: forgery.made_up(all_.google.issuer, all_.agent, AUDIENCE),
    "issuer": lambda all_: all_.google.issuer.sign(
        all_.google.issuer.claims(all_.agent, AUDIENCE) | {"iss": "https://evil.example"}
    ),
    "list of audiences": lambda all_: all_.google.issuer.sign(
        all_.google.issuer.claims(all_.agent, AUDIENCE) | {"aud": [AUDIENCE, "https://other.run.app"]}
    ),
    "exp as text": lambda all_: all_.google.issuer.sign(
        all_.google.issuer.claims(all_.agent, AUDIENCE) | {"exp": "9999999999"}
    ),
}


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_that_is_not_accepted_is_a_401(name):
    async with edge() as all_:
        with pytest.raises(GRPCError) as caught:
            await all_.client(TOKENS[name](all_)).unary()
        assert caught.value.status is Status.UNAUTHENTICATED
        assert "401" in caught.value.message
        assert all_.echo.metadata == []
        (entry,) = await all_.ended()
        assert (entry.status, entry.caller) == (401, "")
        assert entry.reason.startswith("token-")


async def shown(all_, *args, **kwargs):
    """Return status, headers and body of the edge's answer to a raw request."""
    raw = await all_.raw()
    number = raw.request(*args, **kwargs)
    head = dict((await raw.until(ResponseReceived, number)).headers)
    body = (await raw.until(DataReceived, number)).data
    await raw.until(StreamEnded, number)
    return int(head[b":status"]), head, body


@pytest.mark.parametrize("header", ["authorization", "x-serverless-authorization"])
async def test_a_header_that_appears_twice_is_a_401(header):
    async with edge() as all_:
        twice = [(header, f"Bearer {all_.token()}")] * 2
        status, head, _ = await shown(all_, None, extra=twice)
        assert status == 401
        assert head[b"www-authenticate"].startswith(b"Bearer")


async def test_another_scheme_than_bearer_is_a_401():
    async with edge() as all_:
        status, _, _ = await shown(all_, None, extra=[("authorization", "Basic YTpi")])
        assert status == 401


async def test_an_answer_of_the_edge_is_a_page_without_a_word_of_grpc():
    async with edge() as all_:
        status, head, body = await shown(all_, None)
        assert status == 403
        assert head[b"content-type"].startswith(b"text/html")
        assert not [name for name in head if name.startswith(b"grpc-")]
        assert int(head[b"content-length"]) == len(body)
        assert b"Forbidden" in body


async def test_no_token_is_a_403():
    async with edge() as all_:
        with pytest.raises(GRPCError) as caught:
            await all_.client("").unary()
        assert caught.value.status is Status.PERMISSION_DENIED


async def test_a_caller_without_the_binding_is_a_403():
    async with edge() as all_:
        with pytest.raises(GRPCError) as caught:
            await all_.client(all_.token(all_.stranger)).unary()
        assert caught.value.status is Status.PERMISSION_DENIED
        assert (await all_.ended())[0].reason == "not-invoker"


async def test_an_address_that_google_has_not_verified_is_no_invoker():
    async with edge() as all_:
        claims = all_.google.issuer.claims(all_.agent, AUDIENCE) | {"email_verified": False}
        with pytest.raises(GRPCError) as caught:
            await all_.client(all_.google.issuer.sign(claims)).unary()
        assert caught.value.status is Status.PERMISSION_DENIED


async def test_all_authenticated_users_need_a_token_but_no_binding():
    async with edge(invokers=("allAuthenticatedUsers",)) as all_:
        assert await all_.client(all_.token(all_.stranger)).unary() == b"hello"
        with pytest.raises(GRPCError):
            await all_.client("").unary()


async def test_all_users_need_nothing_and_a_made_up_stripped_token_gets_through():
    async with edge(invokers=("allUsers",)) as all_:
        made_up = forgery.made_up(all_.google.issuer, all_.agent, AUDIENCE)
        assert await all_.client(made_up).unary() == b"hello"
        assert all_.echo.metadata[0]["authorization"] == f"Bearer {made_up}"


async def test_a_custom_audience_is_as_good_as_the_url():
    async with edge(audiences=(AUDIENCE, "gateway")) as all_:
        assert await all_.client(all_.token(audience="gateway")).unary() == b"hello"


async def test_a_token_that_expires_is_refused_although_it_was_accepted_before():
    async with edge() as all_:
        late = [all_.google.issuer.now]
        async with FrontDoor(
            config(all_.google, all_.door.config.container_port), clock=lambda: float(late[0])
        ) as door:
            client = all_.client(door=door)
            assert await client.unary() == b"hello"
            late[0] += 3599
            assert await client.unary() == b"hello"
            late[0] += 2
            with pytest.raises(GRPCError) as caught:
                await client.unary()
        assert caught.value.status is Status.UNAUTHENTICATED


async def test_closed_ingress_is_a_404_before_any_token_is_looked_at():
    async with edge(ingress="none") as all_:
        for token in (all_.token(), "nonsense"):
            with pytest.raises(GRPCError) as caught:
                await all_.client(token).unary()
            assert caught.value.status is Status.UNIMPLEMENTED


async def test_no_place_in_the_container_is_a_429_after_the_wait():
    async with edge(concurrency=1, pending_seconds=0.03) as all_:
        client = all_.client()
        async with client.open("Hang") as first:
            await first.send_message(b"")
            await all_.echo.started.wait()
            with pytest.raises(GRPCError) as caught:
                await client.unary()
            assert caught.value.status is Status.UNAVAILABLE
            assert "429" in caught.value.message
            all_.echo.gate.set()
            assert await first.recv_message() == b"after all"
        assert await client.unary() == b"hello"


async def test_a_place_that_gets_free_in_time_is_taken():
    async with edge(concurrency=1, pending_seconds=5) as all_:
        client = all_.client()
        async with client.open("Hang") as first:
            await first.send_message(b"")
            await all_.echo.started.wait()
            waiting = asyncio.create_task(client.unary())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            all_.echo.gate.set()
            await first.recv_message()
        assert await waiting == b"hello"


async def test_a_container_that_never_listens_is_a_500():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with edge(container_port=unused.getsockname()[1], start_seconds=0.05) as all_:
            with pytest.raises(GRPCError) as caught:
                await all_.client().unary()
    assert caught.value.status is Status.UNKNOWN
    assert "500" in caught.value.message


async def test_a_container_that_is_gone_is_a_503():
    async with edge() as all_:
        async with container() as (_, port):
            door = await FrontDoor(config(all_.google, port, reconnect_seconds=0.05)).__aenter__()
            client = all_.client(door=door)
            await client.unary()
        with pytest.raises(GRPCError) as caught:
            await client.unary()
        await door.__aexit__(None, None, None)
    assert caught.value.status is Status.UNAVAILABLE
    assert "503" in caught.value.message


async def test_a_container_that_speaks_no_http2_is_a_503():
    async def http1(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(http1, "127.0.0.1", 0)
    async with server, edge(container_port=server.sockets[0].getsockname()[1]) as all_:
        with pytest.raises(GRPCError) as caught:
            await all_.client().unary()
    assert "503" in caught.value.message


async def test_a_request_over_its_time_is_a_504_and_cancelled_in_the_container():
    async with edge(timeout_seconds=0.1) as all_:
        with pytest.raises(GRPCError) as caught:
            await all_.client().method("Hang")(b"", metadata=all_.client().metadata)
        assert caught.value.status is Status.UNAVAILABLE
        assert "504" in caught.value.message
        async with asyncio.timeout(1):
            await all_.echo.cancelled.wait()


async def test_an_issuer_that_cannot_be_asked_is_a_503_and_nobody_passes():
    async with edge(certs_url="http://127.0.0.1:9/oauth2/v3/certs") as all_:
        with pytest.raises(GRPCError) as caught:
            await all_.client().unary()
        assert caught.value.status is Status.UNAVAILABLE
        assert (await all_.ended())[0].reason == "keys-unavailable"


async def test_a_rotated_key_is_fetched_and_a_retired_one_is_forgotten():
    async with edge() as all_:
        old = all_.token()
        client = all_.client(old)
        assert await client.unary() == b"hello"
        all_.google.issuer.rotate()
        assert await all_.client().unary() == b"hello"
        all_.google.issuer.rotate(keep_old=False)
        assert await all_.client().unary() == b"hello"
        retired = forgery.altered(old, nonce="another token, so that its signature is looked at again")
        with pytest.raises(GRPCError):
            await all_.client(retired).unary()
        assert (await all_.ended(4))[-1].reason == "token-unknown-key"
