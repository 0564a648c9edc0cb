"""A Messages request, read strictly into a prompt: what Anthropic's API refuses is refused here with its status.

Source: the request types of the vendor's own client. Members that only change what is cached or billed are taken and
passed over; what this server cannot do is refused.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import msgspec

from localcloud.vertex.errors import ApiError, invalid
from localcloud.vertex.jsontypes import JsonObject, as_object
from localcloud.vertex.prompt import Call, Function, Media, Part, Prompt, Result, Settings, Text, Tooling, Turn
from localcloud.vertex.signature import Seal

# What the API is documented with, and what the vendor's client of late 2026 sends.
VERSIONS = ("vertex-2023-10-16", "2026-10-21")
EFFORTS = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH", "max": "HIGH"}
MODES = {"auto": "AUTO", "any": "ANY", "tool": "ANY", "none": "NONE"}
MAGIC = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8", "image/gif": b"GIF8", "image/webp": b"RIFF"}
MAX_OUTPUT_TOKENS = 128_000
MIN_BUDGET = 1_024


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _Cached(_Strict, kw_only=True):
    cache_control: msgspec.Raw | None = None


class _TextBlock(_Cached, tag="text", kw_only=True):
    text: Annotated[str, msgspec.Meta(min_length=1)]
    citations: msgspec.Raw | None = None


class _Base64(_Strict, tag="base64", kw_only=True):
    media_type: str
    data: str


class _Plain(_Strict, tag="text", kw_only=True):
    media_type: Literal["text/plain"]
    data: str


class _Image(_Cached, tag="image", kw_only=True):
    source: _Base64


class _Document(_Cached, tag="document", kw_only=True):
    source: _Base64 | _Plain
    title: str | None = None
    context: str | None = None


class _Thinking(_Strict, tag="thinking", kw_only=True):
    thinking: str
    signature: str


class _Redacted(_Strict, tag="redacted_thinking", kw_only=True):
    data: str


class _ToolUse(_Cached, tag="tool_use", kw_only=True):
    id: Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_-]+$")]
    name: str
    input: dict[str, object]


class _ToolResult(_Cached, tag="tool_result", kw_only=True):
    tool_use_id: Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_-]+$")]
    content: str | list[_TextBlock] = ""
    is_error: bool = False


_Block = _TextBlock | _Image | _Document | _Thinking | _Redacted | _ToolUse | _ToolResult


class _Message(_Strict, kw_only=True):
    role: Literal["user", "assistant"]
    content: str | list[_Block]


class _Tool(_Cached, kw_only=True):
    name: Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_-]{1,128}$")]
    input_schema: dict[str, object]
    description: str = ""
    type: Literal["custom"] | None = None
    strict: bool = False
    eager_input_streaming: bool | None = None


class _ToolChoice(_Strict, kw_only=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool = False


class _ThinkingConfig(_Strict, kw_only=True):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] | None = None


class _Format(_Strict, kw_only=True):
    type: Literal["json_schema"]
    schema: dict[str, object]


class _OutputConfig(_Strict, kw_only=True):
    effort: str | None = None
    format: _Format | None = None


class _Counted(_Strict, kw_only=True):
    """What a count and an answer share."""

    anthropic_version: str = ""
    messages: list[_Message]
    system: str | list[_TextBlock] = ""
    tools: list[_Tool] = []
    tool_choice: _ToolChoice | None = None
    thinking: _ThinkingConfig | None = None
    output_config: _OutputConfig | None = None


class _Asked(_Counted, kw_only=True):
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=MAX_OUTPUT_TOKENS)]
    stream: bool = False
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    stop_sequences: list[str] = []
    metadata: msgspec.Raw | None = None


class _CountAsked(_Counted, kw_only=True):
    model: str


_Read = TypeVar("_Read", bound=_Counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A request, read: the prompt, and whether the answer comes as a stream."""

    prompt: Prompt
    stream: bool


def read_messages(body: bytes, model: str, seal: Seal) -> Reading:
    """The prompt of rawPredict and streamRawPredict; 400 where it cannot be answered."""
    asked = _decoded(body, _Asked)
    _check_thinking(asked)
    prompt = _prompt(asked, model, _settings(asked))
    _check_history(asked, seal)
    return Reading(prompt=prompt, stream=asked.stream)


