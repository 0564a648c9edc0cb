"""A gRPC client and a gRPC container with the front door between them: everything passes as if it were not there."""

import asyncio
import contextlib

import pytest
from front_door_parts import AGENT, AUDIENCE, config, container, edge, eventually
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from localcloud.front_door import DoorConfig, DoorConfigError, FrontDoor
from localcloud.google import forgery


async def test_a_unary_call_passes_with_its_trailers():
    async with edge() as all_:
        client = all_.client()
        async with client.open("Unary") as stream:
            await stream.send_message(b"hello")
            assert await stream.recv_message() == b"hello"
            await stream.recv_trailing_metadata()
        assert stream.trailing_metadata["gateway-timing"] == "a;dur=1"
        (entry,) = await all_.ended()
        assert (entry.status, entry.caller, entry.reason, entry.path) == (200, AGENT, "", "/test.Echo/Unary")


async def test_an_error_of_the_container_keeps_its_status_and_message():
    async with edge() as all_:
        with pytest.raises(GRPCError) as caught:
            await all_.client().method("Fail")(b"", metadata=all_.client().metadata)
        assert (caught.value.status, caught.value.message) == (Status.FAILED_PRECONDITION, "the market is closed")


async def test_messages_go_both_ways_while_the_call_is_open():
    async with edge() as all_, all_.client().open("Chat") as stream:
        for number in range(20):
            await stream.send_message(b"%d" % number)
            assert await stream.recv_message() == b"%d" % number
        await stream.end()
        assert await stream.recv_message() is None


async def test_big_messages_pass_whole_in_both_directions():
    big = bytes(range(256)) * 12_288  # 3 MiB: many windows
    async with edge() as all_:
        assert await all_.client().unary(big) == big


async def test_many_calls_of_several_clients_share_one_connection_to_the_container():
    async with edge() as all_:
        clients = [all_.client() for _ in range(3)]
        replies = await asyncio.gather(*(client.unary(b"%d" % n) for client in clients for n in range(30)))
        assert sorted(replies) == sorted(b"%d" % n for n in range(30) for _ in clients)
        assert len(set(all_.echo.peers)) == 1


async def test_the_container_sees_the_token_without_its_signature_and_the_edge_headers():
    async with edge() as all_:
        token = all_.token()
        await all_.client(token).unary(**{"x-forwarded-for": "203.0.113.9"})
        (seen,) = all_.echo.metadata
        assert seen["authorization"] == f"Bearer {forgery.stripped(token)}"
        assert seen["x-forwarded-for"] == "203.0.113.9,127.0.0.1"
        assert seen["x-forwarded-proto"] == "https"
        version, trace, span, flags = seen["traceparent"].split("-")
        assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
        assert seen["x-cloud-trace-context"] == f"{trace}/{int(span, 16)};o=1"


async def test_the_trace_of_the_caller_goes_on_with_a_new_span():
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with edge() as all_:
        await all_.client().unary(traceparent=f"00-{trace}-00f067aa0ba902b7-01")
        (seen,) = all_.echo.metadata
        assert seen["traceparent"].split("-")[1] == trace
        assert seen["traceparent"].split("-")[2] != "00f067aa0ba902b7"


async def test_the_signature_is_kept_when_the_door_is_told_so():
    async with edge(strip_signature=False) as all_:
        token = all_.token()
        await all_.client(token).unary()
        assert all_.echo.metadata[0]["authorization"] == f"Bearer {token}"


async def test_the_serverless_header_wins_and_alone_is_stripped():
    async with edge() as all_:
        token = all_.token()
        client = all_.client("opaque-of-the-application", **{"x-serverless-authorization": f"bearer {token}"})
        await client.unary()
        (seen,) = all_.echo.metadata
        assert seen["authorization"] == "Bearer opaque-of-the-application"
        assert seen["x-serverless-authorization"] == f"bearer {forgery.stripped(token)}"


async def test_a_client_that_leaves_cancels_the_call_in_the_container():
    async with edge() as all_:
        async with all_.client().open("Hang", begin="1") as stream:
            await stream.send_message(b"")
            await stream.recv_initial_metadata()
            await stream.cancel()
        async with asyncio.timeout(1):
            await all_.echo.cancelled.wait()
        (entry,) = await all_.ended()
        assert entry.reason == "client-left"


async def test_a_client_whose_connection_is_lost_cancels_the_call_in_the_container():
    async with edge() as all_:
        client = all_.client()
        async with client.open("Hang") as stream:
            await stream.send_message(b"")
            await all_.echo.started.wait()
            client.channel.close()
        async with asyncio.timeout(1):
            await all_.echo.cancelled.wait()


