"""What a repeated idempotency key gets: the stored operation, or the reason why not, and never a second effect."""

import asyncio
from collections import Counter

import pytest
from failing import gated, instead
from whole import MARKET_BUY, RESTING_BUY, agent, budget, eventually, only_trading, refusal, tool_request, world

from gateway.call.act import act
from gateway.identity.registry import Registry
from gateway.terms.operations import State
from gateway.terms.verdict import Kind, RefusedError


@pytest.fixture
async def around():
    async with world() as outside:
        yield outside


@pytest.fixture
async def whole(around, tmp_path):
    async with around.gateway(tmp_path, [agent(budgets=(budget("calls", 100),)), agent("other")]) as running:
        yield running


async def test_the_same_key_and_bytes_get_the_stored_operation(whole):
    first = await whole.act()
    passage = whole.passage()
    again = await act(whole.stations, passage, tool_request())
    assert (again.operation, again.replayed) == (first.operation, True)
    assert passage.reply_headers == {"gateway-operation": first.operation.id}
    assert whole.world.posts() == 1
    assert whole.spent("calls") == 1
    record = whole.told("replay")[-1]
    assert (record["operation"], record["state"], record["rules"]) == (
        first.operation.id,
        "succeeded",
        ["base.inquire"],
    )
    assert record["request"] == passage.request
    await whole.agree()


async def test_a_failed_operation_is_replayed_as_failed(whole):
    whole.world.exchange_fails("status_before", status=403)
    first = await whole.act()
    again = await whole.act()
    assert (again.operation, again.replayed) == (first.operation, True)
    assert again.operation.state is State.FAILED
    assert whole.world.posts() == 1


async def test_an_unknown_operation_is_replayed_as_unknown_and_never_sent_again(whole):
    whole.world.lose_replies()
    first = await whole.act(RESTING_BUY)
    whole.world.exchange.faults.clear()
    again = await whole.act(RESTING_BUY)
    assert (again.operation, again.replayed) == (first.operation, True)
    assert again.operation.state is State.UNKNOWN
    assert whole.world.posts() == 1
    assert whole.holding("calls") == 1


@pytest.mark.parametrize(
    "other",
    [
        MARKET_BUY | {"quantity": "3"},
        '{"symbol":"AAPL","side":"buy","type":"market","quantity":"2","time_in_force":"day"} ',
    ],
    ids=["another quantity", "another space"],
)
async def test_the_same_key_with_other_bytes_is_refused(whole, other):
    first = await whole.act()
    refused = await refusal(whole.act(other))
    assert (refused.kind, refused.reason) == (Kind.KEY_REUSED, "operation.key_reused")
    assert refused.operation_id == first.operation.id
    assert whole.told("refusal")[-1]["refusal"]["operation"] == first.operation.id
    assert whole.world.posts() == 1


async def test_a_key_whose_call_is_running_is_told_so_with_a_hint(around, tmp_path):
    gate = asyncio.Event()
    async with around.gateway(tmp_path, wrapped=gated(gate)) as whole:
        running = asyncio.get_running_loop().create_task(whole.act())
        await eventually(lambda: "dispatched" in whole.operations().values())
        refused = await refusal(whole.act())
        assert (refused.kind, refused.reason) == (Kind.IN_PROGRESS, "operation.in_progress")
        assert refused.retry_after_ms > 0
        gate.set()
        assert refused.operation_id == (await running).operation.id
        assert around.posts() == 1


async def test_fifty_identical_calls_at_once_are_one_order(whole):
    async def one(_):
        try:
            answer = await whole.act()
        except RefusedError as error:
            return error.refusal.kind
        return "replayed" if answer.replayed else "first"

    found = Counter(await asyncio.gather(*map(one, range(50))))
    assert found["first"] == 1
    assert found["replayed"] + found[Kind.IN_PROGRESS] == 49
    assert whole.world.posts() == 1
    assert whole.spent("calls") == 1
    await whole.agree()
    assert len(whole.told("intent")) == 1


def overlooking(stations):
    """Stations whose first look finds nothing: what was there is only seen at admission."""
    return instead("ledger", find=finds_nothing)(stations)


async def finds_nothing(*_):
    return None


async def test_a_race_that_the_first_look_does_not_see_is_decided_by_the_ledger(whole):
    """As when two calls look at the same time, and one is settled before the other is admitted."""
    first = await whole.act()
    again = await act(overlooking(whole.stations), whole.passage(), tool_request())
    assert (again.operation, again.replayed) == (first.operation, True)
    assert len(whole.told("replay")) == 1
    assert whole.world.posts() == 1
    await whole.agree()


# A replay needs a permit of its own


async def test_an_agent_whose_tool_was_withdrawn_gets_no_stored_answer(whole):
    await whole.act()
    whole.identity.register(Registry([agent(tools=frozenset({"get_quote"}))]))
    refused = await refusal(whole.act())
    assert (refused.kind, refused.reason) == (Kind.NOT_FOUND, "tool.unknown")
    assert whole.told("replay") == []


async def test_an_agent_that_is_no_longer_registered_gets_no_stored_answer(whole):
    await whole.act()
    whole.identity.register(Registry([agent("other")]))
    assert (await refusal(whole.act())).reason == "identity.unregistered"


@pytest.mark.parametrize("wrapped", [None, overlooking], ids=["found at once", "found at admission"])
async def test_rules_that_no_longer_let_operations_be_read_refuse_the_replay(around, tmp_path, wrapped):
    async with around.gateway(tmp_path, policies=only_trading(tmp_path), wrapped=wrapped) as whole:
        await whole.act()
        refused = await refusal(whole.act())
        assert (refused.kind, refused.reason) == (Kind.FORBIDDEN, "policy.no_permit")
        assert [record["refusal"]["reason"] for record in whole.told("refusal")] == ["policy.no_permit"]
        assert whole.told("replay") == []


async def test_the_same_key_of_another_caller_is_another_call(whole):
    first = await whole.act()
    others = await whole.act(caller="other")
    assert others.replayed is False
    assert others.operation.id != first.operation.id
    assert whole.world.posts() == 2
    assert len({order.client_order_id for order in whole.world.orders()}) == 2


async def test_the_same_key_for_another_tool_is_another_call(whole):
    await whole.act(key="k")
    quote = await whole.act({"symbol": "AAPL"}, key="k", tool="get_quote")
    assert quote.replayed is False
    assert quote.operation.state is State.SUCCEEDED


async def test_a_read_without_a_key_is_never_a_repeat(whole):
    first = await whole.act({"symbol": "AAPL"}, key="", tool="get_quote")
    again = await whole.act({"symbol": "AAPL"}, key="", tool="get_quote")
    assert first.operation.id != again.operation.id
    assert not again.replayed


async def test_a_replay_survives_a_restart(around, tmp_path):
    async with around.gateway(tmp_path) as whole:
        first = await whole.act()
    async with around.gateway(tmp_path) as whole:
        again = await whole.act()
        assert (again.operation, again.replayed) == (first.operation, True)
    assert around.posts() == 1
