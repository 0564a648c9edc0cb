"""The prompt of a model call: its messages read into terms, every field honoured or refused."""

import hashlib
from typing import Final

from gateway.call.prompted import Prompt
from gateway.services.files import file_data, inline_data, refuse_too_many_files
from gateway.services.form import function_name, json_object, malformed, run_id
from gateway.services.generation import constraint, generation, guards
from gateway.services.tool_running import run_tools
from gateway.terms.conversation import (
    Choosing,
    Conversation,
    Function,
    FunctionCall,
    FunctionResult,
    Part,
    Speaker,
    Text,
    Thought,
    Turn,
)
from gateway.terms.ids import RunId
from gateway.terms.limits import CONTENTS_MAX, FUNCTIONS_MAX, MESSAGE_BYTES_MAX, SCHEMA_BYTES_MAX
from generated.agentic.gateway.v1 import (
    ChatRequest,
    Content,
    CountTokensRequest,
    FunctionCalling,
    FunctionCallingMode,
    FunctionDeclaration,
    Role,
    ToolCall,
    ToolResult,
)
from generated.agentic.gateway.v1 import Part as PartMessage
from generated.agentic.gateway.v1.codec import CODECS

_SPEAKERS: Final = {Role.USER: Speaker.USER, Role.MODEL: Speaker.MODEL}
_CHOOSING: Final = {
    FunctionCallingMode.UNSPECIFIED: Choosing.AUTO,
    FunctionCallingMode.AUTO: Choosing.AUTO,
    FunctionCallingMode.ANY: Choosing.ANY,
    FunctionCallingMode.NONE: Choosing.NONE,
}


def chat_prompt(request: ChatRequest) -> Prompt:
    """All that the model gets to see of a ChatRequest; raises `RefusedError`."""
    if not request.resumable.name:
        raise malformed("resumable", "unknown value")
    functions = _functions(request.functions)
    tools = run_tools(request.run_tools)
    choosing, allowed = _calling(request.function_calling, functions, more=tools is not None)
    conversation = Conversation(
        system_instruction=request.system_instruction,
        turns=_turns(request.contents),
        functions=functions,
        choosing=choosing,
        allowed_functions=allowed,
        generation=generation(request.settings),
        constraint=constraint(request.constraint),
        guards=guards(request.safety_settings),
        cached_content=request.cached_content,
    )
    return Prompt(conversation=conversation, run=run_id(request.run_id), digest=_digest(request), run_tools=tools)


def count_prompt(request: CountTokensRequest) -> Prompt:
    """All that counts of a CountTokensRequest; raises `RefusedError`."""
    tools = run_tools(request.run_tools)
    conversation = Conversation(
        system_instruction=request.system_instruction,
        turns=_turns(request.contents),
        functions=_functions(request.functions),
    )
    return Prompt(conversation=conversation, run=RunId(""), digest=_digest(request), run_tools=tools)


def _digest(request: ChatRequest | CountTokensRequest) -> bytes:
    """SHA-256 over the message as our codec writes it: the same whatever protocol it came by."""
    return hashlib.sha256(CODECS[type(request)].encode(request)).digest()


def _turns(contents: list[Content]) -> tuple[Turn, ...]:
    if not contents:
        raise malformed("contents", "send at least one turn")
    if len(contents) > CONTENTS_MAX:
        raise malformed("contents", f"send at most {CONTENTS_MAX} turns")
    turns = tuple(_turn(content, f"contents[{place}]") for place, content in enumerate(contents))
    refuse_too_many_files(turns)
    if turns[-1].speaker is not Speaker.USER:
        raise malformed(f"contents[{len(turns) - 1}].role", "the last turn must be the user's")
    return turns


def _turn(content: Content, field: str) -> Turn:
    speaker = _SPEAKERS.get(content.role)
    if speaker is None:
        raise malformed(f"{field}.role", "say ROLE_USER or ROLE_MODEL")
    if not content.parts:
        raise malformed(f"{field}.parts", "send at least one part")
    parts = tuple(_part(part, speaker, f"{field}.parts[{place}]") for place, part in enumerate(content.parts))
    return Turn(speaker=speaker, parts=parts)


