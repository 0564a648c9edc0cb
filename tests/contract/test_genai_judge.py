"""The vendor's google-genai client judges the Vertex AI double: what it rejects is a defect of the double."""

import asyncio
import contextlib
import sys
import warnings

import pytest

with warnings.catch_warnings():
    # The vendor's packages warn about themselves while they are imported.
    warnings.simplefilter("ignore")
    from google import genai
    from google.genai import errors, types
    from google.oauth2.credentials import Credentials

import pydantic

from localcloud.vertex import Fault, Principal, VertexConfig, VertexDouble
from localcloud.vertex.bearer import CLOUD_PLATFORM
from localcloud.vertex.faults import Params

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    # The client keeps sessions open until it is collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODEL = "gemini-3.5-flash"
TOKEN = "ya29.local"

outside: list[str] = []


def watch(event, arguments):
    """Note every address outside loopback that a socket is told to reach."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", "localhost", "::1", b"127.0.0.1", None):
        outside.append(str(host))


sys.addaudithook(watch)


@pytest.fixture(autouse=True)
def nothing_leaves_loopback():
    outside.clear()
    yield
    assert outside == []


async def only_the_token(token):
    if token != TOKEN:
        return None
    return Principal(email="sa-gateway@p.example", scope=CLOUD_PLATFORM, expires=4e9)


@pytest.fixture
async def vertex():
    config = VertexConfig(token_check=only_the_token, models=(MODEL, "gemini-2.5-pro"))
    async with VertexDouble(config) as double:
        yield double


def new_client(url, token=TOKEN, version="v1"):
    return genai.Client(
        vertexai=True,
        project="p",
        location="us-central1",
        credentials=Credentials(token=token),
        http_options=types.HttpOptions(base_url=url, api_version=version, timeout=10_000),
    )


@pytest.fixture
async def client(vertex):
    made = new_client(vertex.url)
    yield made
    await made.aio.aclose()


async def stream(client, contents, config=None, model=MODEL):
    return [
        chunk
        async for chunk in await client.aio.models.generate_content_stream(
            model=model, contents=contents, config=config
        )
    ]


async def test_generate_content(client, vertex):
    answer = await client.aio.models.generate_content(model=MODEL, contents="Why is the sky blue?")
    assert answer.text.endswith(".")
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP
    assert answer.model_version == MODEL
    assert answer.response_id
    assert answer.create_time.year >= 2026
    usage = answer.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count
    assert usage.traffic_type is types.TrafficType.ON_DEMAND
    assert usage.prompt_tokens_details[0].modality is types.MediaModality.TEXT
    assert vertex.journal.entries[-1].caller == "sa-gateway@p.example"


async def test_the_synchronous_client_too(vertex):
    with new_client(vertex.url) as client:
        answer = await asyncio.to_thread(client.models.generate_content, model=MODEL, contents="hello")
        again = await asyncio.to_thread(client.models.generate_content, model=MODEL, contents="hello")
        chunks = await asyncio.to_thread(
            lambda: list(client.models.generate_content_stream(model=MODEL, contents="@pace deltas=5\nhello"))
        )
    assert answer.text == again.text
    assert len(chunks) == 5


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_generate_content_stream(vertex, version):
    client = new_client(vertex.url, version=version)
    chunks = await stream(client, "@pace deltas=12 interval_ms=1 size=4\nhello")
    assert len(chunks) == 12
    assert all(chunk.text for chunk in chunks)
    assert [chunk.candidates[0].finish_reason for chunk in chunks[:-1]] == [None] * 11
    assert chunks[-1].candidates[0].finish_reason is types.FinishReason.STOP
    assert chunks[-1].usage_metadata.candidates_token_count == 48
    assert len({chunk.response_id for chunk in chunks}) == 1
    await client.aio.aclose()


async def test_count_tokens(client):
    counted = await client.aio.models.count_tokens(model=MODEL, contents="Why is the sky blue?")
    answered = await client.aio.models.generate_content(model=MODEL, contents="Why is the sky blue?")
    assert counted.total_tokens == answered.usage_metadata.prompt_token_count == 6
    config = types.CountTokensConfig(system_instruction="Be brief.", tools=[order_tool()])
    more = await client.aio.models.count_tokens(model=MODEL, contents="Why is the sky blue?", config=config)
    assert more.total_tokens > counted.total_tokens


async def test_settings_of_every_kind_are_understood(client):
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        max_output_tokens=8,
        stop_sequences=["never"],
        presence_penalty=0.5,
        frequency_penalty=0.5,
        seed=7,
        labels={"team": "a"},
        safety_settings=[
            types.SafetySetting(
                category=types.HarmCategory.HARM_CATEGORY_HATE_SPEECH,
                threshold=types.HarmBlockThreshold.BLOCK_NONE,
            )
        ],
        thinking_config=types.ThinkingConfig(include_thoughts=False, thinking_level="MINIMAL"),
    )
    answer = await client.aio.models.generate_content(model=MODEL, contents="hello", config=config)
    assert answer.candidates[0].finish_reason is types.FinishReason.MAX_TOKENS
    assert answer.usage_metadata.candidates_token_count == 8


def order_tool():
    parameters = {
        "type": "object",
        "properties": {
            "symbol": {"type": "string"},
            "side": {"type": "string", "enum": ["buy", "sell"]},
            "qty": {"type": "integer"},
        },
        "required": ["symbol", "side", "qty"],
    }
    return types.Tool(
        function_declarations=[
            types.FunctionDeclaration(
                name="place_order", description="Places an order.", parameters_json_schema=parameters
            ),
            types.FunctionDeclaration(
                name="get_position",
                parameters=types.Schema(
                    type=types.Type.OBJECT, properties={"symbol": types.Schema(type=types.Type.STRING)}
                ),
            ),
        ]
    )


NO_LOOP = types.AutomaticFunctionCallingConfig(disable=True)


async def test_function_calling_both_rounds(client):
    config = types.GenerateContentConfig(tools=[order_tool()], automatic_function_calling=NO_LOOP)
    contents = [types.UserContent("buy 5 AAPL and what is my position in MSFT?")]
    first = await client.aio.models.generate_content(model=MODEL, contents=contents, config=config)
    assert [(call.name, call.args) for call in first.function_calls] == [
        ("place_order", {"symbol": "AAPL", "side": "buy", "qty": 5}),
        ("get_position", {"symbol": "MSFT"}),
    ]
    parts = first.candidates[0].content.parts
    assert [part.thought_signature is not None for part in parts] == [True, False]
    contents += [
        first.candidates[0].content,
        types.Content(
            role="user",
            parts=[
                types.Part.from_function_response(name="place_order", response={"id": "o-1", "status": "filled"}),
                types.Part.from_function_response(name="get_position", response={"qty": 17}),
            ],
        ),
    ]
    second = await client.aio.models.generate_content(model=MODEL, contents=contents, config=config)
    assert second.text == "place_order answered: id = o-1, status = filled. get_position answered: qty = 17."


async def test_a_streamed_call_and_a_lost_signature(client):
    config = types.GenerateContentConfig(tools=[order_tool()], automatic_function_calling=NO_LOOP)
    chunks = await stream(client, "sell 2 MSFT, then buy 1 AAPL", config)
    (call,) = [call for chunk in chunks for call in chunk.function_calls or ()]
    history = [
        types.UserContent("sell 2 MSFT, then buy 1 AAPL"),
        types.Content(role="model", parts=[types.Part.from_function_call(name=call.name, args=call.args)]),
        types.Content(
            role="user", parts=[types.Part.from_function_response(name=call.name, response={"status": "filled"})]
        ),
    ]
    with pytest.raises(errors.ClientError) as caught:
        await client.aio.models.generate_content(model=MODEL, contents=history, config=config)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    assert "missing a `thought_signature`" in caught.value.message
    history[1].parts[0].thought_signature = b"skip_thought_signature_validator"
    following = await client.aio.models.generate_content(model=MODEL, contents=history, config=config)
    assert following.function_calls[0].args == {"symbol": "AAPL", "side": "buy", "qty": 1}


async def test_the_clients_own_loop_calls_real_functions(client):
    placed = []

    def place_order(symbol: str, side: str, qty: int) -> dict[str, str]:
        """Place an order."""
        placed.append((symbol, side, qty))
        return {"id": f"o-{len(placed)}", "status": "filled"}

    chat = client.aio.chats.create(model=MODEL, config=types.GenerateContentConfig(tools=[place_order]))
    answer = await chat.send_message("buy 5 AAPL, then sell 3 IBM")
    assert placed == [("AAPL", "buy", 5), ("IBM", "sell", 3)]
    assert "id = o-2" in answer.text
    assert (await chat.send_message("thank you")).text


async def test_the_mode_any_and_allowed_names(client):
    config = types.GenerateContentConfig(
        tools=[order_tool()],
        automatic_function_calling=NO_LOOP,
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(mode="ANY", allowed_function_names=["get_position"])
        ),
    )
    answer = await client.aio.models.generate_content(model=MODEL, contents="hello", config=config)
    assert [call.name for call in answer.function_calls] == ["get_position"]


class Verdict(pydantic.BaseModel):
    """An answer with a schema."""

    allowed: bool
    limit: int = pydantic.Field(ge=1, le=9)
    reasons: list[str]


@pytest.mark.parametrize("kind", ["response_schema", "response_json_schema"])
async def test_structured_answers(client, kind):
    schema = Verdict if kind == "response_schema" else Verdict.model_json_schema()
    config = types.GenerateContentConfig(response_mime_type="application/json", **{kind: schema})
    answer = await client.aio.models.generate_content(model=MODEL, contents="may I?", config=config)
    Verdict.model_validate_json(answer.text)
    chunks = await stream(client, "may I?", config)
    assert len(chunks) > 1
    Verdict.model_validate_json("".join(chunk.text for chunk in chunks))


async def test_thoughts(client):
    config = types.GenerateContentConfig(
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level="HIGH")
    )
    answer = await client.aio.models.generate_content(model=MODEL, contents="think", config=config)
    thought, text = answer.candidates[0].content.parts
    assert thought.thought
    assert text.thought_signature
    assert answer.text == text.text
    assert answer.usage_metadata.thoughts_token_count == 48
    older = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(thinking_budget=5, include_thoughts=True))
    answer = await client.aio.models.generate_content(model="gemini-2.5-pro", contents="think", config=older)
    assert answer.usage_metadata.thoughts_token_count == 5
    with pytest.raises(errors.ClientError, match="Thinking budget is not supported"):
        await client.aio.models.generate_content(model=MODEL, contents="think", config=older)


async def test_pictures_count_and_are_taken(client):
    contents = ["what is this?", types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png")]
    answer = await client.aio.models.generate_content(model=MODEL, contents=contents)
    details = {item.modality.value: item.token_count for item in answer.usage_metadata.prompt_tokens_details}
    assert details["IMAGE"] == 258


async def test_blocked_prompts_and_unsafe_answers(client):
    blocked = await client.aio.models.generate_content(model=MODEL, contents="@block reason=PROHIBITED_CONTENT\nhello")
    assert blocked.prompt_feedback.block_reason is types.BlockedReason.PROHIBITED_CONTENT
    assert blocked.candidates is None
    unsafe = await stream(client, "@finish reason=SAFETY after=5\nhello")
    assert unsafe[-1].candidates[0].finish_reason is types.FinishReason.SAFETY
    assert unsafe[-1].candidates[0].safety_ratings[0].blocked


async def test_a_repeated_long_beginning_is_cached(client):
    config = types.GenerateContentConfig(system_instruction="word " * 2000)
    first = await client.aio.models.generate_content(model=MODEL, contents="one", config=config)
    second = await client.aio.models.generate_content(model=MODEL, contents="two", config=config)
    assert first.usage_metadata.cached_content_token_count is None
    assert second.usage_metadata.cached_content_token_count == 2001


@pytest.mark.parametrize("code, status", [(429, "RESOURCE_EXHAUSTED"), (400, "INVALID_ARGUMENT"), (503, "UNAVAILABLE")])
async def test_errors(client, vertex, code, status):
    expected = errors.ClientError if code < 500 else errors.ServerError
    for streams in (False, True):
        vertex.faults.add([fault(code)])
        with pytest.raises(expected) as caught:
            await (stream(client, "hi") if streams else client.aio.models.generate_content(model=MODEL, contents="hi"))
        assert (caught.value.code, caught.value.status) == (code, status)
        assert caught.value.details["error"]["details"][0]["retryDelay"] == "7s"


def fault(code):
    return Fault(kind="status", params=Params(code=code, retry_after_s=7))


async def test_the_clients_own_retries_get_through(vertex):
    options = types.HttpOptions(
        base_url=vertex.url,
        api_version="v1",
        retry_options=types.HttpRetryOptions(attempts=3, initial_delay=0.001, max_delay=0.002, jitter=0.0),
    )
    client = genai.Client(
        vertexai=True, project="p", location="global", credentials=Credentials(token=TOKEN), http_options=options
    )
    vertex.faults.add([Fault(kind="status", count=2)])
    assert (await client.aio.models.generate_content(model=MODEL, contents="hi")).text
    assert [entry.status for entry in vertex.journal.entries] == [503, 503, 200]
    await client.aio.aclose()


async def test_retired_models_and_strangers_are_refused(vertex, client):
    with pytest.raises(errors.ClientError) as caught:
        await client.aio.models.generate_content(model="gemini-2.0-flash", contents="hi")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    stranger = new_client(vertex.url, token="ya29.stolen")
    with pytest.raises(errors.ClientError) as caught:
        await stranger.aio.models.generate_content(model=MODEL, contents="hi")
    assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")
    await stranger.aio.aclose()


async def test_a_client_that_stops_reading_is_noticed(client, vertex):
    chunks = await client.aio.models.generate_content_stream(
        model=MODEL, contents="@pace deltas=5000 interval_ms=2\nhello"
    )
    async with contextlib.aclosing(chunks):
        await anext(aiter(chunks))
    await client.aio.aclose()
    entry = vertex.journal.entries[-1]
    async with asyncio.timeout(2):
        while entry.ending == "open":  # noqa: ASYNC110 - the journal has no event to wait for
            await asyncio.sleep(0.001)
    assert entry.client_left
    assert entry.chunks_sent < 5000
