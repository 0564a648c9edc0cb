"""A conversation with a model, in no provider's words."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import msgspec

from gateway.terms.faults import Fault
from gateway.terms.inputs import NO_INPUTS, FileData, Guard, Harm, InlineData, Inputs
from gateway.terms.money import MicroUsd

LOST: Final = "hedge.lost"
"""In the place of a fault: of two attempts at once, the other one answered first."""

_FREE: Final = MicroUsd(0)


class Speaker(StrEnum):
    """Whose turn it is."""

    USER = "user"
    MODEL = "model"


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Words."""

    text: str
    signature: bytes = b""
    """Opaque bytes of the provider that must go back with this part."""


class Thought(msgspec.Struct, frozen=True, kw_only=True):
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


Part = Text | Thought | FunctionCall | FunctionResult | InlineData | FileData


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
    guards: Mapping[Harm, Guard] = field(default_factory=dict)
    """What the caller has set of the provider's own guards."""
    cached_content: str = ""
    """Which of the operator's cached beginnings comes before it."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the upstream counted them; thinking is part of the output, cached ones part of the input."""

    input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False
    """The upstream has not counted (yet): these are bounds of the gateway's own."""


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
    CONSTRAINT_UNMET = "constraint_unmet"
    """It stopped as if all was said, and what it said has not the form it was to have."""
    TURNS_SPENT = "turns_spent"
    """Not the model's: it asks for tools, and may not be asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The last chunk of a model's answer."""

    finish: Finish
    upstream_reason: str
    model_version: str


Chunk = Text | Thought | FunctionCall | Usage | Ending
"""What a model upstream yields: parts as they come, usage when it is told, and exactly one `Ending`, last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A request goes out to a target of the route now."""

    target: str
    hedge: bool = False
    """Beside another one that has no answer yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of a request: the fault, after which another target may be asked, or the first chunk of an answer."""

    target: str
    fault: Fault | None
    milliseconds: int
    """From the request to its fault, its first chunk, or its abort."""
    hedge: bool = False
    """It was sent beside another one, which was slow."""
    lost: bool = False
    """It was aborted, because the other one answered first. That is no fault of its upstream's."""
    charged_tokens: int = 0
    """Of its prompt, where it gave no answer and may be billed all the same. Estimated: no upstream told."""
    charged_cost: MicroUsd = _FREE
    aside_ms: int = 0
    """After its fault, the route's other targets are asked before this one for so long."""

    @property
    def code(self) -> str:
        """Why it gave no answer, as callers and records are told; empty if it did."""
        if self.lost:
            return LOST
        return "" if self.fault is None else self.fault.value


Routed = Chunk | Asking | Attempt
"""What a route yields: each request with what became of it, and the chunks of the one that is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """How many tokens a prompt has."""

    tokens: int
    estimated: bool = False
    """Estimated by the gateway, because no upstream of the model counts."""
    cached: bool = False
    """As an upstream counted it before."""


BYTES_PER_TOKEN: Final = 4
"""Of prose in Latin letters, about: for estimates, never for holds."""


def estimated_tokens(tokens_bound: int) -> int:
    """About how many tokens a prompt has, of which `prompt_tokens_bound` says how many it has at most."""
    return -(-tokens_bound // BYTES_PER_TOKEN)


def prompt_tokens_bound(conversation: Conversation, inputs: Inputs = NO_INPUTS) -> int:
    """More tokens than any tokenizer makes of this prompt: its UTF-8 bytes, and some for every part and turn.

    A token stands for at least one byte (byte-level fallback); the allowance covers what providers put around parts.
    A file counts as the operator's most for its type, a cached beginning as its own; KeyError for one that is not in
    `inputs`, which must have been refused before.
    """
    texts = [conversation.system_instruction, *_form(conversation.constraint)]
    pieces = 1
    more = inputs.cached[conversation.cached_content].tokens_max if conversation.cached_content else 0
    for turn in conversation.turns:
        pieces += 1 + len(turn.parts)
        for part in turn.parts:
            if isinstance(part, InlineData | FileData):
                more += _file(part, inputs)
            else:
                texts.append(_words(part))
                # A signature brings thoughts back into the prompt, and is itself longer than they are in tokens.
                more += 0 if isinstance(part, FunctionResult) else len(part.signature)
    for function in conversation.functions:
        pieces += 1
        texts.append(function.name + function.description + function.parameters_json_schema)
    return sum(len(text.encode()) for text in texts) + more + 16 * pieces


COUNT_MARGIN: Final = 64
"""Tokens that a prompt may have more than its count said, or an eighth of them, whichever is more."""


def counted_tokens_bound(counted: int) -> int:
    """At most so many tokens has a prompt that an upstream counted: its count, and a little for what it left out."""
    return counted + max(counted // 8, COUNT_MARGIN)


def uncounted_tokens_bound(conversation: Conversation, inputs: Inputs) -> int:
    """The same as `prompt_tokens_bound` for what no upstream is asked to count: a constraint and a cached beginning."""
    if conversation.constraint is None and not conversation.cached_content:
        return 0
    bare = replace(conversation, system_instruction="", turns=(), functions=())
    return prompt_tokens_bound(bare, inputs)


def _file(part: InlineData | FileData, inputs: Inputs) -> int:
    # Only text can take more tokens the longer it is; a picture's and a page's are bounded by the provider.
    most = inputs.media[part.mime_type]
    if isinstance(part, InlineData) and part.mime_type.startswith("text/"):
        return max(most, len(part.data))
    return most


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


def _words(part: Text | Thought | FunctionCall | FunctionResult) -> str:
    match part:
        case Text(text=text) | Thought(text=text):
            return text
        case FunctionCall(name=name, arguments_json=arguments):
            return name + arguments
        case FunctionResult(name=name, result_json=result):
            return name + result