def _part(part: PartMessage, speaker: Speaker, field: str) -> Part:
    if part.text is not None:
        return Text(text=part.text, signature=part.signature)
    if part.thought is not None:
        _only(Speaker.MODEL, speaker, f"{field}.thought")
        return Thought(text=part.thought, signature=part.signature)
    if part.tool_call is not None:
        _only(Speaker.MODEL, speaker, f"{field}.tool_call")
        return _tool_call(part.tool_call, part.signature, f"{field}.tool_call")
    return _given(part, speaker, field)


def _given(part: PartMessage, speaker: Speaker, field: str) -> Part:
    """A part that only a user's turn can have."""
    if part.signature and (part.tool_result or part.inline_data or part.file_data):
        raise malformed(f"{field}.signature", "this part has none: no model wrote it")
    if part.tool_result is not None:
        _only(Speaker.USER, speaker, f"{field}.tool_result")
        return _tool_result(part.tool_result, f"{field}.tool_result")
    if part.inline_data is not None:
        _only(Speaker.USER, speaker, f"{field}.inline_data")
        return inline_data(part.inline_data, f"{field}.inline_data")
    if part.file_data is not None:
        _only(Speaker.USER, speaker, f"{field}.file_data")
        return file_data(part.file_data, f"{field}.file_data")
    raise malformed(field, "a part needs text, thought, tool_call, tool_result, inline_data or file_data")


def _tool_call(call: ToolCall, signature: bytes, field: str) -> FunctionCall:
    json_object(call.arguments_json, f"{field}.arguments_json", MESSAGE_BYTES_MAX)
    return FunctionCall(
        id=call.id,
        name=function_name(call.name, f"{field}.name"),
        arguments_json=call.arguments_json,
        signature=signature,
    )


def _tool_result(result: ToolResult, field: str) -> FunctionResult:
    json_object(result.result_json, f"{field}.result_json", MESSAGE_BYTES_MAX)
    return FunctionResult(
        call_id=result.call_id,
        name=function_name(result.name, f"{field}.name"),
        result_json=result.result_json,
    )


def _only(allowed: Speaker, speaker: Speaker, field: str) -> None:
    if speaker is not allowed:
        raise malformed(field, f"only in turns of the {allowed.value}")


def _functions(declared: list[FunctionDeclaration]) -> tuple[Function, ...]:
    if len(declared) > FUNCTIONS_MAX:
        raise malformed("functions", f"declare at most {FUNCTIONS_MAX}")
    functions = tuple(_function(function, f"functions[{place}]") for place, function in enumerate(declared))
    names: set[str] = set()
    for place, function in enumerate(functions):
        if function.name in names:
            raise malformed(f"functions[{place}].name", "declared twice")
        names.add(function.name)
    return functions


def _function(declared: FunctionDeclaration, field: str) -> Function:
    name = function_name(declared.name, f"{field}.name")
    schema = json_object(declared.parameters_json_schema, f"{field}.parameters_json_schema", SCHEMA_BYTES_MAX)
    if schema.get("type") != "object":
        raise malformed(f"{field}.parameters_json_schema", 'must be a schema of "type": "object"')
    return Function(name=name, description=declared.description, parameters_json_schema=declared.parameters_json_schema)


def _calling(
    calling: FunctionCalling | None, functions: tuple[Function, ...], *, more: bool
) -> tuple[Choosing, tuple[str, ...]]:
    """How to choose. With `more`, the gateway declares functions too, and knows whether a name is one of them."""
    if calling is None:
        return Choosing.AUTO, ()
    choosing = _CHOOSING.get(calling.mode)
    if choosing is None:
        raise malformed("function_calling.mode", "unknown mode")
    if choosing is Choosing.ANY and not functions and not more:
        raise malformed("function_calling.mode", "MODE_ANY needs functions to call")
    if calling.allowed_names and choosing is not Choosing.ANY:
        raise malformed("function_calling.allowed_names", "only with MODE_ANY")
    declared = {function.name for function in functions}
    seen: set[str] = set()
    for place, name in enumerate(calling.allowed_names):
        if name in seen or (name not in declared and not more):
            raise malformed(f"function_calling.allowed_names[{place}]", "names no declared function, or one again")
        seen.add(name)
    return choosing, tuple(calling.allowed_names)
