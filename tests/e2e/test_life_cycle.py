"""The life of the gateway's instances as Cloud Run gives it to them: what callers see of it, which is very little."""

import asyncio
import os
import signal

import pytest
from gateway_region import ORDER, eventually, gateway_region, paced
from grpclib.const import Status

from agent.client.contract import FinishReason, OperationState
from agent.client.errors import GatewayError
from agent.client.gateway import CallReport
from agent.loop import Again, Agent, Said, TurnEnded


@pytest.fixture
async def at(tmp_path):
    async with gateway_region(tmp_path) as made:
        yield made


async def whole(agent, request, on_text=lambda count: None):
    """All of an answer: how many pieces of text, and why it ended."""
    texts, finish = 0, None
    async for event in agent.chat(request):
        if event.text is not None:
            texts += 1
            on_text(texts)
        finish = event.finish or finish
    return texts, finish.reason


async def test_from_none_the_first_caller_waits_for_a_start_and_succeeds(at):
    pool = at.region.pool(await at.deploy(at.manifest(least=0)))
    assert pool.scale_in() == 1
    await eventually(lambda: not pool.instances, 20)
    agent = await at.agent()
    report = CallReport()
    operation = await agent.execute_tool("place_order", ORDER, report=report)
    assert operation.state is OperationState.SUCCEEDED
    assert report.attempts == 1
    assert [ended.code for ended in pool.ended] == [0]


async def test_scaling_in_lets_calls_end_and_the_next_caller_gets_a_new_instance(at):
    pool = at.region.pool(await at.deploy(at.manifest(least=0)))
    agent = await at.agent()
    await at.slow_orders(300)
    call = asyncio.ensure_future(agent.execute_tool("place_order", ORDER))
    await at.order_under_way()
    (first,) = pool.serving
    first.stop()
    second = await agent.list_models()
    assert second.models
    assert (await call).state is OperationState.SUCCEEDED
    await eventually(lambda: pool.ended, 20)
    assert (pool.ended[0].code, pool.ended[0].killed) == (0, False)
    assert len(await at.orders()) == 1


async def test_a_restart_of_the_waiting_instance_loses_no_stream_and_no_key(at):
    """One ledger on a disk that stays: the same key gets the same answer from the instance that comes after."""
    config = at.add_secret("gateway-config", at.configuration(at.folder / "kept.db"))
    pool = at.region.pool(await at.deploy(at.manifest(config=config)))
    agent = await at.agent(attempts=20)
    before = await agent.execute_tool("place_order", ORDER, key="key-1")
    texts, reason = await whole(
        agent, paced(20, 20), lambda count: pool.restart(pool.serving[0]) if count == 2 else None
    )
    assert (texts, reason) == (20, FinishReason.STOP)
    again = await agent.execute_tool("place_order", ORDER, key="key-1")
    assert (again.id, again.replayed) == (before.id, True)
    assert len(await at.orders()) == 1
    assert [(ended.code, ended.killed) for ended in pool.ended] == [(0, False)]
    assert len({entry.instance for entry in at.region.door.entries}) == 2


async def test_an_instance_that_dies_in_the_middle_of_a_stream_is_told_and_the_same_question_is_answered_then(at):
    pool = at.region.pool(await at.deploy(at.manifest()))
    agent = await at.agent(attempts=20)
    with pytest.raises(GatewayError) as broken:
        await whole(agent, paced(200, 20), lambda _: os.kill(pool.serving[0].pid, signal.SIGKILL))
    assert broken.value.passing
    assert await whole(agent, paced(3, 1)) == (3, FinishReason.STOP)


@pytest.mark.parametrize("in_stream", [True, False])
@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_an_agents_run_over_a_restart_in_the_middle_of_its_stream_comes_to_a_whole_answer(at, how, in_stream):
    """The stream is too long for a drain, and nobody else can give its rest: the agent asks for all of it anew."""
    pieces = 60 if how == "kill" else 240
    config = at.add_secret("gateway-config", at.configuration(at.folder / "kept.db"))
    pool = at.region.pool(await at.deploy(at.manifest(config=config)))
    working = Agent(await at.agent(attempts=20), model="flash", in_stream=in_stream)
    said, again = [], []
    async for event in working.run(f"@pace deltas={pieces} interval_ms=40 size=4\nSay something.", "run-1"):
        if isinstance(event, Again):
            again.append((event.error.status, len(said)))
            said.clear()
        elif isinstance(event, Said):
            said.append(event.text)
            if len(said) == 3 and not again:
                first = pool.serving[0]
                os.kill(first.pid, signal.SIGKILL) if how == "kill" else pool.restart(first)
    assert isinstance(event, TurnEnded)
    assert event.finish.reason is FinishReason.STOP
    assert len(said) == pieces
    ((status, before),) = again
    assert before < pieces
    assert status in (Status.UNAVAILABLE, Status.NOT_FOUND)


async def test_a_restart_under_load_loses_no_call_and_repeats_no_effect(at):
    """SIGTERM while twenty callers order without a pause: every order ends well at the first attempt, and once."""
    config = at.add_secret("gateway-config", at.configuration(at.folder / "kept.db"))
    pool = at.region.pool(await at.deploy(at.manifest(config=config)))
    agent = await at.agent(attempts=50, longest_pause_s=0.2, first_pause_s=0.01)
    calls = 20 * 6

    async def trade(caller):
        for number in range(calls // 20):
            report = CallReport()
            operation = await agent.execute_tool("place_order", ORDER, key=f"key-{caller}-{number}", report=report)
            assert (operation.state, report.attempts) == (OperationState.SUCCEEDED, 1)
            if (caller, number) == (0, 2):
                pool.restart(pool.serving[0])

    async with asyncio.TaskGroup() as group:
        for caller in range(20):
            group.create_task(trade(caller))
    assert len(await at.orders()) == calls
    (ended,) = pool.ended
    assert (ended.code, ended.killed) == (0, False)
    assert ended.seconds < 10


async def test_more_calls_than_one_instance_takes_make_a_second_and_beyond_the_last_they_wait(at):
    pool = at.region.pool(await at.deploy(at.manifest(most=2, concurrency=2)))
    agent = await at.agent()
    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(whole(agent, paced(30, 20))) for _ in range(6)]
        await eventually(lambda: len(pool.serving) == 2, 20)
    assert {stream.result() for stream in streams} == {(30, FinishReason.STOP)}
    assert len(pool.instances) == 2
    assert all(entry.status == 200 for entry in at.region.door.entries)


async def test_a_canary_takes_its_share_and_a_revision_that_cannot_start_takes_none(at):
    old = await at.deploy(at.manifest())
    agent = await at.agent()
    broken = at.add_secret("gateway-config", at.configuration().replace('tenant = "demo"', 'tenantt = "demo"'))
    bad = await at.deploy(at.manifest(config=broken))
    assert at.condition() == "False"
    assert "failed to start and listen" in str(at.status()["conditions"])
    assert "tenantt" in at.region.pool(bad).failed.log
    for _ in range(10):
        await agent.list_models()
    assert at.served().keys() == {old}

    good = at.add_secret("gateway-config", at.configuration() + "\n# another one\n")
    split = f"[{{revisionName: {old}, percent: 70}}, {{latestRevision: true, percent: 30, tag: candidate}}]"
    new = await at.deploy(at.manifest(config=good, traffic=split))
    assert at.condition() == "True"
    before = at.served()
    for _ in range(60):
        await agent.list_models()
    share = at.served() - before
    assert share.keys() == {old, new}
    assert 6 <= share[new] <= 30
