"""What the double is told at its start, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from localcloud.vertex.bearer import TokenCheck

# Names that late 2026 knows; a name that is not listed is a retired or unknown model and answers 404.
DEFAULT_MODELS = (
    "gemini-3.8-flash",
    "gemini-3.7-flash",
    "gemini-3.6-flash",
    "gemini-3.5-flash",
    "gemini-3.5-flash-lite",
    "gemini-3.1-flash-lite",
    "gemini-3.1-pro-preview",
)

CLAUDE_MODELS = ("claude-sonnet-5", "claude-haiku-4-5@20251001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a stream of text is cut and timed.

    `deltas` is the number of text chunks, each of `size` tokens; 0 lets the answer have its natural length.
    `first_ms` is the wait before the first chunk, `interval_ms` the time from chunk to chunk.
    """

    deltas: int = 0
    interval_ms: int = 0
    first_ms: int = 0
    size: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexConfig:
    """The double's settings. One of `token_check`, `introspect_url` and `allow_any_token` must be given.

    `members`: the accounts that hold roles/aiplatform.user, by e-mail; empty means every authenticated account.
    `cache_from` is the least number of prompt tokens for which repeated beginnings count as cached.
    """

    host: str = "127.0.0.1"
    port: int = 0
    admin_port: int = 0
    seed: int = 1
    models: tuple[str, ...] = DEFAULT_MODELS
    claude_models: tuple[str, ...] = CLAUDE_MODELS
    pace: Pace = Pace()
    token_check: TokenCheck | None = None
    introspect_url: str = ""
    allow_any_token: bool = False
    members: frozenset[str] = frozenset()
    cache_from: int = 1024
    cached_contents: Mapping[str, int] = field(default_factory=dict)
    """Resource names of what is kept in the cache, and its tokens."""
    max_body_bytes: int = 32 * 1024 * 1024
    journal_size: int = 1000
