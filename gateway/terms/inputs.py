"""What a model takes beside text: files, what the upstream keeps of a prompt, and how strictly it guards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineData:
    """A file in the prompt itself."""

    mime_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileData:
    """A file that the provider reads by itself; the gateway never fetches it."""

    mime_type: str
    uri: str


class Harm(StrEnum):
    """What a provider guards against."""

    HATE_SPEECH = "hate_speech"
    DANGEROUS_CONTENT = "dangerous_content"
    HARASSMENT = "harassment"
    SEXUALLY_EXPLICIT = "sexually_explicit"


class Guard(Enum):
    """From which likelihood of harm on it blocks; a smaller value is stricter."""

    BLOCK_LOW_AND_ABOVE = 1
    BLOCK_MEDIUM_AND_ABOVE = 2
    BLOCK_ONLY_HIGH = 3
    BLOCK_NONE = 4
    OFF = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedContent:
    """A beginning of prompts that the operator keeps in the upstream's cache."""

    upstream_id: str
    tokens_max: int
    """It is charged with every prompt that begins with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the operator lets a model be given. Nothing by default."""

    media: Mapping[str, int] = field(default_factory=dict)
    """MIME types, and the most tokens that the provider counts for one file of each."""
    file_prefixes: tuple[str, ...] = ()
    """How the URI of a file may begin: the provider reads it with rights of the gateway's project, not the agent's."""
    cached: Mapping[str, CachedContent] = field(default_factory=dict)
    """By the names that callers use."""
    guards: Mapping[Harm, Guard] = field(default_factory=dict)
    """The loosest that a caller may set, and what is set if it sets nothing."""


NO_INPUTS = Inputs()
