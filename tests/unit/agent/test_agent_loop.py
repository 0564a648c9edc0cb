import asyncio
import contextlib
import json

import pytest
from agent_parts import StandIn, finish, refusal, succeeded, talking, text, tool_call
from grpclib.const import Status

from agent.client import GatewayError
from agent.client.contract import ChatEvent, FinishReason, Operation, OperationState, Part, Role, ToolResult, Usage
from agent.lines import line
from agent.loop import CALLS_PER_TURN_MAX, Again, Agent, Answered, Asked, Said, TurnEnded, TurnsExceededError
from agent.tokens import TokenError
from generated.agentic.gateway.v1 import ToolError

TOOLS = FinishReason.TOOL_CALLS


def saying(*events):
    """A script of the model: these events, numbered as they stand."""

    async def script(stream):
        for event in events:
            await stream.send_message(event)

    return script


DONE = saying(text(1, "Done."), finish(2))


@contextlib.asynccontextmanager
async def agent_of(service, **changes):
    turns_max = changes.pop("turns_max", 8)
    async with talking(service, **changes) as (_, client):
        yield Agent(client, model="flash", instruction="Be brief.", turns_max=turns_max)


def model(*scripts):
    service = StandIn()
    service.chat = list(scripts)
    return service


async def heard(agent, run_id="run-1"):
    return [event async for event in agent.run("buy 5 AAPL", run_id)]


async def test_a_plain_answer_is_one_turn():
    service = model(
        saying(text(1, "Hel"), text(2, "lo"), ChatEvent(sequence=3, usage=Usage(output_tokens=2)), finish(4))
    )
    async with agent_of(service) as agent:
        events = await heard(agent)
    assert [event.text for event in events[:-1]] == ["Hel", "lo"]
    assert isinstance(events[-1], TurnEnded)
    assert events[-1].usage.output_tokens == 2
    assert events[-1].report.metadata["gateway-timing"]
    [asked] = service.requests["Chat"]
    assert (asked.model, asked.system_instruction, asked.run_id) == ("flash", "Be brief.", "run-1")
    assert [function.name for function in asked.functions] == ["place_order", "get_quote", "get_clock"]
    assert [part.text for part in asked.contents[0].parts] == ["buy 5 AAPL"]


async def test_a_tool_call_goes_through_the_gateway_and_its_result_back_to_the_model():
    service = model(
        saying(
            text(1, "I "),
            text(2, "buy."),
            tool_call(3, "place_order", '{"quantity": "5"}', call_id="c-7", signature=b"sig"),
            finish(4, TOOLS),
        ),
        DONE,
    )
    async with agent_of(service) as agent:
        events = await heard(agent)
    assert [type(event) for event in events] == [Said, Said, Asked, TurnEnded, Answered, Said, TurnEnded]
    [executed] = service.requests["ExecuteTool"]
    assert executed.arguments_json == '{"quantity": "5"}'
    assert executed.run_id == "run-1"
    assert executed.idempotency_key == "run-1:1:1"
    second = service.requests["Chat"][1]
    assert [content.role for content in second.contents] == [Role.USER, Role.MODEL, Role.USER]
    said, called = second.contents[1].parts
    assert said == Part(text="I buy.")
    assert (called.tool_call.id, called.signature) == ("c-7", b"sig")
    result = second.contents[2].parts[0].tool_result
    assert (result.call_id, result.name) == ("c-7", "place_order")
    assert json.loads(result.result_json) == {"state": "succeeded", "operation": "op-1", "result": {"filled": "5"}}


async def test_a_refused_call_is_handed_to_the_model_as_data():
    service = model(saying(tool_call(1, "place_order"), finish(2, TOOLS)), DONE)
    service.execute = refusal(Status.PERMISSION_DENIED, "limit.notional", "over the limit", rules="limit.notional")
    async with agent_of(service) as agent:
        events = await heard(agent)
    [answered] = [event for event in events if isinstance(event, Answered)]
    assert answered.refusal.reason == "limit.notional"
    told = json.loads(service.requests["Chat"][1].contents[2].parts[0].tool_result.result_json)
    assert told["refused"]["reason"] == "limit.notional"
    assert told["refused"]["rules"] == ["limit.notional"]
    assert isinstance(events[-1], TurnEnded)


