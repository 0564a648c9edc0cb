"""A chat/completions request, read strictly into a prompt: what is not known here is refused.

Source: the request types of the vendor's own client, and vLLM's documentation for what it adds (`top_k`,
`structured_outputs`).
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import msgspec

from localcloud.vertex.conversation import check_signatures
from localcloud.vertex.errors import invalid
from localcloud.vertex.jsontypes import JsonObject, as_object
from localcloud.vertex.prompt import Call, Function, Media, Part, Prompt, Result, Settings, Text, Tooling, Turn
from localcloud.vertex.signature import Seal

LEVELS = {"none": "", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _TextPart(_Strict, tag="text", kw_only=True):
    text: str


class _Url(_Strict, kw_only=True):
    url: str
    detail: str = "auto"


class _ImagePart(_Strict, tag="image_url", kw_only=True):
    image_url: _Url


class _CalledFunction(_Strict, kw_only=True):
    name: str
    arguments: str


class _Google(_Strict, kw_only=True):
    thought_signature: str = ""


class _Extra(_Strict, kw_only=True):
    google: _Google = msgspec.field(default_factory=_Google)


class _ToolCall(_Strict, kw_only=True):
    id: str
    type: Literal["function"]
    function: _CalledFunction
    extra_content: _Extra | None = None


class _System(_Strict, tag_field="role", tag="system", kw_only=True):
    content: str


class _User(_Strict, tag_field="role", tag="user", kw_only=True):
    content: str | list[_TextPart | _ImagePart]


class _Assistant(_Strict, tag_field="role", tag="assistant", kw_only=True):
    content: str | None = None
    tool_calls: list[_ToolCall] = []


class _Tool(_Strict, tag_field="role", tag="tool", kw_only=True):
    tool_call_id: str
    content: str


_Message = _System | _User | _Assistant | _Tool


class _Declared(_Strict, kw_only=True):
    name: Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_.-]{1,64}$")]
    description: str = ""
    parameters: dict[str, object] = {}
    strict: bool | None = None


class _Declaration(_Strict, kw_only=True):
    type: Literal["function"]
    function: _Declared


class _Named(_Strict, kw_only=True):
    name: str


class _NamedChoice(_Strict, kw_only=True):
    type: Literal["function"]
    function: _Named


class _JsonSchema(_Strict, kw_only=True):
    name: str
    schema: dict[str, object]
    strict: bool | None = None
    description: str = ""


class _ResponseFormat(_Strict, kw_only=True):
    type: Literal["json_schema", "json_object", "text"]
    json_schema: _JsonSchema | None = None


class _Structured(_Strict, kw_only=True):
    regex: str | None = None
    choice: list[str] | None = None


class _StreamOptions(_Strict, kw_only=True):
    include_usage: bool = False


class _Prompted(_Strict, kw_only=True):
    model: str
    messages: list[_Message]
    tools: list[_Declaration] = []


class _Asked(_Prompted, kw_only=True):
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    stop: str | list[str] = []
    n: Literal[1] = 1
    tool_choice: Literal["auto", "required", "none"] | _NamedChoice = "auto"
    parallel_tool_calls: bool = True
    response_format: _ResponseFormat | None = None
    structured_outputs: _Structured | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None


_Read = TypeVar("_Read", bound=_Prompted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A request, read."""

    prompt: Prompt
    stream: bool
    include_usage: bool


def read_chat(body: bytes, seal: Seal) -> Reading:
    """The prompt of chat/completions; 400 where it cannot be answered. `seal` made the signatures of Gemini's calls."""
    asked = _decoded(body, _Asked)
    if asked.stream_options is not None and not asked.stream:
        raise invalid("stream_options: only with stream")
    _check_extras(asked)
    prompt = Prompt(
        model=asked.model,
        system=_system(asked.messages),
        turns=_turns(asked.messages),
        tooling=_tooling(asked),
        settings=_settings(asked),
    )
    if is_gemini(asked.model):
        check_signatures(prompt.turns, seal)
    include = asked.stream_options is not None and asked.stream_options.include_usage
    return Reading(prompt=prompt, stream=asked.stream, include_usage=include or not asked.stream)


def is_gemini(model: str) -> bool:
    """Whether Google's endpoint serves it as one of its own."""
    return model.startswith("google/")


def _check_extras(asked: _Asked) -> None:
    """400 for Google's own members at another one's model: servers of the wire's plain form refuse what is not theirs.

    Source: Google's "OpenAI compatibility" page, on thought signatures.
    """
    calls = [call for message in asked.messages if isinstance(message, _Assistant) for call in message.tool_calls]
    if not is_gemini(asked.model) and any(call.extra_content is not None for call in calls):
        raise invalid("messages: tool_calls: extra_content: Extra inputs are not permitted")


def read_tokenize(body: bytes) -> Prompt:
    """The prompt of vLLM's tokenize."""
    asked = _decoded(body, _Prompted)
    functions = tuple(_function(tool.function) for tool in asked.tools)
    return Prompt(
        model=asked.model,
        system=_system(asked.messages),
        turns=_turns(asked.messages),
        tooling=Tooling(functions=functions),
        settings=Settings(),
    )


