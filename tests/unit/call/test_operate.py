"""Operators: who is one, who is not, and what a switch stops."""

import pytest
from served import served
from whole import MARKET_BUY, agent, refusal, world

from gateway.call.operate import lift_halt, set_halt
from gateway.terms.verdict import Kind
from generated.agentic.gateway.v1 import LiftHaltRequest, SetHaltRequest


@pytest.fixture
async def whole(tmp_path):
    async with world() as around, around.gateway(tmp_path, [agent(), agent("other", team="other")]) as running:
        yield running


def halting(whole, scope="all", reason="the market is closed", caller="oncall"):
    return set_halt(whole.stations, whole.passage(caller), scope, reason)


@pytest.mark.parametrize("scope", ["all", "tenant:acme", "team:desk", "agent:trader", "tool:place_order"])
async def test_a_switch_stops_its_scope_until_it_is_lifted(whole, scope):
    set_ = await halting(whole, scope)
    assert (set_.halt.scope, set_.halt.engaged, set_.halt.by) == (scope, True, "oncall")
    refused = await refusal(whole.act())
    assert (refused.kind, refused.reason) == (Kind.FORBIDDEN, "halt.engaged")
    assert "the market is closed" in refused.sentence
    await lift_halt(whole.stations, whole.passage("oncall"), scope, "it opened")
    assert (await whole.act(key="k-2")).operation.state.final
    assert [(one["scope"], one["engaged"], one["reason"], one["by"]) for one in whole.told("halt")] == [
        (scope, True, "the market is closed", "oncall"),
        (scope, False, "it opened", "oncall"),
    ]
    assert whole.world.posts() == 1


async def test_an_agent_is_no_operator_and_the_attempt_is_on_record(whole):
    for call in (halting(whole, caller="trader"), lift_halt(whole.stations, whole.passage("trader"), "all", "please")):
        refused = await refusal(call)
        assert (refused.kind, refused.reason) == (Kind.FORBIDDEN, "operator.required")
    first, second = whole.told("refusal")
    assert (first["agent"], first["ask"], first["about"]) == ("trader", "set_halt", "all")
    assert (second["ask"], second["refusal"]["reason"]) == ("lift_halt", "operator.required")
    assert whole.told("halt") == []


async def test_an_operator_is_no_agent_and_the_attempt_is_on_record(whole):
    assert (await refusal(whole.act(caller="oncall"))).reason == "operator.only"
    assert (await refusal(whole.converse(caller="oncall"))).reason == "operator.only"
    assert (await refusal(whole.count(caller="oncall"))).reason == "operator.only"
    told = whole.told("refusal")
    assert [(one["operator"], one["ask"], one["about"]) for one in told] == [
        ("oncall", "execute_tool", "place_order"),
        ("oncall", "chat", "flash"),
        ("oncall", "count_tokens", "flash"),
    ]
    assert whole.world.posts() == 0


async def test_nobody_else_is_let_in(whole):
    assert (await refusal(halting(whole, caller="stranger"))).reason == "identity.unregistered"
    assert whole.told() == []


@pytest.mark.parametrize(
    "scope, reason, field",
    [
        ("", "why", "scope"),
        ("everything", "why", "scope"),
        ("agent:", "why", "scope"),
        ("agent:trader\n", "why", "scope"),
        ("Agent:trader", "why", "scope"),
        ("account:desk", "why", "scope"),
        ("agent:" + "a" * 129, "why", "scope"),
        ("all", "", "reason"),
        ("all", "   ", "reason"),
        ("all", "two\nlines", "reason"),
        ("all", "\u202eevil", "reason"),
        ("all", "a" * 501, "reason"),
    ],
)
async def test_what_has_not_its_form_changes_nothing_and_is_on_record(whole, scope, reason, field):
    refused = await refusal(halting(whole, scope, reason))
    assert refused.kind is Kind.MALFORMED
    assert [violation.field for violation in refused.violations] == [field]
    assert [one["operator"] for one in whole.told("refusal")] == ["oncall"]
    assert (await whole.act()).operation.state.final


async def test_operators_and_agents_are_told_apart_on_the_wire(whole):
    async with served(whole) as client:
        heard = await client.call("SetHalt", SetHaltRequest(scope="agent:trader", reason="drill"), caller="trader")
        assert heard.refused == ("PERMISSION_DENIED", "operator.required", ())
        heard = await client.call("SetHalt", SetHaltRequest(scope="agent:trader", reason="drill"), caller="oncall")
        assert (heard.reply.halt.operator, heard.reply.halt.engaged) == ("oncall", True)
        assert heard.reply.record.leaf_hash
        refused = await refusal(whole.act(MARKET_BUY))
        assert refused.reason == "halt.engaged"
        heard = await client.call("LiftHalt", LiftHaltRequest(scope="agent:trader", reason="over"), caller="oncall")
        assert not heard.reply.halt.engaged
    await whole.act(MARKET_BUY)
    await whole.agree()
