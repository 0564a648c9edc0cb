"""A conversation that goes on at another provider: what one model thought never breaks the next one's turn."""

import json
import sys
from contextlib import AsyncExitStack
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

from gateway.terms.conversation import Finish, Function, FunctionResult, Text, Thinking, Thought
from localcloud.compatible import CompatibleDouble
from localcloud.vertex import VertexConfig, VertexDouble

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


@pytest.fixture
async def hands():
    """Each model with its adapter; it thinks aloud where its wire lets it."""
    async with AsyncExitStack() as stack:
        google = await stack.enter_async_context(VertexDouble(VertexConfig(allow_any_token=True)))
        llama = await stack.enter_async_context(CompatibleDouble())
        yield {
            "gemini": (await stack.enter_async_context(vertex_at(google.url)), MODEL),
            "claude": (await stack.enter_async_context(claude_at(google.url)), CLAUDE),
            "llama": (await stack.enter_async_context(compatible_at(llama.url)), LLAMA),
        }


@pytest.mark.parametrize(
    "first, second",
    [("claude", "gemini"), ("claude", "llama"), ("gemini", "claude"), ("gemini", "llama"), ("llama", "claude")],
)
async def test_the_call_of_one_model_is_answered_to_another(hands, first, second):
    generation = thinking(thinking=Thinking.LOW)
    turns = [user("buy 5 AAPL")]
    adapter, of = hands[first]
    said = await heard(adapter, ask(*turns, functions=(ORDER,), generation=generation), of=of)
    assert ending(said).finish is Finish.TOOL_CALLS
    (call,) = calls(said)
    parts = [chunk for chunk in said if isinstance(chunk, Text | Thought) or chunk is call]
    result = FunctionResult(call_id=call.id, name=call.name, result_json='{"status":"filled"}')
    turns += [model(*parts), user(result)]
    adapter, of = hands[second]
    assert "filled" in text(await heard(adapter, ask(*turns, functions=(ORDER,), generation=generation), of=of))
