"""Several instances on one ledger in PostgreSQL, as Cloud Run starts and ends them: keys hold over all of them."""

import asyncio

import grpc.aio
import pytest
from gateway_region import ORDER, eventually, gateway_region, paced
from real_postgres import told

from agent.client.contract import FinishReason, OperationState
from agent.client.errors import GatewayError
from generated.grpc.health.v1 import HealthCheckRequest
from generated.grpc.health.v1.codec import CODECS


@pytest.fixture
async def at(tmp_path, postgres_url):
    async with gateway_region(tmp_path, database_url=postgres_url) as made:
        yield made


async def heard(agent):
    texts, finish = 0, None
    async for event in agent.chat(paced(150, 20)):
        texts += event.text is not None
        finish = event.finish or finish
    return texts, finish.reason


async def by_key(agent, key):
    """The operation of a key; whoever hears that another is at it asks again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await agent.execute_tool("place_order", ORDER, key=key)
            except GatewayError as error:
                if error.reason != "operation.in_progress":
                    raise
                await asyncio.sleep(0.02)


async def test_a_key_holds_over_three_instances_and_over_the_end_of_one(at):
    pool = at.region.pool(await at.deploy(at.manifest(most=3, concurrency=8)))
    agent = await at.agent(attempts=50, first_pause_s=0.01, longest_pause_s=0.2)
    streams = [asyncio.ensure_future(heard(agent)) for _ in range(18)]
    await eventually(lambda: len(pool.serving) == 3, 40)
    # Five callers for each key, at whichever instance has a place, while one of the instances is told to end.
    keys = [f"key-{number}" for number in range(6)]
    async with asyncio.TaskGroup() as group:
        calls = [(key, group.create_task(by_key(agent, key))) for key in keys * 5]
        pool.restart(pool.serving[0])
    answers = {key: {call.result().id for one, call in calls if one == key} for key in keys}
    assert {len(ids) for ids in answers.values()} == {1}
    assert {call.result().state for _, call in calls} == {OperationState.SUCCEEDED}
    assert len(await at.orders()) == len(keys)
    assert set(await asyncio.gather(*streams)) == {(150, FinishReason.STOP)}
    assert len({entry.instance for entry in at.region.door.entries}) >= 3
    await eventually(lambda: pool.ended)
    assert {(ended.code, ended.killed) for ended in pool.ended} == {(0, False)}


async def test_a_new_revision_knows_the_keys_of_the_one_before(at):
    await at.deploy(at.manifest())
    agent = await at.agent()
    before = await agent.execute_tool("place_order", ORDER, key="key-1")
    config = at.add_secret("gateway-config", at.configuration() + "\n# the next one\n")
    await at.deploy(at.manifest(config=config))
    again = await agent.execute_tool("place_order", ORDER, key="key-1")
    assert (again.id, again.replayed) == (before.id, True)
    assert len(at.served()) == 2


async def test_while_the_database_is_gone_effects_are_refused_and_health_says_so(at, postgres_server):
    pool = at.region.pool(await at.deploy(at.manifest()))
    agent = await at.agent(attempts=1)
    assert (await agent.execute_tool("place_order", ORDER, key="key-1")).state is OperationState.SUCCEEDED
    name = at.database_url.rpartition("/")[2]
    room = pool.serving[0].room
    async with grpc.aio.insecure_channel(f"{room.host}:{room.port}") as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=CODECS[HealthCheckRequest].encode,
            response_deserializer=lambda data: data,
        )(HealthCheckRequest(), timeout=60)
        assert await watch.read() == b"\x08\x01"
        await told(postgres_server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await told(postgres_server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        with pytest.raises(GatewayError) as refused:
            await agent.execute_tool("place_order", ORDER, key="key-2")
        assert refused.value.passing
        assert len(await at.orders()) == 1
        assert await watch.read() == b"\x08\x02"
        await told(postgres_server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert await watch.read() == b"\x08\x01"
        watch.cancel()
    assert (await agent.execute_tool("place_order", ORDER, key="key-2")).state is OperationState.SUCCEEDED
    assert len(await at.orders()) == 2
    assert not pool.ended  # its liveness probe found nothing to restart
