"""A conversation with a model, in no provider's words."""

from dataclasses import dataclass
from enum import StrEnum


class Speaker(StrEnum):
    """Whose turn it is."""

    USER = "user"
    MODEL = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Words."""

    text: str
    signature: bytes = b""
    """Opaque bytes of the provider that must go back with this part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """What the model thought aloud."""

    text: str
    signature: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCall:
    """The model asks for a function. `arguments_json` is one JSON object."""

    id: str
    name: str
    arguments_json: str
    signature: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionResult:
    """What a function gave. `result_json` is one JSON object."""

    call_id: str
    name: str
    result_json: str


Part = Text | Thought | FunctionCall | FunctionResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one side said at once."""

    speaker: Speaker
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function that the model may ask for."""

    name: str
    description: str
    parameters_json_schema: str


class Choosing(StrEnum):
    """How the model chooses among the functions."""

    AUTO = "auto"
    ANY = "any"
    NONE = "none"


class Thinking(StrEnum):
    """How much the model thinks first."""

    UNSPECIFIED = "unspecified"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How the model generates; None leaves the choice to the upstream."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    thinking: Thinking = Thinking.UNSPECIFIED
    include_thoughts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchemaConstraint:
    """The answer is JSON of this schema."""

    schema_json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexConstraint:
    """The whole answer matches this RE2 expression."""

    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceConstraint:
    """The answer is one of these texts."""

    texts: tuple[str, ...]


Constraint = JsonSchemaConstraint | RegexConstraint | ChoiceConstraint


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """All that a model gets to see."""

    system_instruction: str
    turns: tuple[Turn, ...]
    functions: tuple[Function, ...] = ()
    choosing: Choosing = Choosing.AUTO
    allowed_functions: tuple[str, ...] = ()
    generation: Generation = Generation()
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the upstream counted them; thinking is part of the output, cached ones part of the input."""

    input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    cached_tokens: int = 0


class Finish(StrEnum):
    """Why a model stopped."""

    STOP = "stop"
    MAX_TOKENS = "max_tokens"
    TOOL_CALLS = "tool_calls"
    SAFETY = "safety"
    PROMPT_BLOCKED = "prompt_blocked"
    RECITATION = "recitation"
    MALFORMED_TOOL_CALL = "malformed_tool_call"
    BUDGET_SPENT = "budget_spent"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The last chunk of a model's answer."""

    finish: Finish
    upstream_reason: str
    model_version: str


Chunk = Text | Thought | FunctionCall | Usage | Ending
"""What a model upstream yields: parts as they come, usage when it is told, and exactly one `Ending`, last."""


def prompt_tokens_bound(conversation: Conversation) -> int:
    """More tokens than any tokenizer makes of this prompt: its UTF-8 bytes, and some for every part and turn.

    A token stands for at least one byte (byte-level fallback); the allowance covers what providers put around parts.
    """
    texts = [conversation.system_instruction, *_form(conversation.constraint)]
    pieces = 1
    signed = 0
    for turn in conversation.turns:
        pieces += 1 + len(turn.parts)
        texts.extend(_words(part) for part in turn.parts)
        # A signature brings thoughts back into the prompt, and is itself longer than they are in tokens.
        signed += sum(len(part.signature) for part in turn.parts if not isinstance(part, FunctionResult))
    for function in conversation.functions:
        pieces += 1
        texts.append(function.name + function.description + function.parameters_json_schema)
    return sum(len(text.encode()) for text in texts) + signed + 16 * pieces


def _form(constraint: Constraint | None) -> tuple[str, ...]:
    """The constraint's texts: providers count them as part of the prompt."""
    match constraint:
        case None:
            return ()
        case JsonSchemaConstraint(schema_json=schema):
            return (schema,)
        case RegexConstraint(pattern=pattern):
            return (pattern,)
        case ChoiceConstraint(texts=texts):
            return texts


def _words(part: Part) -> str:
    match part:
        case Text(text=text) | Thought(text=text):
            return text
        case FunctionCall(name=name, arguments_json=arguments):
            return name + arguments
        case FunctionResult(name=name, result_json=result):
            return name + result