async def told_to_the_model(execute, **changes):
    service = model(saying(tool_call(1, "place_order"), finish(2, TOOLS)), DONE)
    service.execute = execute
    async with agent_of(service, **changes) as agent:
        await heard(agent)
    return json.loads(service.requests["Chat"][1].contents[2].parts[0].tool_result.result_json)


async def test_an_unknown_operation_is_never_told_as_failed():
    error = ToolError(reason="upstream.reply_lost", message="no answer")
    told = await told_to_the_model(Operation(id="op-2", state=OperationState.UNKNOWN, error=error))
    assert told["state"] == "unknown"
    assert told["operation"] == "op-2"


async def test_a_call_whose_answer_never_came_is_never_told_as_refused_or_failed():
    async def silent(stream):
        await asyncio.sleep(60)

    told = await told_to_the_model(silent, timeout_s=0.05)
    assert told["state"] == "unknown"
    assert told["error"]["reason"] in ("deadline.exceeded", "status.deadline_exceeded")  # whoever is first


async def test_calls_of_one_turn_are_answered_in_the_models_order():
    service = model(
        saying(
            tool_call(1, "get_quote", call_id="a"),
            tool_call(2, "place_order", call_id="b"),
            tool_call(3, "get_clock", call_id="c"),
            finish(4, TOOLS),
        ),
        DONE,
    )
    async with agent_of(service) as agent:
        events = await heard(agent)
    assert [event.call.id for event in events if isinstance(event, Answered)] == ["a", "b", "c"]
    results = [part.tool_result for part in service.requests["Chat"][1].contents[2].parts]
    assert [result.call_id for result in results] == ["a", "b", "c"]
    assert all(isinstance(result, ToolResult) for result in results)
    assert {asked.tool: asked.idempotency_key for asked in service.requests["ExecuteTool"]} == {
        "get_quote": "run-1:1:1",
        "place_order": "run-1:1:2",
        "get_clock": "run-1:1:3",
    }


async def test_reads_go_together_and_effects_one_after_the_other():
    order = []

    async def noted(stream):
        tool = service.requests["ExecuteTool"][-1].tool
        order.append(f"+{tool}")
        if tool != "place_order":
            while len(order) < 3:  # both reads begin before one ends  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.005)
        order.append(f"-{tool}")
        await stream.send_message(succeeded())

    service = model(
        saying(
            tool_call(1, "place_order"),
            tool_call(2, "place_order"),
            tool_call(3, "get_quote"),
            tool_call(4, "get_clock"),
            finish(5, TOOLS),
        ),
        DONE,
    )
    service.execute = noted
    async with agent_of(service) as agent:
        await heard(agent)
    assert order[:4] == ["+place_order", "-place_order", "+place_order", "-place_order"]
    assert {*order[4:6]} == {"+get_quote", "+get_clock"}


async def test_a_tool_that_is_not_offered_is_for_the_gateway_to_refuse():
    service = model(saying(tool_call(1, "rm_rf"), finish(2, TOOLS)), DONE)
    service.execute = refusal(Status.NOT_FOUND, "tool.unknown", "there is no tool rm_rf")
    async with agent_of(service) as agent:
        events = await heard(agent)
    assert [event.refusal.reason for event in events if isinstance(event, Answered)] == ["tool.unknown"]


async def test_turns_are_bounded():
    service = model(saying(tool_call(1, "get_quote"), finish(2, TOOLS)))
    async with agent_of(service, turns_max=3) as agent:
        with pytest.raises(TurnsExceededError, match="3 turns"):
            await heard(agent)
    assert len(service.requests["Chat"]) == 3
    keys = [asked.idempotency_key for asked in service.requests["ExecuteTool"]]
    assert keys == ["run-1:1:1", "run-1:2:1", "run-1:3:1"]


