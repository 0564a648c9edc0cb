"""Anthropic's own client as the oracle: asked the same of the same upstream, it has heard the same as our adapter."""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import anthropic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "llm"))

from made_streams import (
    CLAUDE,
    ask,
    calls,
    claude_at,
    conversation,
    count_ask,
    ending,
    heard,
    model,
    text,
    thinking,
    thoughts,
    upstream,
    usage,
    user,
)

from gateway.terms.conversation import (
    Choosing,
    Function,
    FunctionResult,
    Generation,
    JsonSchemaConstraint,
    Text,
    Thinking,
    Thought,
)
from gateway.terms.faults import Fault as Broken
from gateway.terms.faults import UpstreamError
from gateway.terms.inputs import InlineData
from localcloud.vertex import Fault, VertexConfig, VertexDouble
from localcloud.vertex.faults import Params

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


@dataclass(frozen=True)
class Said:
    """What both sides must agree on."""

    text: str
    thoughts: str
    calls: tuple
    signatures: tuple
    finish: str
    version: str
    input_tokens: int
    output_tokens: int
    thinking_tokens: int
    cached_tokens: int


def client_at(url):
    return anthropic.AsyncAnthropicVertex(
        region="us-central1", project_id="p", access_token="t", base_url=f"{url}/v1", max_retries=0, timeout=10
    )


@pytest.fixture
async def double():
    async with VertexDouble(VertexConfig(allow_any_token=True, cache_from=1000)) as server:
        yield server


@pytest.fixture
async def claude(double):
    async with claude_at(double.url) as adapter:
        yield adapter


@pytest.fixture
async def client(double):
    async with client_at(double.url) as made:
        yield made


async def theirs(client, messages, **more):
    messages = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    asked = {"model": "claude-sonnet-5", "max_tokens": 8192} | more
    async with client.messages.stream(messages=messages, **asked) as stream:
        message = await stream.get_final_message()
    of = {kind: [block for block in message.content if block.type == kind] for kind in ("text", "thinking", "tool_use")}
    told = message.usage
    return message.content, Said(
        text="".join(block.text for block in of["text"]),
        thoughts="".join(block.thinking for block in of["thinking"]),
        calls=tuple((block.name, block.input) for block in of["tool_use"]),
        signatures=tuple(block.signature for block in of["thinking"]),
        finish=message.stop_reason,
        version=message.model,
        input_tokens=told.input_tokens + told.cache_read_input_tokens + told.cache_creation_input_tokens,
        output_tokens=told.output_tokens,
        thinking_tokens=told.output_tokens_details.thinking_tokens if told.output_tokens_details else 0,
        cached_tokens=told.cache_read_input_tokens,
    )


async def ours(claude, asked):
    chunks = await heard(claude, asked, of=CLAUDE)
    told, end = usage(chunks), ending(chunks)
    return chunks, Said(
        text=text(chunks),
        thoughts=thoughts(chunks),
        calls=tuple((call.name, json.loads(call.arguments_json)) for call in calls(chunks)),
        signatures=tuple(
            chunk.signature.removeprefix(b"claude:").decode()
            for chunk in chunks
            if isinstance(chunk, Thought) and chunk.signature
        ),
        finish=end.upstream_reason,
        version=end.model_version,
        input_tokens=told.input_tokens,
        output_tokens=told.output_tokens,
        thinking_tokens=told.thinking_tokens,
        cached_tokens=told.cached_tokens,
    )


SCHEMA = {
    "type": "object",
    "properties": {"side": {"type": "string", "enum": ["buy", "sell"]}, "legs": {"type": "array", "minItems": 2}},
    "required": ["side", "legs"],
}
SHOWN = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize(
    "prompt, mine, oracle",
    [
        ("Why is the sky blue?", {}, {}),
        ("@echo\nGrüße, π ☃ 🙂 \u2028 end\r\n\r\ndata: x", {}, {}),
        ("@pace deltas=40 size=3\nhello", {"system": "Be brief."}, {"system": "Be brief."}),
        ("hello", {"max_output_tokens": 7}, {"max_tokens": 7}),
        ("@echo\nalpha beta gamma", {"generation": Generation(stop_sequences=("beta",))}, {"stop_sequences": ["beta"]}),
        (
            "think about it",
            {"generation": thinking(thinking=Thinking.HIGH)},
            {"thinking": SHOWN, "output_config": {"effort": "high"}},
        ),
        (
            "think in silence",
            {"generation": Generation(thinking=Thinking.MEDIUM)},
            {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "medium"}},
        ),
        ("do not think", {"generation": Generation(thinking=Thinking.MINIMAL)}, {"thinking": {"type": "disabled"}}),
        (
            "a plan",
            {"constraint": JsonSchemaConstraint(schema_json=json.dumps(SCHEMA))},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ("@block reason=PROHIBITED_CONTENT\nhello", {}, {}),
        ("@finish reason=SAFETY after=5\nhello", {}, {}),
        ("@finish reason=PAUSE_TURN\nhello", {}, {}),
    ],
)
async def test_the_same_is_heard(claude, client, prompt, mine, oracle):
    _, them = await theirs(client, prompt, **oracle)
    _, us = await ours(claude, ask(prompt, **mine))
    assert us == them


