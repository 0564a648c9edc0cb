"""The prompt of a model call: its messages read into terms, every field honoured or refused."""

import math
from typing import Final

from gateway.services.form import malformed
from gateway.terms.conversation import (
    ChoiceConstraint,
    Choosing,
    Constraint,
    Conversation,
    Function,
    FunctionCall,
    FunctionResult,
    Generation,
    JsonSchemaConstraint,
    Part,
    RegexConstraint,
    Speaker,
    Text,
    Thinking,
    Thought,
    Turn,
)
from gateway.terms.limits import CONTENTS_MAX, FUNCTIONS_MAX, MESSAGE_BYTES_MAX, SCHEMA_BYTES_MAX
from gateway.terms.strict_json import JsonRefusedError, strict_object
from generated.agentic.gateway.v1 import (
    ChatRequest,
    Content,
    CountTokensRequest,
    FunctionCalling,
    FunctionCallingMode,
    FunctionDeclaration,
    GenerationSettings,
    ResponseConstraint,
    Role,
    ThinkingLevel,
)
from generated.agentic.gateway.v1 import Part as PartMessage

_SPEAKERS: Final = {Role.USER: Speaker.USER, Role.MODEL: Speaker.MODEL}
_CHOOSING: Final = {
    FunctionCallingMode.UNSPECIFIED: Choosing.AUTO,
    FunctionCallingMode.AUTO: Choosing.AUTO,
    FunctionCallingMode.ANY: Choosing.ANY,
    FunctionCallingMode.NONE: Choosing.NONE,
}
_THINKING: Final = {
    ThinkingLevel.UNSPECIFIED: Thinking.UNSPECIFIED,
    ThinkingLevel.MINIMAL: Thinking.MINIMAL,
    ThinkingLevel.LOW: Thinking.LOW,
    ThinkingLevel.MEDIUM: Thinking.MEDIUM,
    ThinkingLevel.HIGH: Thinking.HIGH,
}
STOP_SEQUENCES_MAX: Final = 5
STOP_SEQUENCE_LENGTH_MAX: Final = 64
CHOICES_MAX: Final = 100


def chat_conversation(request: ChatRequest) -> Conversation:
    """All that the model gets to see of a ChatRequest."""
    functions = _functions(request.functions)
    return Conversation(
        system_instruction=request.system_instruction,
        turns=_turns(request.contents),
        functions=functions,
        choosing=_choosing(request.function_calling),
        allowed_functions=_allowed(request.function_calling, functions),
        generation=_generation(request.settings),
        constraint=_constraint(request.constraint),
    )


def count_conversation(request: CountTokensRequest) -> Conversation:
    """All that counts of a CountTokensRequest."""
    return Conversation(
        system_instruction=request.system_instruction,
        turns=_turns(request.contents),
        functions=_functions(request.functions),
    )


def _turns(contents: list[Content]) -> tuple[Turn, ...]:
    if not contents:
        raise malformed("contents", "send at least one turn")
    if len(contents) > CONTENTS_MAX:
        raise malformed("contents", f"send at most {CONTENTS_MAX} turns")
    turns = tuple(_turn(content, f"contents[{place}]") for place, content in enumerate(contents))
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
        call = part.tool_call
        _named(call.name, f"{field}.tool_call.name")
        _json_object(call.arguments_json, f"{field}.tool_call.arguments_json")
        return FunctionCall(id=call.id, name=call.name, arguments_json=call.arguments_json, signature=part.signature)
    if part.tool_result is not None:
        _only(Speaker.USER, speaker, f"{field}.tool_result")
        result = part.tool_result
        _named(result.name, f"{field}.tool_result.name")
        _json_object(result.result_json, f"{field}.tool_result.result_json")
        return FunctionResult(call_id=result.call_id, name=result.name, result_json=result.result_json)
    raise malformed(field, "a part needs text, thought, tool_call or tool_result")


def _only(allowed: Speaker, speaker: Speaker, field: str) -> None:
    if speaker is not allowed:
        raise malformed(field, f"only in turns of the {allowed.value}")


def _functions(declared: list[FunctionDeclaration]) -> tuple[Function, ...]:
    if len(declared) > FUNCTIONS_MAX:
        raise malformed("functions", f"declare at most {FUNCTIONS_MAX}")
    names: set[str] = set()
    for place, function in enumerate(declared):
        field = f"functions[{place}]"
        _named(function.name, f"{field}.name")
        if function.name in names:
            raise malformed(f"{field}.name", "declared twice")
        names.add(function.name)
        _json_object(function.parameters_json_schema, f"{field}.parameters_json_schema", SCHEMA_BYTES_MAX)
    return tuple(
        Function(
            name=function.name,
            description=function.description,
            parameters_json_schema=function.parameters_json_schema,
        )
        for function in declared
    )


