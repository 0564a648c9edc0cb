"""A stream that waits for an operation: told at once in this process, soon for another's change, to nobody else."""

import asyncio
from contextlib import aclosing

import pytest
from failing import gated
from served import served
from whole import MARKET_BUY, RESTING_BUY, agent, eventually, refusal, world

from gateway.call import inquire
from gateway.call.inquire import watch_operation
from gateway.terms.operations import State
from generated.agentic.gateway.v1 import OperationState, WatchOperationRequest


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


def watching(whole, operation, caller="trader"):
    return watch_operation(whole.stations, whole.passage(caller), operation)


async def collected(stream):
    async with aclosing(stream) as told:
        return [operation.state async for operation in told]


async def test_a_final_operation_is_told_once(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        operation = (await whole.act(MARKET_BUY)).operation
        assert await collected(watching(whole, operation.id)) == [State.SUCCEEDED]


async def test_every_change_is_told_at_once(around, tmp_path, monkeypatch):
    """The ledger is asked again so rarely here that only being told explains it."""
    monkeypatch.setattr(inquire, "WATCH_FIRST_S", 3_600)
    gate = asyncio.Event()
    async with around.gateway(tmp_path, wrapped=gated(gate)) as whole:
        around.lose_replies()
        placing = asyncio.ensure_future(whole.act(RESTING_BUY))
        await eventually(whole.operations)
        (operation,) = whole.operations()
        told = []
        async with asyncio.timeout(5), aclosing(watching(whole, operation)) as changes:
            async for one in changes:
                told.append(one.state)
                if one.state is State.DISPATCHED:
                    gate.set()
                if one.state is State.UNKNOWN:
                    await placing
                    around.exchange.faults.clear()
                    # In a task of its own: the watcher must already wait when it is told.
                    sweeping = asyncio.ensure_future(whole.swept(seconds=2))
        await sweeping
        assert told == [State.DISPATCHED, State.UNKNOWN, State.SUCCEEDED]
        assert whole.stations.changes._waiting == {}


async def test_a_change_by_another_instance_is_found(around, tmp_path, monkeypatch):
    monkeypatch.setattr(inquire, "WATCH_FIRST_S", 0.001)
    async with around.gateway(tmp_path) as whole:
        around.lose_replies()
        operation = (await whole.act(RESTING_BUY)).operation
        around.exchange.faults.clear()
        watched = asyncio.ensure_future(collected(watching(whole, operation.id)))
        await eventually(lambda: whole.stations.changes._waiting)
        whole.world.clock.pass_s(2)
        (taken,) = await whole.taken(60_000)
        found = await whole.stations.tools.look(taken)
        await whole.ledger.conclude(taken, found, whole.records.finding(taken, found), None)
        states = await watched
        assert (states[0], states[-1]) == (State.UNKNOWN, State.SUCCEEDED)
        assert set(states[1:-1]) <= {State.RECONCILING}


async def test_nobody_watches_what_is_not_theirs(around, tmp_path):
    async with around.gateway(tmp_path, [agent(), agent("other")]) as whole:
        operation = (await whole.act(MARKET_BUY)).operation
        assert (await refusal(collected(watching(whole, operation.id, "other")))).reason == "operation.unknown"
        assert (await refusal(collected(watching(whole, "op-none")))).reason == "operation.unknown"
        assert (await refusal(collected(watching(whole, "no id")))).reason == "request.malformed"


async def test_on_the_wire_it_ends_with_the_operation_or_with_the_deadline(around, tmp_path):
    async with around.gateway(tmp_path) as whole, served(whole) as client:
        around.lose_replies()
        operation = (await whole.act(RESTING_BUY)).operation
        request = WatchOperationRequest(operation_id=operation.id)
        heard = await client.call("WatchOperation", request, timeout_s=0.2)
        assert heard.error.status.name == "DEADLINE_EXCEEDED"
        assert [one.state for one in heard.replies] == [OperationState.UNKNOWN]
        around.exchange.faults.clear()
        await whole.swept(seconds=2)
        heard = await client.call("WatchOperation", request)
        assert heard.error is None
        assert [one.state for one in heard.replies] == [OperationState.SUCCEEDED]
        await eventually(lambda: whole.stations.changes._waiting == {})


async def test_a_watch_without_a_deadline_has_an_end(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        around.lose_replies()
        operation = (await whole.act(RESTING_BUY)).operation
        async with aclosing(watching(whole, operation.id)) as changes:
            assert (await anext(changes)).state is State.UNKNOWN
            around.clock.pass_s(3_601)
            with pytest.raises(StopAsyncIteration):
                await anext(changes)