async def test_cached_tokens_are_counted_in(claude, client):
    prompt = "word " * 1200
    await ours(claude, ask(prompt))
    _, them = await theirs(client, prompt)
    _, us = await ours(claude, ask(prompt))
    assert us == them
    assert us.cached_tokens > 0


async def test_the_same_picture_is_seen(claude, client):
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAAAAAAAAAAA=="}
    content = [{"type": "text", "text": "what is it?"}, {"type": "image", "source": source}]
    _, them = await theirs(client, [{"role": "user", "content": content}])
    seen = user(Text(text="what is it?"), InlineData(mime_type="image/png", data=PNG))
    _, us = await ours(claude, ask(conversation(seen)))
    assert us == them


PARAMETERS = {
    "type": "object",
    "properties": {
        "symbol": {"type": "string"},
        "side": {"type": "string", "enum": ["buy", "sell"]},
        "qty": {"type": "string"},
    },
    "required": ["symbol", "side", "qty"],
}
ORDER = Function(name="place_order", description="Places.", parameters_json_schema=json.dumps(PARAMETERS))
TOOL = {"name": "place_order", "description": "Places.", "input_schema": PARAMETERS}


@pytest.mark.parametrize("generation, config", [(Generation(), {}), (thinking(), {"thinking": SHOWN})])
@pytest.mark.parametrize(
    "prompt", ["buy 5 AAPL", "buy 5 AAPL and sell 2 MSFT at 410.50", "buy 1 AAPL then sell 1 AAPL then buy 3 MSFT"]
)
async def test_a_round_trip_of_tools(claude, client, prompt, generation, config):
    """Every step of both: thoughts with their signatures, calls, results, and at last the text."""
    messages, turns = [{"role": "user", "content": prompt}], [user(prompt)]
    for _ in range(5):
        content, them = await theirs(client, messages, tools=[TOOL], **config)
        chunks, us = await ours(claude, ask(*turns, functions=(ORDER,), generation=generation))
        assert us == them
        asked = calls(chunks)
        if not asked:
            break
        results = [json.dumps({"status": "filled", "of": args}) for _, args in them.calls]
        uses = [block for block in content if block.type == "tool_use"]
        given = [
            {"type": "tool_result", "tool_use_id": block.id, "content": result}
            for block, result in zip(uses, results, strict=True)
        ]
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": given}]
        said = [chunk for chunk in chunks if isinstance(chunk, Thought) or chunk in asked]
        ours_given = [
            FunctionResult(call_id=call.id, name=call.name, result_json=result)
            for call, result in zip(asked, results, strict=True)
        ]
        turns += [model(*said), user(*reversed(ours_given))]
    assert "filled" in us.text
    assert us.finish == "end_turn"


@pytest.mark.parametrize(
    "mine, choice",
    [
        ({"choosing": Choosing.ANY}, {"type": "any"}),
        ({"choosing": Choosing.ANY, "allowed_functions": ("place_order",)}, {"type": "tool", "name": "place_order"}),
        ({"choosing": Choosing.NONE}, {"type": "none"}),
    ],
)
async def test_the_same_choice_of_tools(claude, client, mine, choice):
    _, them = await theirs(client, "buy 5 AAPL", tools=[TOOL], tool_choice=choice)
    _, us = await ours(claude, ask("buy 5 AAPL", functions=(ORDER,), **mine))
    assert us == them