def _named(name: str, field: str) -> None:
    """Vertex's own rule for function names."""
    fits = name.isascii() and 1 <= len(name) <= 64 and not name[0].isdigit()
    if not fits or not name.translate(_NAME_PUNCTUATION).isalnum():
        raise malformed(field, "use 1 to 64 characters of A-Z a-z 0-9 _ . -, not starting with a digit")


_NAME_PUNCTUATION: Final = str.maketrans("_.-", "aaa")


def _json_object(text: str, field: str, size_max: int = MESSAGE_BYTES_MAX) -> None:
    try:
        strict_object(text, size_max=size_max)
    except JsonRefusedError as error:
        raise malformed(field, str(error)) from None


def _choosing(calling: FunctionCalling | None) -> Choosing:
    if calling is None:
        return Choosing.AUTO
    choosing = _CHOOSING.get(calling.mode)
    if choosing is None:
        raise malformed("function_calling.mode", "unknown mode")
    return choosing


def _allowed(calling: FunctionCalling | None, functions: tuple[Function, ...]) -> tuple[str, ...]:
    if calling is None or not calling.allowed_names:
        return ()
    if calling.mode is not FunctionCallingMode.ANY:
        raise malformed("function_calling.allowed_names", "only with MODE_ANY")
    declared = {function.name for function in functions}
    for place, name in enumerate(calling.allowed_names):
        if name not in declared:
            raise malformed(f"function_calling.allowed_names[{place}]", "names no declared function")
    return tuple(calling.allowed_names)


def _generation(settings: GenerationSettings | None) -> Generation:
    if settings is None:
        return Generation()
    _within("temperature", settings.temperature, 0.0, 2.0)
    _within("top_p", settings.top_p, 0.0, 1.0)
    _within("presence_penalty", settings.presence_penalty, -2.0, 2.0)
    _within("frequency_penalty", settings.frequency_penalty, -2.0, 2.0)
    _within("top_k", settings.top_k, 1, 1000)
    _within("max_output_tokens", settings.max_output_tokens, 1, 2**31 - 1)
    thinking = _THINKING.get(settings.thinking_level)
    if thinking is None:
        raise malformed("settings.thinking_level", "unknown level")
    return Generation(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        max_output_tokens=settings.max_output_tokens,
        stop_sequences=_stop_sequences(settings.stop_sequences),
        seed=settings.seed,
        presence_penalty=settings.presence_penalty,
        frequency_penalty=settings.frequency_penalty,
        thinking=thinking,
        include_thoughts=settings.include_thoughts,
    )


def _within(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and (not math.isfinite(value) or not least <= value <= most):
        raise malformed(f"settings.{name}", f"must be between {least} and {most}")


def _stop_sequences(sequences: list[str]) -> tuple[str, ...]:
    if len(sequences) > STOP_SEQUENCES_MAX:
        raise malformed("settings.stop_sequences", f"at most {STOP_SEQUENCES_MAX}")
    for place, sequence in enumerate(sequences):
        if not 1 <= len(sequence) <= STOP_SEQUENCE_LENGTH_MAX:
            raise malformed(
                f"settings.stop_sequences[{place}]", f"must have 1 to {STOP_SEQUENCE_LENGTH_MAX} characters"
            )
    return tuple(sequences)


def _constraint(constraint: ResponseConstraint | None) -> Constraint | None:
    if constraint is None:
        return None
    if constraint.json_schema is not None:
        _json_object(constraint.json_schema, "constraint.json_schema", SCHEMA_BYTES_MAX)
        return JsonSchemaConstraint(schema_json=constraint.json_schema)
    if constraint.regex is not None:
        return RegexConstraint(pattern=constraint.regex)
    if constraint.choice is not None:
        texts = constraint.choice.texts
        if not 1 <= len(texts) <= CHOICES_MAX or len(set(texts)) != len(texts) or "" in texts:
            raise malformed("constraint.choice.texts", f"send 1 to {CHOICES_MAX} different, non-empty texts")
        return ChoiceConstraint(texts=tuple(texts))
    raise malformed("constraint", "needs json_schema, regex or choice")
