"""Operators: who is one, who is not, and what a switch stops."""

import pytest
from served import served
from whole import MARKET_BUY, agent, refusal, world

from gateway.call.operate import lift_halt, list_halts, set_halt
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


@pytest.mark.parametrize(
    "scope, near",
    [
        ("tool:plce_order", "tool:place_order"),
        ("tool:PlaceOrder", "tool:place_order"),
        ("venue:papper", "venue:paper"),
        ("tenant:acmee", "tenant:acme"),
        ("agent:tradr", "agent:trader"),
        ("team:trader", "agent:trader"),
        ("agent:Trader", "agent:trader"),
        ("symbol:aapl", "symbol:AAPL"),
        ("symbol:AAPLUSD", None),
        ("model:place_order", "tool:place_order"),
        ("venue:nowhere-near", None),
    ],
)
async def test_a_switch_of_a_scope_that_is_not_there_stops_nothing_and_says_so(whole, scope, near):
    refused = await refusal(halting(whole, scope))
    assert (refused.kind, refused.reason) == (Kind.MALFORMED, "halt.unknown_scope")
    assert (f"did you mean {near}" in refused.sentence) if near else ("did you mean" not in refused.sentence)
    assert "--unknown" in refused.sentence
    assert [violation.field for violation in refused.violations] == ["scope"]
    assert (whole.told("halt"), await list_halts(whole.stations, whole.passage("oncall"))) == ([], ())
    assert [one["refusal"]["reason"] for one in whole.told("refusal")] == ["halt.unknown_scope"]


async def test_what_is_not_known_can_be_halted_all_the_same_and_always_lifted(whole):
    """Another instance may know it; and nothing keeps an operator from a switch in an emergency."""
    passage = whole.passage("oncall")
    switched = await set_halt(whole.stations, passage, "agent:trader-2", "drill", unknown=True)
    assert switched.halt.engaged
    await lift_halt(whole.stations, whole.passage("oncall"), "agent:trader-2", "over")
    [standing] = await list_halts(whole.stations, whole.passage("oncall"))
    assert (standing.halt.scope, standing.halt.engaged) == ("agent:trader-2", False)
    refused = await refusal(set_halt(whole.stations, whole.passage("oncall"), "agent", "drill", unknown=True))
    assert refused.reason == "request.malformed"


async def test_operators_and_agents_are_told_apart_on_the_wire(whole):
    async with served(whole) as client:
        heard = await client.call("SetHalt", SetHaltRequest(scope="agent:trader", reason="drill"), caller="trader")
        assert heard.refused == ("PERMISSION_DENIED", "operator.required", ())
        heard = await client.call("SetHalt", SetHaltRequest(scope="agent:trader", reason="drill"), caller="oncall")
        assert (heard.reply.halt.operator, heard.reply.halt.engaged) == ("oncall", True)
        assert heard.reply.record.leaf_hash
        refused = await refusal(whole.act(MARKET_BUY))
        assert refused.reason == "halt.engaged"
        misspelled = SetHaltRequest(scope="agent:tradre", reason="drill")
        heard = await client.call("SetHalt", misspelled, caller="oncall")
        assert heard.refused == ("INVALID_ARGUMENT", "halt.unknown_scope", ())
        misspelled.unknown = True
        heard = await client.call("SetHalt", misspelled, caller="oncall")
        assert heard.reply.halt.engaged
        heard = await client.call("LiftHalt", LiftHaltRequest(scope="agent:trader", reason="over"), caller="oncall")
        assert not heard.reply.halt.engaged
    await whole.act(MARKET_BUY)
    await whole.agree()
