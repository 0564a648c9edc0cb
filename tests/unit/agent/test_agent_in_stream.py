"""An agent whose tools the gateway runs: what it asks for, what its users hear, and when it gives up."""

import json

import pytest
from agent_parts import finish, talking, text, tool_call

from agent.client.contract import ChatEvent, Decision, FinishReason, Operation, OperationState, Resumable, Verdict
from agent.lines import line
from agent.loop import Agent, Asked, Ran, Said, TurnEnded, TurnsExceededError
from agent.settings import SettingsError, read_settings
from generated.agentic.gateway.v1 import ToolRefusal, ToolRun, TurnEnd, Usage

ENVIRONMENT = {"GATEWAY_URL": "https://gateway.run.app", "AGENT_MODEL": "flash"}


def ran(sequence, call_id, **step):
    return ChatEvent(sequence=sequence, tool_run=ToolRun(call_id=call_id, tool="place_order", turn=1, place=1, **step))


def one_stream(last):
    async def play(stream):
        outcome = Operation(id="op-2", state=OperationState.SUCCEEDED, result_json='{"filled":"5"}')
        for event in (
            tool_call(1, "place_order", call_id="c-1"),
            tool_call(2, "place_order", call_id="c-2"),
            ChatEvent(sequence=3, turn_end=TurnEnd(turn=1, operation_id="op-1", usage=Usage(input_tokens=3))),
            ran(4, "c-1", verdict=Decision(verdict=Verdict.PERMITTED)),
            ran(5, "c-1", outcome=outcome, result_json="{}", timing="admit;dur=1"),
            ran(6, "c-2", refused=ToolRefusal(reason="limit.notional", message="Too much.", rule_ids=["limit"])),
            text(7, "done"),
            finish(8, last),
        ):
            await stream.send_message(event)

    return play


async def told(gateway, client, last=FinishReason.STOP):
    gateway.service.chat = one_stream(last)
    return [event async for event in Agent(client, model="flash", turns_max=3, in_stream=True).run("buy", "run-1")]


async def test_it_asks_the_gateway_to_run_the_tools_under_the_runs_name():
    async with talking() as (gateway, client):
        await told(gateway, client)
        (request,) = gateway.service.requests["Chat"]
        assert (request.run_tools.turns_max, request.run_tools.idempotency_key) == (3, "run-1")
        assert (request.run_id, request.resumable, request.functions) == ("run-1", Resumable.CANCELLED, [])


async def test_its_users_hear_each_call_and_what_became_of_it():
    async with talking() as (gateway, client):
        heard = await told(gateway, client)
        assert [type(event) for event in heard] == [Asked, Asked, Ran, Ran, Said, TurnEnded]
        lines = [json.loads(line(event)) for event in heard]
        assert lines[2]["tool_result"]["result"] == {"filled": "5"}
        assert lines[2]["tool_result"]["timing"] == "admit;dur=1"
        assert lines[3]["tool_result"]["refused"] == {
            "reason": "limit.notional",
            "message": "Too much.",
            "rules": ["limit"],
            "timing": "",
        }


async def test_turns_that_are_spent_are_no_end():
    async with talking() as (gateway, client):
        with pytest.raises(TurnsExceededError, match="in 3 turns"):
            await told(gateway, client, FinishReason.TURNS_SPENT)


def test_the_environment_says_who_runs_the_tools():
    assert not read_settings(ENVIRONMENT).in_stream
    assert read_settings(ENVIRONMENT | {"AGENT_TOOLS": "gateway"}).in_stream
    assert not read_settings(ENVIRONMENT | {"AGENT_TOOLS": "agent"}).in_stream
    with pytest.raises(SettingsError, match="AGENT_TOOLS"):
        read_settings(ENVIRONMENT | {"AGENT_TOOLS": "me"})
    with pytest.raises(SettingsError, match="AGENT_TURNS_MAX"):
        read_settings(ENVIRONMENT | {"AGENT_TOOLS": "gateway", "AGENT_TURNS_MAX": "33"})


def test_a_stream_has_only_so_many_turns():
    with pytest.raises(ValueError, match="turns_max"):
        Agent(None, model="flash", turns_max=33, in_stream=True)
