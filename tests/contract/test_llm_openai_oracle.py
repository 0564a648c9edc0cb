"""OpenAI's own client as the oracle: asked the same of the same upstream, it has heard the same as our adapter."""

import asyncio
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "llm"))

from made_streams import (
    LLAMA,
    ask,
    calls,
    compatible_at,
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

from gateway.llm.compatible_request import Dialect
from gateway.terms.conversation import (
    ChoiceConstraint,
    Choosing,
    Finish,
    Function,
    FunctionResult,
    Generation,
    JsonSchemaConstraint,
    RegexConstraint,
    Text,
    Thinking,
    Usage,
)
from gateway.terms.faults import Fault as Broken
from gateway.terms.faults import UpstreamError
from gateway.terms.inputs import InlineData
from localcloud.compatible import CompatibleConfig, CompatibleDouble
from localcloud.vertex import Fault
from localcloud.vertex.faults import Params

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
KEY = "sk-secret"


@dataclass(frozen=True)
class Said:
    """What both sides must agree on."""

    text: str
    thoughts: str
    calls: tuple
    finish: str
    version: str
    input_tokens: int
    output_tokens: int
    thinking_tokens: int
    cached_tokens: int


def client_at(url):
    return openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0, timeout=10)


@pytest.fixture
async def double():
    async with CompatibleDouble(CompatibleConfig(keys=frozenset({KEY}), cache_from=1000)) as server:
        yield server


@pytest.fixture
async def adapter(double):
    async with compatible_at(double.url, key=KEY) as made:
        yield made


@pytest.fixture
async def client(double):
    async with client_at(double.url) as made:
        yield made


