"""A loop of one order is stopped, and only a named person lets it go on."""

from dataclasses import replace

import pytest
from served import served
from whole import LIMITS, MARKET_BUY, RESTING_BUY, agent, refusal, world

from gateway.call.operate import list_latches, reset_latch
from gateway.terms.limits import RepeatLimit
from gateway.terms.operations import State
from gateway.terms.verdict import Kind
from generated.agentic.gateway.v1 import ListLatchesRequest, ResetLatchRequest

LATCHING = replace(LIMITS, repeats=RepeatLimit(executions=3, window_ms=60_000))
PLACE = "agent:trader/place_order"


@pytest.fixture
async def whole(tmp_path):
    agents = [agent(limits=LATCHING), agent("other", limits=LATCHING)]
    async with world() as around, around.gateway(tmp_path, agents) as running:
        yield running


async def looped(whole, *, caller="trader", start=0):
    """The same strategy again and again, with other amounts and prices; what stopped it, and after how many."""
    for number in range(start, start + 50):
        order = RESTING_BUY | {"quantity": str(1 + number), "limit_price": str(185 + number % 4)}
        call = whole.act(order, key=f"loop-{number}", caller=caller)
        if number - start == 3:
            return await refusal(call)
        assert (await call).operation.state is State.SUCCEEDED
    raise AssertionError("nothing stopped it")


def resetting(whole, scope=PLACE, reason="the loop is fixed", caller="oncall"):
    return reset_latch(whole.stations, whole.passage(caller), scope, reason)


async def test_a_loop_is_stopped_until_a_person_resets_it(whole):
    stopped = await looped(whole)
    assert (stopped.kind, stopped.reason, stopped.rules) == (Kind.FORBIDDEN, "limit.latched", ("limit.latched",))
    assert whole.world.posts() == 3
    # Everything of the tool is stopped, whatever it looks like; other agents, cancels and reads go on.
    assert (await refusal(whole.act(MARKET_BUY | {"symbol": "MSFT"}, key="k"))).reason == "limit.latched"
    assert (await whole.act(MARKET_BUY, key="k", caller="other")).operation.state is State.SUCCEEDED
    for order in whole.world.orders()[:3]:
        cancelled = await whole.act({"order_id": order.id}, key=order.id, tool="cancel_order")
        assert cancelled.operation.state is State.SUCCEEDED
    assert (await whole.act({"symbol": "AAPL"}, key="", tool="get_quote")).operation.state is State.SUCCEEDED
    [standing] = await list_latches(whole.stations, whole.passage("oncall"))
    assert standing.scope == PLACE
    assert whole.operations()[standing.operation] == "succeeded"
    await resetting(whole)
    assert await list_latches(whole.stations, whole.passage("oncall")) == ()
    assert (await looped(whole, start=10)).reason == "limit.latched"
    told = [(one["engaged"], one.get("by"), one.get("reason")) for one in whole.told("latch")]
    assert told == [(True, None, None), (False, "oncall", "the loop is fixed"), (True, None, None)]
    await whole.agree()


async def test_a_latch_survives_a_restart(tmp_path):
    async with world() as around:
        agents = [agent(limits=LATCHING)]
        async with around.gateway(tmp_path, agents) as whole:
            await looped(whole)
        async with around.gateway(tmp_path, agents) as whole:
            assert (await refusal(whole.act(key="k"))).reason == "limit.latched"


async def test_an_agent_can_neither_see_nor_reset_a_latch(whole):
    """SEC 15c3-5 (d): what limits an agent is not in its hands."""
    await looped(whole)
    for call in (resetting(whole, caller="trader"), list_latches(whole.stations, whole.passage("trader"))):
        refused = await refusal(call)
        assert (refused.kind, refused.reason) == (Kind.FORBIDDEN, "operator.required")
    assert [one["ask"] for one in whole.told("refusal")][-2:] == ["reset_latch", "list_latches"]
    assert (await refusal(whole.act(key="k"))).reason == "limit.latched"


@pytest.mark.parametrize(
    "scope, reason, told",
    [
        (PLACE, "", "request.malformed"),
        (PLACE, "two\nlines", "request.malformed"),
        ("agent:nobody/place_order", "why", "latch.unknown"),
        ("", "why", "latch.unknown"),
    ],
)
async def test_what_cannot_be_reset_changes_nothing_and_is_on_record(whole, scope, reason, told):
    await looped(whole)
    assert (await refusal(resetting(whole, scope, reason))).reason == told
    assert whole.told("refusal")[-1]["operator"] == "oncall"
    assert (await refusal(whole.act(key="k"))).reason == "limit.latched"


async def test_over_the_wire(whole):
    await looped(whole)
    async with served(whole) as client:
        listed = (await client.call("ListLatches", ListLatchesRequest(), caller="oncall")).reply
        assert [latch.scope for latch in listed.latches] == [PLACE]
        assert listed.latches[0].operation_id
        assert listed.latches[0].latched_unix_us > 0
        request = ResetLatchRequest(scope=PLACE, reason="fixed")
        assert (await client.call("ResetLatch", request, caller="oncall")).reply.record.leaf_hash
        again = await client.call("ResetLatch", request, caller="oncall")
        assert again.refused == ("NOT_FOUND", "latch.unknown", ())
