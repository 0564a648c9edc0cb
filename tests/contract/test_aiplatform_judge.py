"""The vendor's google-cloud-aiplatform judges the Vertex AI double: its REST clients, and its message descriptors."""

import asyncio
import sys
import warnings

import pytest
from google.auth.credentials import AnonymousCredentials

with warnings.catch_warnings():
    # The vendor's packages warn about themselves while they are imported.
    warnings.simplefilter("ignore")
    from google.api_core import exceptions
    from google.cloud.aiplatform_v1 import types
    from google.cloud.aiplatform_v1.services.llm_utility_service import LlmUtilityServiceClient
    from google.cloud.aiplatform_v1.services.llm_utility_service.transports.rest import LlmUtilityServiceRestTransport
    from google.cloud.aiplatform_v1.services.prediction_service import PredictionServiceClient
    from google.cloud.aiplatform_v1.services.prediction_service.transports.rest import PredictionServiceRestTransport

from localcloud.vertex import Fault, Principal, VertexConfig, VertexDouble
from localcloud.vertex.bearer import CLOUD_PLATFORM
from localcloud.vertex.faults import Params
from localcloud.vertex.shapes import ENUM_NUMBERS, MESSAGES, ONEOFS

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MODEL = "projects/p/locations/us-central1/publishers/google/models/gemini-3.5-flash"
TOKEN = "ya29.local"

outside: list[str] = []


def note_addresses(event, arguments):
    """Note every address outside loopback that a socket is told to reach."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", "localhost", "::1", b"127.0.0.1", None):
        outside.append(str(host))


sys.addaudithook(note_addresses)


@pytest.fixture(autouse=True)
def nothing_leaves_loopback():
    outside.clear()
    yield
    assert outside == []


class StaticToken(AnonymousCredentials):
    """A fixed access token. `before_request` of ordinary credentials asks the vendor's servers in the background."""

    def __init__(self, token):
        super().__init__()
        self.fixed = token

    def refresh(self, _request):
        """A fixed token stays what it is; the client asks for another one after a 401."""

    def before_request(self, _request, _method, _url, headers):
        headers["authorization"] = f"Bearer {self.fixed}"


async def only_the_token(token):
    if token != TOKEN:
        return None
    return Principal(email="sa-gateway@p.example", scope=CLOUD_PLATFORM, expires=4e9)


@pytest.fixture
async def vertex():
    async with VertexDouble(VertexConfig(token_check=only_the_token)) as double:
        yield double


def transport(kind, vertex, token=TOKEN):
    host = vertex.url.removeprefix("http://")
    return kind(host=host, url_scheme="http", credentials=StaticToken(token))


@pytest.fixture
async def client(vertex):
    with PredictionServiceClient(transport=transport(PredictionServiceRestTransport, vertex)) as made:
        yield made


def request(text="hello", **more):
    contents = [types.Content(role="user", parts=[types.Part(text=text)])]
    return types.GenerateContentRequest(model=MODEL, contents=contents, **more)


async def generate(client, asked):
    return await asyncio.to_thread(client.generate_content, asked)


async def stream(client, asked):
    return await asyncio.to_thread(lambda: list(client.stream_generate_content(asked)))


async def test_generate_content(client, vertex):
    answer = await generate(client, request())
    candidate = answer.candidates[0]
    assert candidate.finish_reason is types.Candidate.FinishReason.STOP
    assert candidate.content.role == "model"
    assert candidate.content.parts[0].text.endswith(".")
    assert answer.model_version == "gemini-3.5-flash"
    assert answer.create_time.year >= 2026
    usage = answer.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count > 0
    assert usage.traffic_type is types.GenerateContentResponse.UsageMetadata.TrafficType.ON_DEMAND
    assert vertex.journal.entries[-1].caller == "sa-gateway@p.example"


async def test_stream_generate_content(client):
    chunks = await stream(client, request('@pace deltas=9 interval_ms=1\n"quoted" {braces} [brackets]'))
    assert len(chunks) == 9
    assert chunks[-1].candidates[0].finish_reason is types.Candidate.FinishReason.STOP
    assert chunks[-1].usage_metadata.candidates_token_count == 45


async def test_an_echo_survives_the_clients_own_parser_of_arrays(client):
    words = 'a "b" {c} [d] \\ e, Grüße 日本'
    chunks = await stream(client, request(f"@echo\n{words}"))
    assert "".join(chunk.candidates[0].content.parts[0].text for chunk in chunks) == words