async def theirs(client, messages, **more):
    messages = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    asked = {"model": "llama-4-maverick", "max_tokens": 8192, "stream_options": {"include_usage": True}} | more
    async with client.chat.completions.stream(messages=messages, **asked) as stream:
        completion = await stream.get_final_completion()
    message, told = completion.choices[0].message, completion.usage
    return message, Said(
        text=message.content or "",
        thoughts=getattr(message, "reasoning", None) or "",
        calls=tuple((call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []),
        finish=completion.choices[0].finish_reason,
        version=completion.model,
        input_tokens=told.prompt_tokens,
        output_tokens=told.completion_tokens,
        thinking_tokens=told.completion_tokens_details.reasoning_tokens,
        cached_tokens=told.prompt_tokens_details.cached_tokens,
    )


async def ours(adapter, asked):
    chunks = await heard(adapter, asked, of=LLAMA)
    told, end = usage(chunks), ending(chunks)
    assert not told.estimated
    return chunks, Said(
        text=text(chunks),
        thoughts=thoughts(chunks),
        calls=tuple((call.name, json.loads(call.arguments_json)) for call in calls(chunks)),
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


@pytest.mark.parametrize(
    "prompt, mine, oracle",
    [
        ("Why is the sky blue?", {}, {}),
        ("@echo\nGrüße, π ☃ 🙂 \u2028 end\r\n\r\ndata: [DONE]", {}, {}),
        (
            "@echo\nalpha beta gamma",
            {"generation": Generation(stop_sequences=("beta",), temperature=0.5, seed=3, top_p=0.5)},
            {"stop": ["beta"], "temperature": 0.5, "seed": 3, "top_p": 0.5},
        ),
        (
            "hello",
            {"generation": Generation(top_k=3, presence_penalty=1, frequency_penalty=-1)},
            {"presence_penalty": 1, "frequency_penalty": -1, "extra_body": {"top_k": 3}},
        ),
        ("think", {"generation": thinking(thinking=Thinking.HIGH)}, {"reasoning_effort": "high"}),
        (
            "a plan",
            {"constraint": JsonSchemaConstraint(schema_json=json.dumps(SCHEMA))},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
        ),
        (
            "an id",
            {"constraint": RegexConstraint(pattern=r"[A-Z]{3}-\d{2}")},
            {"extra_body": {"structured_outputs": {"regex": r"[A-Z]{3}-\d{2}"}}},
        ),
        (
            "choose",
            {"constraint": ChoiceConstraint(texts=("hold, now", "sell"))},
            {"extra_body": {"structured_outputs": {"choice": ["hold, now", "sell"]}}},
        ),
    ],
)
async def test_the_same_is_heard(adapter, client, prompt, mine, oracle):
    system = {"system": "Be brief."}
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    for messages, more in ((prompt, {}), (said, system)):
        _, them = await theirs(client, messages, **oracle)
        _, us = await ours(adapter, ask(prompt, **mine, **more))
        assert us == them


@pytest.mark.parametrize(
    "prompt, most, error, finish",
    [
        ("hello", 7, openai.LengthFinishReasonError, Finish.MAX_TOKENS),
        ("@finish reason=SAFETY after=5\nhello", 99, openai.ContentFilterFinishReasonError, Finish.SAFETY),
        ("@block reason=SAFETY\nhello", 99, openai.ContentFilterFinishReasonError, Finish.SAFETY),
    ],
)
async def test_ends_that_their_client_makes_errors_of(adapter, client, prompt, most, error, finish):
    with pytest.raises(error):
        await theirs(client, prompt, max_tokens=most)
    assert ending(await heard(adapter, ask(prompt, max_output_tokens=most), of=LLAMA)).finish is finish


async def test_cached_tokens_are_the_same(adapter, client):
    prompt = "word " * 1200
    await ours(adapter, ask(prompt))
    _, them = await theirs(client, prompt)
    _, us = await ours(adapter, ask(prompt))
    assert us == them
    assert us.cached_tokens > 0


async def test_the_same_picture_is_seen(adapter, client):
    url = {"url": "data:image/png;base64,iVBORw0KGgoAAAAAAAAAAA=="}
    content = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": url}]
    _, them = await theirs(client, [{"role": "user", "content": content}])
    seen = user(Text(text="what is it?"), InlineData(mime_type="image/png", data=PNG))
    _, us = await ours(adapter, ask(conversation(seen)))
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
TOOL = {
    "type": "function",
    "function": {"name": "place_order", "description": "Places.", "parameters": PARAMETERS},
}


@pytest.mark.parametrize(
    "prompt", ["buy 5 AAPL", "buy 5 AAPL and sell 2 MSFT at 410.50", "buy 1 AAPL then sell 1 AAPL then buy 3 MSFT"]
)
async def test_a_round_trip_of_tools(adapter, client, prompt):
    """Every step of both: calls, whose pieces take turns on the wire, their results, and at last the text."""
    messages, turns = [{"role": "user", "content": prompt}], [user(prompt)]
    for _ in range(5):
        message, them = await theirs(client, messages, tools=[TOOL])
        chunks, us = await ours(adapter, ask(*turns, functions=(ORDER,)))
        assert us == them
        asked = calls(chunks)
        if not asked:
            break
        assert ending(chunks).finish is Finish.TOOL_CALLS
        results = [json.dumps({"status": "filled", "of": args}) for _, args in them.calls]
        messages.append(
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {"name": call.function.name, "arguments": call.function.arguments},
                    }
                    for call in message.tool_calls
                ],
            }
        )
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": result}
            for call, result in zip(message.tool_calls, results, strict=True)
        ]
        given = [
            FunctionResult(call_id=call.id, name=call.name, result_json=result)
            for call, result in zip(asked, results, strict=True)
        ]
        turns += [model(*asked), user(*reversed(given))]
    assert "filled" in us.text
    assert us.finish == "stop"


@pytest.mark.parametrize(
    "mine, choice",
    [
        ({"choosing": Choosing.ANY}, "required"),
        (
            {"choosing": Choosing.ANY, "allowed_functions": ("place_order",)},
            {"type": "function", "function": {"name": "place_order"}},
        ),
        ({"choosing": Choosing.NONE}, "none"),
    ],
)
async def test_the_same_choice_of_tools(adapter, client, mine, choice):
    _, them = await theirs(client, "buy 5 AAPL", tools=[TOOL], tool_choice=choice)
    _, us = await ours(adapter, ask("buy 5 AAPL", functions=(ORDER,), **mine))
    assert us == them


async def test_a_count_is_what_the_server_then_charges(adapter, client):
    _, them = await theirs(client, [{"role": "user", "content": "Why is the sky blue?"}], tools=[TOOL])
    assert await adapter.count(LLAMA, count_ask("Why is the sky blue?", functions=(ORDER,))) == them.input_tokens


async def test_who_offers_no_count_is_not_asked_for_one(double):
    async with compatible_at(double.url, key=KEY, dialect=Dialect.OPENAI) as adapter:
        assert await adapter.count(LLAMA, count_ask("hi")) is None
    assert double.journal.requests == 0