async def test_a_slow_client_slows_the_container():
    async with edge() as all_, all_.client().open("Download") as stream:
        await stream.send_message(b"400", end=True)
        await stream.recv_message()
        before = -1
        while before != all_.echo.sent:
            before = all_.echo.sent
            await asyncio.sleep(0.03)
        # At most: one window to the client, one window in the door, one message in the hands of the container.
        assert all_.echo.sent * 16384 <= 3 * 65_535
        count = 1
        while await stream.recv_message() is not None:
            count += 1
        assert count == 400


async def test_slow_calls_do_not_hold_up_their_neighbours():
    async with edge() as all_, contextlib.AsyncExitStack() as stack:
        client = all_.client()
        for _ in range(24):  # together they hold more in the door than the window of the connection to the container
            slow = await stack.enter_async_context(client.open("Download"))
            stack.push_async_callback(slow.cancel)
            await slow.send_message(b"40", end=True)
            await slow.recv_message()
        async with asyncio.timeout(5):
            assert await all_.client().unary(b"q" * 300_000) == b"q" * 300_000


async def test_a_slow_container_slows_the_client():
    async with edge() as all_, all_.client().open("Upload") as stream:
        sent = 0

        async def push():
            nonlocal sent
            for _ in range(300):
                await stream.send_message(b"u" * 16384)
                sent += 1
            await stream.end()

        async with asyncio.TaskGroup() as group:
            group.create_task(push())
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.03)
            assert sent * 16384 <= 3 * 65_535 + 16384
            all_.echo.gate.set()
        assert await stream.recv_message() == b"%d" % (300 * 16384)


async def test_more_than_a_hundred_calls_of_one_client_wait_at_the_client():
    async with edge() as all_:
        client = all_.client()

        async def hang():
            async with client.open("Hang") as stream:
                await stream.send_message(b"")
                return await stream.recv_message()

        calls = [asyncio.create_task(hang()) for _ in range(120)]
        await eventually(lambda: len(all_.echo.metadata) >= 100)
        await asyncio.sleep(0.02)
        assert len(all_.echo.metadata) == 100
        all_.echo.gate.set()
        assert await asyncio.gather(*calls) == [b"after all"] * 120


async def test_the_first_caller_waits_until_the_container_listens():
    async with edge() as all_, container() as (_, port):
        pass
    async with edge() as all_:
        settings = config(all_.google, port, start_seconds=5.0)
        async with FrontDoor(settings) as door:
            client = all_.client(door=door)
            call = asyncio.create_task(client.unary(b"early"))
            await asyncio.sleep(0.05)
            assert not call.done()
            async with container(port):
                assert await call == b"early"


async def test_a_container_that_was_replaced_is_dialled_again():
    async with edge() as all_, container() as (_, port):
        pass
    async with edge() as all_, FrontDoor(config(all_.google, port, start_seconds=5.0)) as door:
        client = all_.client(door=door)
        for message in (b"one", b"two"):
            async with container(port):
                assert await client.unary(message) == message


async def test_leaving_the_door_ends_open_calls_on_both_sides():
    async with edge() as all_:
        async with FrontDoor(config(all_.google, all_.door.config.container_port)) as door:
            client = all_.client(door=door)
            stream = await client.open("Hang").__aenter__()
            await stream.send_message(b"")
            await all_.echo.started.wait()
        async with asyncio.timeout(1):
            await all_.echo.cancelled.wait()
        with pytest.raises((StreamTerminatedError, GRPCError)):
            await stream.recv_message()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"audiences": ()}, "audience"),
        ({"audiences": ("",)}, "audience"),
        ({"container_port": 0}, "port"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout_seconds": 3601}, "timeout"),
        ({"stream_window": 1024}, "window"),
        ({"pending_seconds": -1}, "negative"),
    ],
)
def test_a_door_that_cannot_work_is_refused(wrong, sentence):
    fine = {
        "container_host": "127.0.0.1",
        "container_port": 1,
        "audiences": (AUDIENCE,),
        "invokers": (),
        "certs_url": "http://127.0.0.1:1/",
    }
    with pytest.raises(DoorConfigError, match=sentence):
        DoorConfig(**(fine | wrong))


async def test_a_door_on_a_taken_port_says_so():
    async with edge() as all_:
        taken = config(all_.google, 1, port=all_.door.port)
        with pytest.raises(OSError, match="in use"):
            await FrontDoor(taken).__aenter__()
