"""Google's own client as the oracle: asked the same of the same upstream, it has heard the same as our adapter."""

import asyncio
import base64
import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

with warnings.catch_warnings():
    # The vendor's packages warn about themselves while they are imported.
    warnings.simplefilter("ignore")
    from google import genai
    from google.genai import errors, types
    from google.oauth2.credentials import Credentials

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "llm"))

from made_streams import (
    MODEL,
    NAME,
    ask,
    calls,
    count_ask,
    ending,
    event,
    heard,
    model,
    text,
    thinking,
    thoughts,
    upstream,
    usage,
    user,
    vertex_at,
)

from gateway.terms.conversation import (
    ChoiceConstraint,
    Choosing,
    Finish,
    Function,
    FunctionResult,
    Generation,
    JsonSchemaConstraint,
    Thinking,
)
from gateway.terms.faults import Fault as Broken
from gateway.terms.faults import UpstreamError
from localcloud.vertex import Fault, VertexConfig, VertexDouble
from localcloud.vertex.faults import Params

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    # The client keeps sessions open until it is collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


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


@pytest.fixture
async def double():
    async with VertexDouble(VertexConfig(allow_any_token=True, cache_from=1000)) as upstream:
        yield upstream


@pytest.fixture
async def vertex(double):
    async with vertex_at(double.url) as adapter:
        yield adapter


def client_at(url):
    return genai.Client(
        vertexai=True,
        project="p",
        location="us-central1",
        credentials=Credentials(token="t"),
        http_options=types.HttpOptions(base_url=url, api_version="v1", timeout=10_000),
    )


@pytest.fixture
async def client(double):
    made = client_at(double.url)
    yield made
    await made.aio.aclose()


async def theirs(client, contents, **config):
    stream = await client.aio.models.generate_content_stream(
        model=NAME, contents=contents, config=types.GenerateContentConfig(**({"max_output_tokens": 8192} | config))
    )
    chunks = [chunk async for chunk in stream]
    parts = [
        part
        for chunk in chunks
        for candidate in chunk.candidates or []
        for part in (candidate.content.parts if candidate.content else None) or []
    ]
    reasons = [candidate.finish_reason for chunk in chunks for candidate in chunk.candidates or []]
    blocked = [chunk.prompt_feedback.block_reason for chunk in chunks if chunk.prompt_feedback]
    told = chunks[-1].usage_metadata
    thinking_tokens = told.thoughts_token_count or 0
    return parts, Said(
        text="".join(part.text for part in parts if part.text and not part.thought),
        thoughts="".join(part.text for part in parts if part.text and part.thought),
        calls=tuple((part.function_call.name, part.function_call.args) for part in parts if part.function_call),
        signatures=tuple(part.thought_signature for part in parts if part.thought_signature),
        finish=next(reason.value for reason in [*blocked, *reasons] if reason is not None),
        version=chunks[-1].model_version,
        input_tokens=told.prompt_token_count,
        output_tokens=(told.candidates_token_count or 0) + thinking_tokens,
        thinking_tokens=thinking_tokens,
        cached_tokens=told.cached_content_token_count or 0,
    )


