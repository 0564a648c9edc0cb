"""A caller that leaves, at every single await point: one intent, one outcome, no open hold, no open stream.

Invariants 5 to 7. The exchange, the model upstream, the ledger and the record are real, and must tell one story.
"""

import asyncio
from contextlib import aclosing

import pytest
from stepping import at_every_step, cut_when
from whole import RESTING_BUY, agent, budget, world

from gateway.call.converse import Closed, Spent
from gateway.terms.operations import State

BUDGETS = (
    budget("calls", 1_000),
    budget("tokens", 10_000_000),
    budget("cost_micro_usd", 10**12),
    budget("notional_micro_usd", 10**12),
    budget("calls", 1_000, scope="run", window="total"),
)
BOTH_WAYS = pytest.mark.parametrize("answered", [False, True], ids=["while waiting", "as the answer comes"])


@pytest.fixture
async def whole(tmp_path):
    async with world() as around, around.gateway(tmp_path, [agent(budgets=BUDGETS)]) as running:
        yield running


def nothing_held(whole):
    return all(held == 0 for held, _ in whole.held().values())


async def listened(whole, text):
    """What the wire does with a stream."""
    async with aclosing(whole.stream(text)) as told:
        return [event async for event in told]


@BOTH_WAYS
async def test_an_order_that_is_left_at_any_await_happens_wholly_or_not_at_all(whole, answered):
    def order(step):
        whole.world.clock.pass_s(1)  # so that no quote is kept: the facts are awaited every time
        return whole.act(RESTING_BUY, key=f"k-{step}")

    async def check(step):
        await whole.agree()
        assert nothing_held(whole)
        again = await whole.act(RESTING_BUY, key=f"k-{step}")
        assert again.operation.state is State.SUCCEEDED
        assert len(whole.world.orders()) == step

    steps = await at_every_step(order, check, answered=answered)
    assert steps >= 2  # facts and effect
    assert whole.world.posts() == steps + 1
    assert len(whole.told("intent")) == len(whole.told("outcome")) == steps + 1


@BOTH_WAYS
async def test_a_replay_that_is_left_at_any_await_changes_nothing(whole, answered):
    await whole.act()
    before = whole.held()

    async def check(_):
        await whole.agree()
        assert whole.held() == before

    steps = await at_every_step(lambda _: whole.act(), check, answered=answered)
    assert steps > 0
    assert whole.world.posts() == 1


@BOTH_WAYS
async def test_a_stream_that_is_left_at_any_await_is_settled_and_its_upstream_closed(whole, answered):
    prompt = "@pace deltas=4 interval_ms=10 size=3\nSay something."

    async def check(_):
        await whole.agree()
        assert nothing_held(whole)

    steps = await at_every_step(lambda _: listened(whole, prompt), check, answered=answered)
    assert steps >= 6  # admission, head, each delta, settling
    states = list(whole.operations().values())
    assert "dispatched" not in states
    assert states.count("succeeded") >= 1
    reasons = {record["failure"]["reason"] for record in whole.told("outcome") if record["state"] == "failed"}
    assert reasons == {"caller.left", "call.cut"}
    assert whole.world.vertex.journal.streams_aborted > 0


@BOTH_WAYS
async def test_a_count_that_is_left_at_any_await_gives_its_call_back(whole, answered):
    async def check(_):
        await whole.agree()
        assert nothing_held(whole)

    steps = await at_every_step(lambda _: whole.count(), check, answered=answered)
    assert steps > 3
    assert len(whole.log.named("call.settled")) == len(whole.operations())
    succeeded = list(whole.operations().values()).count("succeeded")
    assert whole.spent("calls") == succeeded


async def test_a_stream_that_is_closed_at_any_event_pays_what_was_received(whole):
    prompt = "@pace deltas=5 interval_ms=0 size=4\nSay something."
    events = len(await listened(whole, prompt))
    for heard in range(1, events + 1):
        told = whole.stream(prompt)
        for _ in range(heard):
            last = await anext(told)
        await told.aclose()
        await whole.agree()
        outcome = whole.told("outcome")[-1]
        whole_answer = isinstance(last, Spent | Closed)
        assert outcome["state"] == ("succeeded" if whole_answer else "failed")
        assert outcome["charges"]["tokens"] > 0
    assert nothing_held(whole)


async def test_a_stream_that_nobody_begins_costs_nothing(whole):
    await whole.stream().aclose()
    assert whole.operations() == {}


async def test_a_caller_that_leaves_while_its_stream_is_admitted_leaves_no_hold(whole):
    """The commit is under way when the caller goes: it becomes durable, and is undone at once."""
    assert await cut_when(listened(whole, "hello"), lambda _: whole.effects.running)
    await whole.agree()
    assert [record["failure"]["reason"] for record in whole.told("outcome")] == ["caller.left"]
    assert whole.held() == {}
    assert whole.world.vertex.journal.streams_total == 0


async def test_a_refusal_is_recorded_though_its_caller_left_while_the_ledger_decided(tmp_path):
    """The ledger says no to nobody: the record says so all the same."""
    poor = agent(budgets=(budget("tokens", 1), budget("notional_micro_usd", 1)))
    async with world() as around, around.gateway(tmp_path, [poor]) as whole:
        for make in (lambda: whole.act(RESTING_BUY), lambda: listened(whole, "hello")):
            before = len(whole.told("refusal"))
            assert await cut_when(make(), lambda _: whole.effects.running)
            await whole.agree()
            assert len(whole.told("refusal")) == before + 1
        assert [one["refusal"]["kind"] for one in whole.told("refusal")] == ["exhausted", "exhausted"]


async def test_a_second_cancellation_during_the_settling_changes_nothing(whole):
    """The wire cancels once; whoever else does, cannot cut the outcome off."""
    for step in range(1, 40):
        was_cut = False

        async def twice():
            nonlocal was_cut
            async with aclosing(whole.stream("@pace deltas=2 interval_ms=1 size=3\nhello")) as told:
                async for _ in told:
                    was_cut = True
                    task = asyncio.current_task()
                    task.cancel()
                    asyncio.get_running_loop().call_later(step * 0.0001, task.cancel)  # noqa: B023

        await asyncio.wait((asyncio.get_running_loop().create_task(twice()),))
        assert was_cut
    await whole.agree()
    assert nothing_held(whole)


async def test_an_order_under_way_is_finished_for_a_caller_that_left(whole):
    assert await cut_when(whole.act(), lambda _: whole.effects.running)
    await whole.agree()
    again = await whole.act()
    assert again.replayed
    assert again.operation.state is State.SUCCEEDED
    assert whole.world.posts() == 1
