import asyncio
import contextlib

import pytest
from agent_parts import StandIn, patience, question, refusal, standing, succeeded, talking, text, two_words
from grpclib.const import Status

from agent.client import GatewayClient, GatewayError
from agent.client.http2 import STREAMS_MAX


@contextlib.asynccontextmanager
async def many(client, count):
    """So many calls that the gateway holds open; yields their tasks."""

    async def read():
        return [event.sequence async for event in client.chat(question())]

    async with asyncio.TaskGroup() as group:
        yield [group.create_task(read()) for _ in range(count)]


def holding():
    """A stand-in whose streams end together."""
    service = StandIn()

    async def held(stream):
        await service.gate.wait()
        for event in (text(1, "word"), b"\x08\x02\x32\x02\x08\x01"):
            await stream.send_message(event)

    service.chat = held
    return service


async def until_running(service, count):
    async with asyncio.timeout(10):
        while service.running < count:  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.005)


async def test_calls_spread_over_the_connections():
    service = holding()
    async with talking(service, connections=4, timeout_s=20.0) as (gateway, client):
        async with many(client, 40) as tasks:
            await until_running(service, 40)
            assert gateway.connected == 4
            assert len(service.peers) == 4
            assert [line.running for line in client._pool._lines] == [10, 10, 10, 10]
            service.gate.set()
        assert all(task.result() == [1, 2] for task in tasks)
        assert [line.running for line in client._pool._lines] == [0, 0, 0, 0]


async def test_more_calls_than_places_wait_and_none_is_lost():
    service = holding()
    async with talking(service, connections=2, timeout_s=20.0) as (gateway, client):
        async with many(client, 2 * STREAMS_MAX + 50) as tasks:
            await until_running(service, 2 * STREAMS_MAX)
            await asyncio.sleep(0.05)
            assert service.running == 2 * STREAMS_MAX  # the others wait, and no connection has over 100 streams
            service.gate.set()
        assert all(task.result() == [1, 2] for task in tasks)
        assert service.most_running == 2 * STREAMS_MAX
        assert gateway.connected == 2
        assert client._pool._places._value == 2 * STREAMS_MAX


async def test_many_first_calls_make_one_connection_each_line_not_one_each_call():
    async with talking(connections=3) as (gateway, client):
        await asyncio.gather(*(client.list_tools() for _ in range(60)))
        assert gateway.connected == 3


async def test_who_waits_for_a_place_is_bound_by_its_deadline():
    service = holding()
    async with talking(service, connections=1, timeout_s=20.0) as (_, client), many(client, STREAMS_MAX):
        await until_running(service, STREAMS_MAX)
        with pytest.raises(GatewayError, match="It was not sent"):
            await client.execute_tool("place_order", {}, timeout_s=0.02)
        service.gate.set()


async def ends_well(service, client):
    async for _ in client.chat(question()):
        pass


async def is_left(service, client):
    async with contextlib.aclosing(client.chat(question())) as events:
        async for _ in events:
            break


async def is_refused(service, client):
    service.chat = refusal(Status.PERMISSION_DENIED, "no", "no")
    with pytest.raises(GatewayError):
        await ends_well(service, client)


async def is_too_late(service, client):
    service.chat = service.hang
    with pytest.raises(GatewayError):
        async for _ in client.chat(question(), timeout_s=0.01):
            pass


async def is_cancelled(service, client):
    service.chat = service.hang
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await ends_well(service, client)


async def cannot_be_read(service, client):
    service.chat = lambda stream: stream.send_message(b"\xff")
    with pytest.raises(GatewayError):
        await ends_well(service, client)


@pytest.mark.parametrize("ending", [ends_well, is_left, is_refused, is_too_late, is_cancelled, cannot_be_read])
async def test_a_place_is_free_again_however_a_call_ends(ending):
    async with talking(attempts=1) as (gateway, client):
        for _ in range(3):
            await ending(gateway.service, client)
        assert client._pool._places._value == STREAMS_MAX
        assert [line.running for line in client._pool._lines] == [0]
        assert not client._pool._lines[0]._usable().processor.replies


async def test_no_place_is_held_during_a_pause():
    free = []

    async def sleep(seconds):
        free.append(client._pool._places._value)

    async with talking(pauses=sleep) as (gateway, client):
        busy = refusal(Status.UNAVAILABLE, "wire.busy", "busy")
        gateway.service.execute = [busy, succeeded()]
        await client.execute_tool("place_order", {})
        gateway.service.chat = [busy, two_words]
        async for _ in client.chat(question()):
            pass
    assert free == [STREAMS_MAX, STREAMS_MAX]


async def test_a_place_is_free_again_when_nobody_listens():
    async with standing() as gateway:
        url = gateway.url
    async with GatewayClient(url, connections=1, patience=patience(attempts=2)) as client:
        with pytest.raises(GatewayError):
            await client.list_tools()
        assert client._pool._places._value == STREAMS_MAX


async def test_a_hundred_callers_of_a_dead_gateway_dial_once_together():
    dialled = 0

    async def accept(reader, writer):
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with GatewayClient(f"http://127.0.0.1:{port}", connections=1, patience=patience(attempts=1)) as client:
        line = client._pool._lines[0]
        dial = line._dial

        async def counted():
            nonlocal dialled
            dialled += 1
            return await dial()

        line._dial = counted
        outcomes = await asyncio.gather(*(client.list_tools() for _ in range(80)), return_exceptions=True)
    assert all(isinstance(outcome, GatewayError) for outcome in outcomes)
    assert dialled == 1
