"""A conversation that goes on at another provider: what one model thought never breaks the next one's turn."""

import json
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "llm"))

from made_streams import (
    CLAUDE,
    LLAMA,
    MODEL,
    ask,
    calls,
    claude_at,
    compatible_at,
    ending,
    heard,
    model,
    text,
    thinking,
    user,
    vertex_at,
)
from routed import A, Plan, routed
from served import served
from whole import world

from gateway.llm.compatible_request import Dialect
from gateway.terms.conversation import (
    Finish,
    Function,
    FunctionCall,
    FunctionResult,
    Generation,
    Text,
    Thinking,
    Thought,
)
from gateway.terms.faults import UpstreamError
from gateway.terms.models import ThinkingForm
from generated.agentic.gateway.v1 import ChatRequest, Content, FinishReason, Part, Role, RunTools
from localcloud.compatible import CompatibleConfig, CompatibleDouble
from localcloud.vertex import VertexConfig, VertexDouble
from localcloud.vertex.config import DEFAULT_MODELS

ORDER = Function(
    name="place_order",
    description="Places.",
    parameters_json_schema=json.dumps(
        {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("symbol", "side", "qty")},
            "required": ["symbol", "side", "qty"],
        }
    ),
)


OLDER_CLAUDE = replace(CLAUDE, upstream_id="claude-haiku-4-5@20251001", thinking=ThinkingForm.BUDGET)
OLDER_GEMINI = replace(MODEL, upstream_id="gemini-2.5-flash", thinking=ThinkingForm.BUDGET)
GARDEN = replace(LLAMA, upstream_id="google/gemini-3.5-flash")
FAMILIES = ("gemini", "older gemini", "garden gemini", "claude", "older claude", "llama")
CLAUDES = ("claude", "older claude")
ALOUD = thinking(thinking=Thinking.LOW)
SILENT = Generation()


@pytest.fixture
async def hands():
    """Each model with its adapter."""
    async with AsyncExitStack() as stack:
        known = (*DEFAULT_MODELS, OLDER_GEMINI.upstream_id)
        google = await stack.enter_async_context(VertexDouble(VertexConfig(allow_any_token=True, models=known)))
        served = CompatibleConfig(models=(LLAMA.upstream_id, GARDEN.upstream_id))
        plain = await stack.enter_async_context(CompatibleDouble(served))
        vertex = await stack.enter_async_context(vertex_at(google.url))
        claude = await stack.enter_async_context(claude_at(google.url))
        garden = await stack.enter_async_context(compatible_at(plain.url, dialect=Dialect.GARDEN))
        yield {
            "gemini": (vertex, MODEL),
            "older gemini": (vertex, OLDER_GEMINI),
            "garden gemini": (garden, GARDEN),
            "claude": (claude, CLAUDE),
            "older claude": (claude, OLDER_CLAUDE),
            "llama": (await stack.enter_async_context(compatible_at(plain.url)), LLAMA),
        }


async def called(hand, asked):
    """What the model said that is sent back, and the result of the one call in it."""
    adapter, of = hand
    said = await heard(adapter, asked, of=of)
    assert ending(said).finish is Finish.TOOL_CALLS
    (call,) = calls(said)
    parts = [chunk for chunk in said if isinstance(chunk, Text | Thought) or chunk is call]
    return model(*parts), user(FunctionResult(call_id=call.id, name=call.name, result_json='{"status":"filled"}'))


def signed(turn):
    return Counter(bool(part.signature) for part in turn.parts if isinstance(part, FunctionCall))


@pytest.mark.parametrize("generation", [ALOUD, SILENT], ids=["thinking", "silent"])
@pytest.mark.parametrize("second", FAMILIES)
@pytest.mark.parametrize("first", FAMILIES)
async def test_the_call_of_one_model_is_answered_to_another(hands, first, second, generation):
    bought = user("buy 5 AAPL")
    turns = await called(hands[first], ask(bought, functions=(ORDER,), generation=generation))
    asked = ask(bought, *turns, functions=(ORDER,), generation=generation)
    adapter, of = hands[second]
    refusal = adapter.check(of, asked.conversation)
    if second == "older claude" and first not in CLAUDES and generation is ALOUD:
        assert refusal.reason == "request.malformed"
        assert refusal.sentence.startswith("contents[1]: sonnet thinks, and goes on from calls only if")
        with pytest.raises(UpstreamError, match="must start with a thinking block"):
            await heard(adapter, asked, of=of)
        return
    assert refusal is None
    assert "filled" in text(await heard(adapter, asked, of=of))