async def test_count_tokens(client, vertex):
    with LlmUtilityServiceClient(transport=transport(LlmUtilityServiceRestTransport, vertex)) as counter:
        asked = types.CountTokensRequest(endpoint=MODEL, contents=request("Why is the sky blue?").contents)
        counted = await asyncio.to_thread(counter.count_tokens, asked)
    answered = await generate(client, request("Why is the sky blue?"))
    assert counted.total_tokens == answered.usage_metadata.prompt_token_count == 6
    assert counted.total_billable_characters == 16
    assert counted.prompt_tokens_details[0].modality is types.Modality.TEXT


def tools():
    schema = types.Schema(
        type_=types.Type.OBJECT,
        properties={
            "symbol": types.Schema(type_=types.Type.STRING, max_length=8),
            "side": types.Schema(type_=types.Type.STRING, enum=["buy", "sell"]),
            "qty": types.Schema(type_=types.Type.INTEGER, minimum=1),
        },
        required=["symbol", "side", "qty"],
    )
    return [types.Tool(function_declarations=[types.FunctionDeclaration(name="place_order", parameters=schema)])]


async def test_function_calling_both_rounds(client):
    first = await generate(client, request("buy 5 AAPL", tools=tools()))
    called = first.candidates[0].content
    assert called.parts[0].function_call.name == "place_order"
    assert dict(called.parts[0].function_call.args) == {"symbol": "AAPL", "side": "buy", "qty": 5.0}
    assert called.parts[0].thought_signature
    result = types.FunctionResponse(name="place_order", response={"id": "o-1", "filled": 5})
    history = [
        *request("buy 5 AAPL").contents,
        called,
        types.Content(role="user", parts=[types.Part(function_response=result)]),
    ]
    asked = types.GenerateContentRequest(model=MODEL, contents=history, tools=tools())
    second = await generate(client, asked)
    # The client keeps the result in a protobuf map, whose order on the wire is anybody's guess.
    told = second.candidates[0].content.parts[0].text
    assert told in {"place_order answered: id = o-1, filled = 5.", "place_order answered: filled = 5, id = o-1."}
    called.parts[0].thought_signature = b""
    forgotten = types.GenerateContentRequest(model=MODEL, contents=[history[0], called, history[2]], tools=tools())
    with pytest.raises(exceptions.BadRequest, match="missing a `thought_signature`"):
        await generate(client, forgotten)


async def test_settings_with_numbers_for_enums(client):
    config = types.GenerationConfig(
        temperature=0.0,
        max_output_tokens=40,
        response_mime_type="application/json",
        response_schema=types.Schema(
            type_=types.Type.ARRAY, min_items=2, max_items=2, items=types.Schema(type_=types.Type.BOOLEAN)
        ),
        thinking_config=types.GenerationConfig.ThinkingConfig(
            thinking_level=types.GenerationConfig.ThinkingConfig.ThinkingLevel.LOW
        ),
    )
    mode = types.FunctionCallingConfig(mode=types.FunctionCallingConfig.Mode.NONE)
    asked = request(
        "buy 5 AAPL",
        generation_config=config,
        tools=tools(),
        tool_config=types.ToolConfig(function_calling_config=mode),
    )
    answer = await generate(client, asked)
    assert answer.candidates[0].content.parts[0].text in (
        "[true,true]",
        "[true,false]",
        "[false,true]",
        "[false,false]",
    )
    assert answer.usage_metadata.thoughts_token_count == 12


async def test_refusals_and_unsafe_answers(client):
    blocked = await generate(client, request("@block reason=JAILBREAK\nhi"))
    reasons = types.GenerateContentResponse.PromptFeedback.BlockedReason
    assert blocked.prompt_feedback.block_reason is reasons.JAILBREAK
    unsafe = await stream(client, request("@finish reason=SAFETY after=3\nhi"))
    assert unsafe[-1].candidates[0].finish_reason is types.Candidate.FinishReason.SAFETY


async def test_quota_errors_come_with_their_details(client, vertex):
    for call in (generate, stream):
        vertex.faults.add([Fault(kind="status", params=Params(code=429, retry_after_s=7))])
        with pytest.raises(exceptions.TooManyRequests) as caught:
            await call(client, request())
        assert caught.value.details[0]["retryDelay"] == "7s"