def _decoded(body: bytes, kind: type[_Read]) -> _Read:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise invalid(str(fault)) from None


def _system(messages: list[_Message]) -> str:
    return "\n".join(message.content for message in messages if isinstance(message, _System))


def _turns(messages: list[_Message]) -> tuple[Turn, ...]:
    """The messages as turns: results, and what the user says behind them, are one turn."""
    turns: list[Turn] = []
    waiting: dict[str, str] = {}
    for message in messages:
        if isinstance(message, _System):
            continue
        if waiting and not isinstance(message, _Tool):
            raise invalid("messages: an assistant message with tool_calls must be followed by a result for each")
        if isinstance(message, _Assistant):
            waiting = {call.id: call.function.name for call in message.tool_calls}
            turns.append(Turn(role="model", parts=_answered(message)))
            continue
        parts: tuple[Part, ...] = (_result(message, waiting),) if isinstance(message, _Tool) else _said(message)
        before = turns[-1] if turns else None
        if before is not None and before.role == "user" and before.results:
            turns[-1] = Turn(role="user", parts=before.parts + parts)
        else:
            turns.append(Turn(role="user", parts=parts))
    if waiting or not turns:
        raise invalid("messages: the last message asks for tools that nobody can answer, or there is none")
    return tuple(turns)


def _answered(message: _Assistant) -> tuple[Part, ...]:
    texts: list[Part] = [Text(text=message.content)] if message.content else []
    return (*texts, *(_call(call) for call in message.tool_calls))


def _call(call: _ToolCall) -> Call:
    try:
        arguments: object = msgspec.json.decode(call.function.arguments)
    except msgspec.DecodeError:
        raise invalid("messages: the arguments of a tool call are not JSON") from None
    extra = call.extra_content or _Extra()
    return Call(name=call.function.name, arguments=as_object(arguments), signature=_signature(extra))


def _signature(extra: _Extra) -> str:
    """In the standard alphabet, as Google reads bytes in either; 400 for what is no base64."""
    told = extra.google.thought_signature.replace("-", "+").replace("_", "/")
    try:
        base64.b64decode(told, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("messages: Base64 decoding failed for thought_signature") from None
    return told


def _result(message: _Tool, waiting: dict[str, str]) -> Result:
    if message.tool_call_id not in waiting:
        raise invalid("messages: a message with role 'tool' must be a response to a preceding tool call")
    try:
        response: JsonObject = as_object(msgspec.json.decode(message.content))
    except msgspec.DecodeError:
        response = {"output": message.content}
    return Result(name=waiting.pop(message.tool_call_id), response=response)


def _said(message: _User) -> tuple[Part, ...]:
    if isinstance(message.content, str):
        return (Text(text=message.content),)
    return tuple(
        Text(text=part.text) if isinstance(part, _TextPart) else _media(part.image_url.url) for part in message.content
    )


def _media(url: str) -> Media:
    kind = url.removeprefix("data:").partition(";")[0] if url.startswith("data:") else "image/png"
    if not (kind.startswith("image/") and url.startswith(("data:", "https://", "gs://"))):
        raise invalid("messages: image_url must be a data URL of an image, or a URL")
    return Media(mime_type=kind)


def _function(declared: _Declared) -> Function:
    return Function(name=declared.name, description=declared.description, schema=as_object(dict(declared.parameters)))


def _tooling(asked: _Asked) -> Tooling:
    functions = tuple(_function(tool.function) for tool in asked.tools)
    choice = asked.tool_choice
    if isinstance(choice, _NamedChoice):
        if choice.function.name not in {function.name for function in functions}:
            raise invalid("tool_choice: names no tool")
        return Tooling(functions=functions, mode="ANY", allowed=(choice.function.name,))
    if choice == "required" and not functions:
        raise invalid("tool_choice: needs tools")
    return Tooling(functions=functions, mode=MODES[choice])


def _settings(asked: _Asked) -> Settings:
    mime_type, schema = _form(asked)
    return Settings(
        temperature=asked.temperature,
        max_output_tokens=asked.max_completion_tokens or asked.max_tokens,
        stop_sequences=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop),
        seed=asked.seed,
        mime_type=mime_type,
        schema=schema,
        include_thoughts=True,
        thinking_level=LEVELS[asked.reasoning_effort or "none"] or "MINIMAL",
    )


def _form(asked: _Asked) -> tuple[str, JsonObject | None]:
    """The MIME type and schema that hold the answer to its form."""
    structured, formatted = asked.structured_outputs, asked.response_format
    if structured is not None and structured.choice is not None:
        return "text/x.enum", {"type": "string", "enum": [*structured.choice]}
    if structured is not None and structured.regex is not None:
        return "text/x.enum", {"type": "string", "pattern": f"^(?:{structured.regex})$"}
    if formatted is not None and formatted.json_schema is not None:
        return "application/json", as_object(dict(formatted.json_schema.schema))
    if formatted is not None and formatted.type == "json_object":
        return "application/json", None
    return "text/plain", None