@pytest.mark.parametrize("second", FAMILIES)
@pytest.mark.parametrize("first", FAMILIES)
async def test_a_turn_that_is_over_stops_nobody(hands, first, second):
    """What is in the history was answered; only the calls that are answered now are gone on from."""
    bought = user("buy 5 AAPL")
    turns = await called(hands[first], ask(bought, functions=(ORDER,), generation=ALOUD))
    more = (model(Text(text="It is filled.")), user("Thank you."))
    asked = ask(bought, *turns, *more, functions=(ORDER,), generation=ALOUD)
    adapter, of = hands[second]
    assert adapter.check(of, asked.conversation) is None
    assert ending(await heard(adapter, asked, of=of)).finish is Finish.STOP


async def test_claudes_own_later_calls_need_no_thought(hands):
    """Its turn lasts over calls and results, and it thinks at the beginning of it."""
    bought = user("buy 5 AAPL")
    turns = await called(hands["older claude"], ask(bought, functions=(ORDER,), generation=ALOUD))
    again = FunctionCall(id="c-2", name="place_order", arguments_json='{"symbol":"AAPL","side":"buy","qty":"1"}')
    result = FunctionResult(call_id="c-2", name="place_order", result_json='{"status":"filled"}')
    asked = ask(bought, *turns, model(again), user(result), functions=(ORDER,), generation=ALOUD)
    adapter, of = hands["older claude"]
    assert adapter.check(of, asked.conversation) is None
    assert "filled" in text(await heard(adapter, asked, of=of))


@pytest.mark.parametrize("second", ["gemini", "garden gemini"])
@pytest.mark.parametrize("first", ["gemini", "garden gemini"])
async def test_geminis_signature_goes_back_as_it_came_on_either_wire(hands, first, second):
    bought = user("buy 5 AAPL")
    said, result = await called(hands[first], ask(bought, functions=(ORDER,), generation=SILENT))
    assert signed(said) == {True: 1}
    adapter, of = hands[second]
    spoilt = [replace(part, signature=b"x" + part.signature) for part in said.parts if isinstance(part, FunctionCall)]
    with pytest.raises(UpstreamError, match="thought signature"):
        await heard(adapter, ask(bought, model(*spoilt), result, functions=(ORDER,)), of=of)
    assert "filled" in text(await heard(adapter, ask(bought, said, result, functions=(ORDER,)), of=of))


@pytest.mark.parametrize("of", [LLAMA, GARDEN], ids=["llama", "garden gemini"])
async def test_a_loop_that_fell_back_in_one_turn_goes_on_at_gemini_in_the_next(tmp_path, of):
    async with AsyncExitStack() as stack:
        around = await stack.enter_async_context(world())
        other = await stack.enter_async_context(CompatibleDouble(CompatibleConfig(models=(of.upstream_id,))))
        dialect = Dialect.GARDEN if of is GARDEN else Dialect.VLLM
        adapter = await stack.enter_async_context(compatible_at(other.url, dialect=dialect))
        plan = Plan(targets=((A, {}), (of.upstream_id, {"order": 2, "upstream": adapter})))
        whole, *_ = await stack.enter_async_context(routed(around, tmp_path, plan))
        client = await stack.enter_async_context(served(whole))
        around.vertex_fails("status", 1, code=503)
        said = Content(role=Role.USER, parts=[Part(text="buy 2 AAPL")])
        answered = await client.call("Chat", ChatRequest(model="flash", contents=[said], run_tools=RunTools()))
        assert answered.error is None
        finish = answered.replies[-1].finish
        assert finish.reason is FinishReason.STOP
        assert [attempt.target for attempt in finish.attempts] == [A]
        assert [entry.model for entry in other.journal.entries] == [of.upstream_id]
        assert len(around.orders()) == 1
        await whole.agree()