async def ours(vertex, asked):
    chunks = await heard(vertex, asked)
    told, end = usage(chunks), ending(chunks)
    return chunks, Said(
        text=text(chunks),
        thoughts=thoughts(chunks),
        calls=tuple((call.name, json.loads(call.arguments_json)) for call in calls(chunks)),
        signatures=tuple(chunk.signature for chunk in chunks if getattr(chunk, "signature", b"")),
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
        ("@echo\nGrüße, π ☃ 🙂 \u2028 end\r\n\r\ndata: x", {}, {}),
        ("@pace deltas=40 size=3\nhello", {"system": "Be brief."}, {"system_instruction": "Be brief."}),
        ("hello", {"max_output_tokens": 7}, {"max_output_tokens": 7}),
        (
            "@echo\nalpha beta gamma",
            {"generation": Generation(stop_sequences=("beta",), temperature=0.5, seed=3)},
            {"stop_sequences": ["beta"], "temperature": 0.5, "seed": 3},
        ),
        (
            "think about it",
            {"generation": thinking(thinking=Thinking.HIGH)},
            {"thinking_config": types.ThinkingConfig(include_thoughts=True, thinking_level="HIGH")},
        ),
        (
            "think in silence",
            {"generation": Generation(thinking=Thinking.MEDIUM)},
            {"thinking_config": types.ThinkingConfig(thinking_level="MEDIUM")},
        ),
        (
            "a plan",
            {"constraint": JsonSchemaConstraint(schema_json=json.dumps(SCHEMA))},
            {"response_mime_type": "application/json", "response_json_schema": SCHEMA},
        ),
        (
            "choose",
            {"constraint": ChoiceConstraint(texts=("hold, now", "sell"))},
            {
                "response_mime_type": "text/x.enum",
                "response_schema": types.Schema(type=types.Type.STRING, enum=["hold, now", "sell"]),
            },
        ),
        ("@block reason=PROHIBITED_CONTENT\nhello", {}, {}),
        ("@finish reason=SAFETY after=5\nhello", {}, {}),
        ("@finish reason=RECITATION\nhello", {}, {}),
    ],
)
async def test_the_same_is_heard(vertex, client, prompt, mine, oracle):
    _, them = await theirs(client, prompt, **oracle)
    _, us = await ours(vertex, ask(prompt, **mine))
    assert us == them


async def test_cached_tokens_are_the_same(vertex, client):
    prompt = "word " * 1200
    await ours(vertex, ask(prompt))
    _, them = await theirs(client, prompt)
    _, us = await ours(vertex, ask(prompt))
    assert us == them
    assert us.cached_tokens > 0


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
TOOL = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name="place_order", description="Places.", parameters_json_schema=PARAMETERS)
    ]
)
NO_LOOP = types.AutomaticFunctionCallingConfig(disable=True)


@pytest.mark.parametrize(
    "prompt", ["buy 5 AAPL", "buy 5 AAPL and sell 2 MSFT at 410.50", "buy 1 AAPL then sell 1 AAPL then buy 3 MSFT"]
)
async def test_a_round_trip_of_function_calls(vertex, client, prompt):
    """Every step of both: calls, their signatures, results, and at last the text; the histories grow side by side."""
    contents, turns = [types.UserContent(prompt)], [user(prompt)]
    for _ in range(5):
        parts, them = await theirs(client, contents, tools=[TOOL], automatic_function_calling=NO_LOOP)
        chunks, us = await ours(vertex, ask(*turns, functions=(ORDER,)))
        assert us == them
        asked = calls(chunks)
        if not asked:
            break
        assert ending(chunks).finish is Finish.TOOL_CALLS
        results = [{"status": "filled", "of": args} for _, args in them.calls]
        contents += [
            types.Content(role="model", parts=parts),
            types.UserContent(
                [
                    types.Part.from_function_response(name=name, response=result)
                    for (name, _), result in zip(them.calls, results, strict=True)
                ]
            ),
        ]
        given = [
            FunctionResult(call_id=call.id, name=call.name, result_json=json.dumps(result))
            for call, result in zip(asked, results, strict=True)
        ]
        turns += [model(*asked), user(*reversed(given))]
    assert "filled" in us.text
    assert us.finish == "STOP"


async def test_a_forced_call(vertex, client):
    calling = types.FunctionCallingConfig(mode="ANY", allowed_function_names=["place_order"])
    _, them = await theirs(
        client,
        "hello",
        tools=[TOOL],
        tool_config=types.ToolConfig(function_calling_config=calling),
        automatic_function_calling=NO_LOOP,
    )
    forced = ask("hello", functions=(ORDER,), choosing=Choosing.ANY, allowed_functions=("place_order",))
    _, us = await ours(vertex, forced)
    assert us == them
    assert len(us.calls) == 1