def read_count(body: bytes) -> Prompt:
    """The prompt of count-tokens, which names its model in the body."""
    asked = _decoded(body, _CountAsked)
    return _prompt(asked, asked.model, Settings())


def _decoded(body: bytes, kind: type[_Read]) -> _Read:
    try:
        asked = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise invalid(str(fault)) from None
    if asked.anthropic_version not in VERSIONS:
        raise invalid(f"anthropic_version: Input should be one of {', '.join(VERSIONS)}")
    if not asked.messages or asked.messages[0].role != "user":
        raise invalid("messages: first message must use the user role")
    return asked


def _prompt(asked: _Counted, model: str, settings: Settings) -> Prompt:
    functions = tuple(
        Function(name=tool.name, description=tool.description, schema=as_object(tool.input_schema))
        for tool in asked.tools
    )
    choice = asked.tool_choice or _ToolChoice(type="auto")
    if choice.type in ("any", "tool") and not functions:
        raise invalid("tool_choice: needs tools")
    allowed = (choice.name,) if choice.type == "tool" else ()
    if allowed and choice.name not in {function.name for function in functions}:
        raise invalid(f"tool_choice: the tool {choice.name!r} is not among tools")
    names = {block.id: block.name for block in _blocks(asked) if isinstance(block, _ToolUse)}
    return Prompt(
        model=model,
        system=asked.system if isinstance(asked.system, str) else "\n".join(block.text for block in asked.system),
        turns=tuple(_turn(message, names) for message in asked.messages),
        tooling=Tooling(functions=functions, mode=MODES[choice.type], allowed=allowed),
        settings=settings,
    )


def _function(tool: _Tool) -> Function:
    return Function(name=tool.name, description=tool.description, schema=as_object(tool.input_schema))


def _blocks(asked: _Counted) -> list[_Block]:
    return [block for message in asked.messages if isinstance(message.content, list) for block in message.content]


def _turn(message: _Message, names: dict[str, str]) -> Turn:
    role = "user" if message.role == "user" else "model"
    if isinstance(message.content, str):
        return Turn(role=role, parts=(Text(text=message.content),))
    parts = tuple(_part(block, message.role, names) for block in message.content)
    return Turn(role=role, parts=parts)


def _part(block: _Block, role: str, names: dict[str, str]) -> Part:
    of = "assistant" if isinstance(block, _Thinking | _Redacted | _ToolUse) else "user"
    if not isinstance(block, _TextBlock) and role != of:
        raise invalid(f"messages: a block of this type may not stand in a message of the role {role}")
    if isinstance(block, _Image | _Document):
        return _file(block)
    match block:
        case _TextBlock():
            return Text(text=block.text)
        case _Thinking():
            return Text(text=block.thinking, thought=True)
        case _Redacted():
            return Text(text="", thought=True)
        case _ToolUse():
            return Call(name=block.name, arguments=as_object(block.input))
        case _ToolResult():
            return Result(name=names.get(block.tool_use_id, ""), response=_response(block))


def _file(block: _Image | _Document) -> Part:
    if isinstance(block.source, _Plain):
        return Text(text=block.source.data)
    return _media(block.source, MAGIC if isinstance(block, _Image) else {"application/pdf": b"%PDF-"})


def _media(source: _Base64, known: dict[str, bytes]) -> Media:
    if source.media_type not in known:
        raise invalid(f"source.media_type: Input should be one of {', '.join(known)}")
    try:
        data = base64.b64decode(source.data, validate=True)
    except binascii.Error:
        raise invalid("source.data: invalid base64 data") from None
    if not data.startswith(known[source.media_type]):
        raise invalid(f"the data does not appear to be of the media type {source.media_type}")
    return Media(mime_type=source.media_type)


def _response(block: _ToolResult) -> JsonObject:
    text = block.content if isinstance(block.content, str) else "\n".join(part.text for part in block.content)
    try:
        return as_object(msgspec.json.decode(text, type=dict[str, object]))
    except msgspec.DecodeError:
        return {"error" if block.is_error else "output": text}