async def test_calls_of_a_turn_are_bounded_and_the_model_is_told():
    asked = [tool_call(number, "place_order") for number in range(1, CALLS_PER_TURN_MAX + 4)]
    service = model(saying(*asked, finish(CALLS_PER_TURN_MAX + 4, TOOLS)), DONE)
    async with agent_of(service) as agent:
        await heard(agent)
    assert len(service.requests["ExecuteTool"]) == CALLS_PER_TURN_MAX
    results = [part.tool_result for part in service.requests["Chat"][1].contents[2].parts]
    assert len(results) == CALLS_PER_TURN_MAX + 3
    assert "agent.too_many_calls" in results[-1].result_json


async def test_a_cut_off_answer_executes_nothing():
    service = model(saying(tool_call(1, "place_order"), finish(2, FinishReason.MAX_TOKENS)))
    async with agent_of(service) as agent:
        events = await heard(agent)
    assert service.requests["ExecuteTool"] == []
    assert events[-1].finish.reason is FinishReason.MAX_TOKENS


async def test_a_repeated_run_names_its_calls_as_before():
    script = saying(tool_call(1, "place_order"), finish(2, TOOLS))
    service = model(script, DONE, script, DONE)
    async with agent_of(service) as agent:
        await heard(agent)
        await heard(agent)
        service.chat = [script, DONE]
        await heard(agent, "run-2")
    keys = [asked.idempotency_key for asked in service.requests["ExecuteTool"]]
    assert keys == ["run-1:1:1", "run-1:1:1", "run-2:1:1"]


async def test_an_error_in_the_middle_reaches_the_user_after_what_was_said():
    async def broken(stream):
        await stream.send_message(text(1, "I was about"))
        raise refusal(Status.RESOURCE_EXHAUSTED, "budget.spent", "the rest is too much")

    async with agent_of(model(broken)) as agent:
        events = agent.run("hello", "run-1")
        assert (await anext(events)).text == "I was about"
        with pytest.raises(GatewayError, match=r"budget\.spent"):
            await anext(events)


async def test_no_token_in_the_middle_is_told_as_such_and_not_as_a_group():
    class Ending:
        def __init__(self):
            self.left = 2

        async def id_token(self, audience):
            self.left -= 1
            if self.left < 0:
                raise TokenError("no more")
            return "token"

    service = model(saying(tool_call(1, "get_quote"), tool_call(2, "get_clock"), finish(3, TOOLS)), DONE)
    async with agent_of(service, tokens=Ending()) as agent:
        with pytest.raises(TokenError, match="no more"):
            await heard(agent)


async def test_leaving_a_run_ends_the_stream_at_the_gateway():
    service = StandIn()

    async def silent(stream):
        await stream.send_message(text(1, "word"))
        await service.hang(stream)

    service.chat = silent
    async with agent_of(service) as agent:
        async with contextlib.aclosing(agent.run("hello", "run-1")) as events:
            async for _ in events:
                break
        await asyncio.wait_for(service.left.wait(), 2)


def test_no_turn_at_all_is_no_bound():
    with pytest.raises(ValueError, match="turns_max"):
        Agent(None, model="flash", turns_max=0)


async def test_an_answer_that_broke_off_is_void_and_the_one_that_comes_anew_is_the_turn():
    """What the broken answer asked for is not executed, and is no part of the history."""

    async def broken(stream):
        for event in (text(1, "I will"), tool_call(2, "place_order", '{"quantity":"9"}')):
            await stream.send_message(event)
        raise refusal(Status.UNAVAILABLE, "wire.draining", "call again")

    whole = saying(text(1, "Buying."), tool_call(2, "place_order", '{"quantity":"5"}'), finish(3, TOOLS))
    service = model(broken, whole, DONE)
    async with agent_of(service) as agent:
        events = await heard(agent)
    assert [type(event) for event in events] == [Said, Asked, Again, Said, Asked, TurnEnded, Answered, Said, TurnEnded]
    assert json.loads(line(events[2]))["again"]["reason"] == "wire.draining"
    assert [one.arguments_json for one in service.requests["ExecuteTool"]] == ['{"quantity":"5"}']
    said = service.requests["Chat"][2].contents[1].parts
    assert [part.text or part.tool_call.arguments_json for part in said] == ["Buying.", '{"quantity":"5"}']
