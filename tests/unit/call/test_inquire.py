"""Questions about the gateway: each caller sees its own, and what it may not see looks like what is not there."""

import pytest
from whole import agent, only_trading, refusal, world

from gateway.call import inquire
from gateway.terms.verdict import Kind


@pytest.fixture
async def whole(tmp_path):
    agents = [
        agent(),
        agent("reader", role="reader", tools=frozenset({"get_quote", "place_order"}), models=frozenset()),
        agent("stranger", role="nothing"),
    ]
    async with world() as around, around.gateway(tmp_path, agents) as running:
        yield running


async def get_operation(whole, named, caller="trader"):
    return await inquire.get_operation(whole.stations, whole.passage(caller), named)


async def test_only_what_was_granted_is_offered(whole):
    tools = await inquire.list_tools(whole.stations, whole.passage("reader"))
    assert [tool.name for tool in tools] == ["get_quote", "place_order"]
    assert await inquire.list_models(whole.stations, whole.passage("reader")) == ()
    assert [model.name for model in await inquire.list_models(whole.stations, whole.passage())] == ["flash"]


async def test_reading_leaves_no_record(whole):
    await inquire.list_tools(whole.stations, whole.passage())
    assert whole.told() == []


async def test_a_caller_gets_its_own_operations_of_every_kind(whole):
    order = (await whole.act()).operation
    stream = (await whole.converse())[-1].operation
    assert await get_operation(whole, order.id) == order
    assert await get_operation(whole, stream.id) == stream


async def test_another_callers_operation_is_as_absent_as_none_and_the_attempt_is_on_record(whole):
    """Attack row 2."""
    order = (await whole.act()).operation
    theirs = await refusal(get_operation(whole, order.id, "reader"))
    nobodys = await refusal(get_operation(whole, "op-" + "a" * 26, "reader"))
    assert theirs == nobodys
    assert theirs.kind is Kind.NOT_FOUND
    records = whole.told("refusal")
    assert [(record["agent"], record["about"]) for record in records] == [
        ("reader", order.id),
        ("reader", "op-" + "a" * 26),
    ]


async def test_questions_are_for_the_rules_too_and_their_refusals_are_on_record(tmp_path):
    async with world() as around, around.gateway(tmp_path, policies=only_trading(tmp_path)) as whole:
        order = (await whole.act()).operation
        for asked in (
            get_operation(whole, order.id),
            inquire.list_tools(whole.stations, whole.passage()),
            inquire.list_models(whole.stations, whole.passage()),
        ):
            assert (await refusal(asked)).reason == "policy.no_permit"
        assert [record["ask"] for record in whole.told("refusal")] == ["get_operation", "list_tools", "list_models"]


@pytest.mark.parametrize("named", ["", " ", "op-1\n", "op-é", "op-" + "a" * 100_000, "'; DROP TABLE operations; --"])
async def test_what_cannot_be_an_id_is_refused_and_its_beginning_recorded(whole, named):
    refused = await refusal(get_operation(whole, named))
    assert (refused.kind, refused.violations[0].field) == (Kind.MALFORMED, "operation_id")
    assert not named.strip() or named not in refused.sentence
    (record,) = whole.told("refusal")
    assert (record["ask"], record["about"]) == ("get_operation", named[:128])