def _settings(asked: _Asked) -> Settings:
    output = asked.output_config or _OutputConfig()
    thinking = asked.thinking or _ThinkingConfig(type="disabled")
    if output.effort is not None and output.effort not in EFFORTS:
        raise invalid(f"output_config.effort: Input should be one of {', '.join(EFFORTS)}")
    return Settings(
        temperature=asked.temperature,
        max_output_tokens=asked.max_tokens,
        stop_sequences=tuple(asked.stop_sequences),
        mime_type="application/json" if output.format else "text/plain",
        schema=as_object(output.format.schema) if output.format else None,
        include_thoughts=thinking.display == "summarized",
        thinking_level=EFFORTS[output.effort or "high"] if thinking.type == "adaptive" else "MINIMAL",
        thinking_budget=thinking.budget_tokens,
    )


def _check_thinking(asked: _Asked) -> None:
    thinking = asked.thinking
    if thinking is None or thinking.type == "disabled":
        return
    if thinking.type == "enabled" and not MIN_BUDGET <= (thinking.budget_tokens or 0) < asked.max_tokens:
        raise invalid(f"thinking.budget_tokens: must be at least {MIN_BUDGET} and less than max_tokens")
    if asked.temperature not in (None, 1) or asked.top_k is not None:
        raise invalid("temperature may only be set to 1 and top_k not at all when thinking is enabled")
    if asked.tool_choice is not None and asked.tool_choice.type in ("any", "tool"):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")
    if thinking.type == "enabled":
        _check_open_turn(asked)


def _check_open_turn(asked: _Asked) -> None:
    """400 where the assistant's turn that results continue does not begin with a thinking block.

    A loop of calls and results is one turn of the assistant's; adaptive thinking has no such rule (Anthropic,
    "Extended thinking" with tool use, and "Adaptive thinking").
    """
    asks = [place for place, message in enumerate(asked.messages) if message.role == "user" and not _results(message)]
    opened = max(asks, default=-1) + 1
    if opened >= len(asked.messages):
        return
    blocks = asked.messages[opened].content
    if isinstance(blocks, str) or not isinstance(next(iter(blocks), None), _Thinking | _Redacted):
        raise invalid(
            f"messages.{opened}.content.0.type: Expected `thinking` or `redacted_thinking`. When `thinking` is enabled,"
            " a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use`"
            " and `tool_result` blocks). To avoid this requirement, disable `thinking`."
        )


def _results(message: _Message) -> bool:
    """Whether it brings results, with or without words behind them."""
    return not isinstance(message.content, str) and any(isinstance(block, _ToolResult) for block in message.content)


def _check_history(asked: _Asked, seal: Seal) -> None:
    """400 unless each tool_use is answered at once by one result, results come first, and signatures are ours."""
    waiting: list[str] = []
    for message in asked.messages:
        blocks = message.content if isinstance(message.content, list) else []
        results = [block.tool_use_id for block in blocks if isinstance(block, _ToolResult)]
        if sorted(results) != sorted(waiting):
            raise invalid("messages: `tool_use` ids were found without `tool_result` blocks immediately after")
        if not all(isinstance(block, _ToolResult) for block in blocks[: len(results)]):
            raise invalid("messages: `tool_result` blocks must come first")
        waiting = [block.id for block in blocks if isinstance(block, _ToolUse)]
        for block in blocks:
            sealed = block.signature if isinstance(block, _Thinking) else None
            if sealed is not None and not _recognised(sealed, seal):
                raise invalid("messages: Invalid `signature` in `thinking` block")
    if waiting:
        raise invalid("messages: the last message asks for tools that nobody can answer")


def _recognised(signature: str, seal: Seal) -> bool:
    try:
        return seal.recognises(signature)
    except binascii.Error:
        return False


def check_method(reading: Reading, *, streams: bool) -> None:
    """400 where the body asks for another form of answer than the path."""
    if reading.stream != streams:
        raise ApiError(400, "stream: must be true for streamRawPredict, and only there")