async def test_the_same_count(claude, client):
    them = await client.messages.count_tokens(
        model="claude-sonnet-5",
        messages=[{"role": "user", "content": "Why is the sky blue?"}],
        system="Be brief.",
        tools=[TOOL],
    )
    us = await claude.count(CLAUDE, count_ask("Why is the sky blue?", system="Be brief.", functions=(ORDER,)))
    assert us == them.input_tokens > 5


@pytest.mark.parametrize(
    "code, broken",
    [
        (400, Broken.REFUSED),
        (403, Broken.DENIED),
        (404, Broken.MISSING),
        (429, Broken.QUOTA),
        (529, Broken.UNREACHABLE),
    ],
)
async def test_the_same_refusals(double, claude, client, code, broken):
    double.faults.add([Fault(kind="status", count=2, params=Params(code=code, message="no luck"))])
    with pytest.raises(anthropic.APIStatusError) as them:
        await theirs(client, "hello")
    with pytest.raises(UpstreamError) as us:
        await heard(claude, ask("hello"), of=CLAUDE)
    assert them.value.status_code == code
    assert us.value.fault is broken
    assert them.value.body["error"]["message"] == "no luck"
    assert us.value.detail.endswith(": no luck")


# Generated streams, played to both over the same socket.

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TOKENS = st.integers(0, 10_000)
JSON = st.dictionaries(
    st.text(max_size=5), st.recursive(st.booleans() | st.integers(-9, 9) | WORDS, st.lists, max_leaves=5), max_size=3
)
THINKING = st.tuples(st.just("thinking"), st.lists(WORDS, max_size=3), st.text("abcXYZ019+/=", min_size=1, max_size=30))
TEXT = st.tuples(st.just("text"), st.lists(WORDS, max_size=4), st.none())
TOOL_USE = st.tuples(st.just("tool_use"), JSON, st.integers(1, 9))
BLOCKS = st.lists(st.one_of(THINKING, TEXT, TOOL_USE), max_size=5)


def streamed(blocks, told):
    """The events of a message with these blocks."""
    start = {"input_tokens": told["input"], "output_tokens": 1}
    start |= {"cache_read_input_tokens": told["read"], "cache_creation_input_tokens": told["written"]}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    head |= {"stop_reason": None, "stop_sequence": None, "usage": start}
    yield {"type": "message_start", "message": head}
    for index, (kind, content, more) in enumerate(blocks):
        empty = {
            "thinking": {"thinking": "", "signature": ""},
            "text": {"text": ""},
            "tool_use": {"id": f"toolu_{index}", "name": "f", "input": {}},
        }[kind]
        yield {"type": "content_block_start", "index": index, "content_block": {"type": kind, **empty}}
        yield {"type": "ping"}
        for delta in deltas(kind, content, more):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": told["reason"], "stop_sequence": None}
    details = {"thinking_tokens": told["thinking"]}
    output = told["thinking"] + told["output"]
    yield {
        "type": "message_delta",
        "delta": delta,
        "usage": {"output_tokens": output, "output_tokens_details": details},
    }
    yield {"type": "message_stop"}


def deltas(kind, content, more):
    if kind == "thinking":
        yield from ({"type": "thinking_delta", "thinking": piece} for piece in content)
        yield {"type": "signature_delta", "signature": more}
    elif kind == "text":
        yield from ({"type": "text_delta", "text": piece} for piece in content)
    else:
        whole = json.dumps(content, ensure_ascii=False)
        pieces = [whole[start : start + more] for start in range(0, len(whole), more)] if content else []
        yield from ({"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    blocks=BLOCKS,
    told=st.fixed_dictionaries(
        {
            **dict.fromkeys(["input", "read", "written", "output", "thinking"], TOKENS),
            "reason": st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal", "stop_sequence", "pause_turn"]),
        }
    ),
    size=st.integers(1, 200),
)
def test_any_stream_is_heard_the_same(blocks, told, size):
    events = [
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event, ensure_ascii=False).encode())
        for event in streamed(blocks, told)
    ]

    async def play(exchange):
        await exchange.start()
        wire = b"".join(events)
        for start in range(0, len(wire), size * 10):
            await exchange.chunk(wire[start : start + size * 10])
        await exchange.end()

    async def both():
        async with upstream(play) as server, claude_at(server.url) as adapter, client_at(server.url) as client:
            _, them = await theirs(client, "hi")
            _, us = await ours(adapter, ask("hi", max_output_tokens=20_000))
        return them, us

    them, us = asyncio.run(both())
    assert us == them