@pytest.mark.parametrize(
    "code, broken",
    [
        (400, Broken.REFUSED),
        (403, Broken.DENIED),
        (404, Broken.MISSING),
        (429, Broken.QUOTA),
        (503, Broken.UNREACHABLE),
    ],
)
async def test_the_same_refusals(double, adapter, client, code, broken):
    double.faults.add([Fault(kind="status", count=2, params=Params(code=code, message="no luck"))])
    with pytest.raises(openai.APIStatusError) as them:
        await theirs(client, "hello")
    with pytest.raises(UpstreamError) as us:
        await heard(adapter, ask("hello"), of=LLAMA)
    assert them.value.status_code == code
    assert us.value.fault is broken
    assert them.value.body["message"] == "no luck"
    assert re.fullmatch(rf"{code} {them.value.type}: no luck", us.value.detail)


async def test_a_wrong_key_and_none(double):
    for key in ("sk-other", ""):
        async with compatible_at(double.url, key=key) as adapter:
            with pytest.raises(UpstreamError) as us:
                await heard(adapter, ask("hello"), of=LLAMA)
            assert us.value.fault is Broken.DENIED
    assert [entry.authorization for entry in double.journal.entries] == [True, False]


async def test_a_server_that_tells_no_usage_says_nothing_of_it():
    async with CompatibleDouble(CompatibleConfig(tells_usage=False)) as double, compatible_at(double.url) as adapter:
        chunks = await heard(adapter, ask("hi"), of=LLAMA)
        assert not any(isinstance(chunk, Usage) for chunk in chunks)
        # What it thought and nobody asked to hear is counted for it, within what it may write.
        silent = ask("hi", generation=Generation(thinking=Thinking.LOW), max_output_tokens=20)
        chunks = await heard(adapter, silent, of=LLAMA)
        assert not thoughts(chunks)
        told = usage(chunks)
        assert (told.estimated, told.input_tokens, told.output_tokens) == (True, 100_000, 20)


# Generated streams, played to both over the same socket.

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TOKENS = st.integers(0, 10_000)
JSON = st.dictionaries(
    st.text(max_size=5), st.recursive(st.booleans() | st.integers(-9, 9) | WORDS, st.lists, max_leaves=5), max_size=3
)


def streamed(thought, said, asked, told):
    """The chunks of a completion: thoughts, text, and the pieces of its calls in any order."""
    envelope = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "llama-x"}
    deltas = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning": piece} for piece in thought]
    deltas += [{"content": piece} for piece in said]
    for index in range(len(asked)):
        function = {"name": "f", "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": f"i{index}", "type": "function", "function": function}]})
    pieces = [list(pieces_of(index, *call)) for index, call in enumerate(asked)]
    while any(pieces):
        deltas += [{"tool_calls": [left.pop(0)]} for left in pieces if left]
    for delta in deltas:
        yield envelope | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    reason = "tool_calls" if asked else told["reason"]
    yield envelope | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    taken = {"prompt_tokens": told["input"], "completion_tokens": told["output"] + told["thinking"]}
    taken["total_tokens"] = taken["prompt_tokens"] + taken["completion_tokens"]
    taken["prompt_tokens_details"] = {"cached_tokens": min(told["cached"], told["input"])}
    taken["completion_tokens_details"] = {"reasoning_tokens": told["thinking"]}
    yield envelope | {"choices": [], "usage": taken}


def pieces_of(index, arguments, size):
    whole = json.dumps(arguments, ensure_ascii=False)
    for start in range(0, len(whole), size):
        yield {"index": index, "function": {"arguments": whole[start : start + size]}}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    thought=st.lists(WORDS, max_size=3),
    said=st.lists(WORDS, max_size=5),
    asked=st.lists(st.tuples(JSON, st.integers(1, 9)), max_size=4),
    told=st.fixed_dictionaries(
        {
            **dict.fromkeys(["input", "cached", "output", "thinking"], TOKENS),
            "reason": st.sampled_from(["stop", "some_new_reason"]),
        }
    ),
    size=st.integers(1, 200),
)
def test_any_stream_is_heard_the_same(thought, said, asked, told, size):
    events = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in streamed(thought, said, asked, told)]

    async def play(exchange):
        await exchange.start()
        wire = b"".join([*events, b"data: [DONE]\n\n"])
        for start in range(0, len(wire), size * 10):
            await exchange.chunk(wire[start : start + size * 10])
        await exchange.end()

    async def both():
        async with upstream(play) as server, compatible_at(server.url) as adapter, client_at(server.url) as client:
            _, them = await theirs(client, "hi")
            _, us = await ours(adapter, ask("hi", generation=thinking(), max_output_tokens=20_000))
        return them, us

    them, us = asyncio.run(both())
    assert us == them
