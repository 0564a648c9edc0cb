"""What a caller asks for, frozen: the same bytes go to schema, policy, limits, record and upstream."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from gateway.terms.conversation import Conversation
from gateway.terms.ids import IdempotencyKey, ModelName, OperationId, RunId, ToolName
from gateway.terms.strict_json import FrozenJson

_FIRST: Final = OperationId("")


class Effect(StrEnum):
    """What a tool can do to the world. What is not known is irreversible."""

    READ = "read"
    REVERSIBLE = "reversible"
    IRREVERSIBLE = "irreversible"


class Idempotency(StrEnum):
    """What the tool's own service does with a repeat, and so what may be done after a lost reply."""

    NATIVE_KEY = "native-key"
    """It takes a key of ours and refuses or replays a second one."""
    NATURAL = "natural"
    """Doing it twice is doing it once, as with a cancel."""
    LOOKUP = "lookup"
    """It can be asked by our id whether it happened."""
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDeclaration:
    """One version of a tool, as the operator offers it."""

    name: ToolName
    version: str
    description: str
    arguments_schema: str
    """JSON Schema, one object, linted."""
    effect: Effect
    idempotency: Idempotency
    timeout_ms: int
    """How long its service may take to answer."""
    redacted: frozenset[str]
    """Names of top-level arguments that never enter a record."""
    reduces: bool = False
    """It only takes back, as a cancel does: a kill switch does not stop it."""
    hash: str
    """SHA-256 in hex over everything above."""


class ToolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call as received: nothing checked yet."""

    tool: str
    version: str
    arguments_json: str
    idempotency_key: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAsk:
    """A tool call that has the tool's form."""

    tool: ToolDeclaration
    arguments_bytes: bytes
    """UTF-8, byte for byte as received."""
    arguments: Mapping[str, FrozenJson]
    """The same, read strictly and checked by the schema."""
    key: IdempotencyKey
    run: RunId
    digest: bytes
    """`tool_digest` over tool, version and bytes: what two requests with one key must share."""

    @property
    def name(self) -> str:
        """What the record calls this ask."""
        return self.tool.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAsk:
    """A model call that has the model's form."""

    model: ModelName
    conversation: Conversation
    max_output_tokens: int
    """Always set: nothing else bounds what a call costs."""
    input_tokens_bound: int
    """More than the prompt can have, or the count of an upstream and a margin."""
    run: RunId
    digest: bytes
    """SHA-256 over the request message as our own codec writes it; of a later turn, over the digest of the turn before
    and what was added to it."""
    turn: int = 0
    """Of a stream in which the gateway runs tools, from 1; 0 where it runs none."""
    chat: OperationId = _FIRST
    """The operation of such a stream's first turn; empty for that one."""
    wanted_output_tokens: int = 0
    """What the caller's bound allows; more than `max_output_tokens` where less is held."""
    input_tokens_counted: int | None = None
    """As an upstream counted it, with an estimate for what it did not count; None where no count is known."""

    @property
    def name(self) -> str:
        """What the record calls this ask."""
        return f"chat:{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTools:
    """The tools that the gateway runs inside of a stream, as the caller asks for them."""

    turns_max: int
    tools: tuple[str, ...]
    """`name` or `name@version`, each once; empty: all that the caller may ask for."""
    key: str
    """Begins the idempotency keys of the calls; empty: the operation of the first turn does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAsk:
    """A prompt to be counted."""

    model: ModelName
    conversation: Conversation
    digest: bytes

    @property
    def name(self) -> str:
        """What the record calls this ask."""
        return f"count:{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAsk:
    """A question about the gateway itself that only shows the caller what is its own: no effect, no upstream."""

    what: str
    """`list_tools`, `list_models` or `get_operation`."""
    operation: OperationId
    """Of `get_operation`; empty otherwise."""

    @property
    def name(self) -> str:
        """What the record calls this ask."""
        return self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRunAsk:
    """A question what a tool call would come to, which has the tool's form."""

    rehearsed: ToolAsk

    @property
    def name(self) -> str:
        """What the record calls this ask."""
        return "dry_run"


Ask = ToolAsk | ChatAsk | CountAsk | ReadAsk | DryRunAsk


class Unformed(msgspec.Struct, frozen=True, kw_only=True):
    """A request of a known caller that has not the form of an ask yet: if it never gets it, this is on record."""

    what: str
    """`execute_tool`, `dry_run`, `chat`, `count_tokens` or `get_operation`."""
    about: str
    """Which tool, model or operation it names, as received: any text of any length."""

    @property
    def name(self) -> str:
        """What the record calls it."""
        return self.what


def tool_digest(tool: ToolName, version: str, arguments: bytes) -> bytes:
    """SHA-256 over the length-framed tool, version and exact argument bytes."""
    digest = hashlib.sha256()
    for part in (tool.encode(), version.encode(), arguments):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