async def test_strangers_and_retired_models_are_refused(client, vertex):
    with (
        PredictionServiceClient(
            transport=transport(PredictionServiceRestTransport, vertex, token="ya29.stolen")
        ) as stranger,
        pytest.raises(exceptions.Unauthorized) as caught,
    ):
        await generate(stranger, request())
    assert caught.value.reason == "ACCESS_TOKEN_TYPE_UNSUPPORTED"
    asked = request()
    asked.model = MODEL.replace("gemini-3.5-flash", "gemini-2.0-flash")
    with pytest.raises(exceptions.NotFound):
        await generate(client, asked)


# The tables of `shapes` against the vendor's descriptors.

SCALARS = {1: "number", 2: "number", 3: "int64", 5: "int32", 8: "bool", 9: "string", 12: "bytes"}
VENDOR = {
    "Blob": types.Blob,
    "CodeExecutionResult": types.CodeExecutionResult,
    "Content": types.Content,
    "CountTokensRequest": types.CountTokensRequest,
    "ExecutableCode": types.ExecutableCode,
    "FileData": types.FileData,
    "FunctionCall": types.FunctionCall,
    "FunctionCallingConfig": types.FunctionCallingConfig,
    "FunctionDeclaration": types.FunctionDeclaration,
    "FunctionResponse": types.FunctionResponse,
    "GenerateContentRequest": types.GenerateContentRequest,
    "GenerationConfig": types.GenerationConfig,
    "Part": types.Part,
    "SafetySetting": types.SafetySetting,
    "Schema": types.Schema,
    "ThinkingConfig": types.GenerationConfig.ThinkingConfig,
    "Tool": types.Tool,
    "ToolConfig": types.ToolConfig,
}
ENUMS = {
    "BlockedReason": types.GenerateContentResponse.PromptFeedback.BlockedReason,
    "ContentModality": types.Modality,
    "FinishReason": types.Candidate.FinishReason,
    "HarmBlockMethod": types.SafetySetting.HarmBlockMethod,
    "HarmBlockThreshold": types.SafetySetting.HarmBlockThreshold,
    "HarmCategory": types.HarmCategory,
    "HarmProbability": types.SafetyRating.HarmProbability,
    "Language": types.ExecutableCode.Language,
    "MediaResolution": types.GenerationConfig.MediaResolution,
    "Modality": types.GenerationConfig.Modality,
    "Mode": types.FunctionCallingConfig.Mode,
    "Outcome": types.CodeExecutionResult.Outcome,
    "ThinkingLevel": types.GenerationConfig.ThinkingConfig.ThinkingLevel,
    "TrafficType": types.GenerateContentResponse.UsageMetadata.TrafficType,
    "Type": types.Type,
}


def declared(field):
    """A vendor's field in the words of `shapes`."""
    message = field.message_type
    if message is None:
        name = f"enum:{field.enum_type.name}" if field.enum_type is not None else SCALARS[field.type]
    elif message.GetOptions().map_entry:
        value = message.fields_by_name["value"].message_type
        return "map" if value is None else f"map:{value.name}"
    else:
        name = {"Struct": "struct", "Value": "value"}.get(message.name, message.name)
    return name + ("[]" if field.is_repeated else "")


def test_every_message_and_enum_is_judged():
    assert set(VENDOR) == set(MESSAGES)
    assert set(ENUMS) == set(ENUM_NUMBERS)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_messages_have_the_vendors_members(name):
    fields = VENDOR[name].pb(VENDOR[name]()).DESCRIPTOR.fields
    theirs = {field.json_name: declared(field) for field in fields}
    ours = MESSAGES[name]
    assert set(ours) == set(theirs)
    known = {member: type_ for member, type_ in ours.items() if not type_.startswith("opaque")}
    assert known == {member: theirs[member] for member in known}


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_oneofs_are_the_vendors(name):
    fields = VENDOR[name].pb(VENDOR[name]()).DESCRIPTOR.fields
    theirs = {
        field.json_name: field.containing_oneof.name
        for field in fields
        if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1
    }
    assert ONEOFS.get(name, {}) == theirs


@pytest.mark.parametrize("name", sorted(ENUM_NUMBERS))
def test_enums_have_the_vendors_numbers(name):
    assert ENUM_NUMBERS[name] == {member.name: member.value for member in ENUMS[name]}