async def test_the_same_count(vertex, client):
    config = types.CountTokensConfig(system_instruction="Be brief.", tools=[TOOL])
    them = await client.aio.models.count_tokens(model=NAME, contents="Why is the sky blue?", config=config)
    us = await vertex.count(MODEL, count_ask("Why is the sky blue?", system="Be brief.", functions=(ORDER,)))
    assert us == them.total_tokens


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
async def test_the_same_refusals(double, vertex, client, code, broken):
    double.faults.add([Fault(kind="status", count=2, params=Params(code=code, message="no luck"))])
    with pytest.raises(errors.APIError) as them:
        await theirs(client, "hello")
    with pytest.raises(UpstreamError) as us:
        await heard(vertex, ask("hello"))
    assert them.value.code == code
    assert us.value.fault is broken
    assert us.value.detail == f"{code} {them.value.status}: {them.value.message}"


async def test_what_they_do_not_notice_is_an_error_here(double, vertex, client):
    """A stream that is cut between two events looks like a short answer to who does not ask for its finish reason."""
    for _ in range(2):
        double.faults.add([Fault(kind="truncate_after_n", params=Params(n=2))])
    stream = await client.aio.models.generate_content_stream(model=NAME, contents="@pace deltas=4\nhello")
    assert [chunk.candidates[0].finish_reason async for chunk in stream] == [None, None]
    with pytest.raises(UpstreamError) as us:
        await heard(vertex, ask("@pace deltas=4\nhello"))
    assert us.value.fault is Broken.TRUNCATED


# Generated streams, played to both over the same socket.

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SIGNED = st.sampled_from([b"", b"sig", b"\x00\xff"])
JSON = st.dictionaries(
    st.text(max_size=5), st.recursive(st.booleans() | st.integers(-9, 9) | WORDS, st.lists, max_leaves=5), max_size=3
)
PARTS = st.lists(st.one_of(st.tuples(st.booleans(), WORDS, SIGNED), st.tuples(st.none(), JSON, SIGNED)), max_size=6)
TOKENS = st.integers(0, 10_000)


def as_part(thought, content, signature):
    part = {"functionCall": {"name": "f", "args": content}} if thought is None else {"text": content}
    if thought:
        part["thought"] = True
    if signature:
        part["thoughtSignature"] = base64.b64encode(signature).decode()
    return part


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    events=st.lists(PARTS, min_size=1, max_size=4),
    told=st.fixed_dictionaries(
        {
            **dict.fromkeys(["prompt", "cached", "candidates", "thoughts"], TOKENS),
            "reason": st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "MODEL_ARMOR", "BRAND_NEW"]),
        }
    ),
    size=st.integers(1, 200),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_stream_is_heard_the_same(events, told, size):
    documents = [
        {"candidates": [{"content": {"role": "model", "parts": [as_part(*part) for part in parts]}}]}
        for parts in events
    ]
    documents[-1]["candidates"][0]["finishReason"] = told["reason"]
    documents[-1]["modelVersion"] = "gemini-x"
    documents[-1]["usageMetadata"] = {
        "promptTokenCount": told["prompt"] + 1,
        "cachedContentTokenCount": min(told["cached"], told["prompt"]),
        "candidatesTokenCount": told["candidates"],
        "thoughtsTokenCount": told["thoughts"],
    }
    wire = b"".join(event(document) for document in documents)

    async def play(exchange):
        await exchange.start()
        for start in range(0, len(wire), size * 10):
            await exchange.chunk(wire[start : start + size * 10])
        await exchange.end()

    async def both():
        async with upstream(play) as server, vertex_at(server.url) as adapter:
            made = client_at(server.url)
            _, them = await theirs(made, "hi")
            await made.aio.aclose()
            _, us = await ours(adapter, ask("hi", max_output_tokens=20_000))
        return them, us

    them, us = asyncio.run(both())
    assert us == them
