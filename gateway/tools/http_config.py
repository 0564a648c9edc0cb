"""What the tools of an HTTP service are made of: its document, its origin, its credentials, the chosen operations."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

from gateway.terms.asks import Effect, Idempotency
from gateway.tools.egress import guard_of
from gateway.tools.openapi import own_header
from gateway.tools.tightening import Bounds

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
CALL_KEY_BYTES_MIN: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A secret and where it goes in every request to the origin: a header, or a parameter of the query."""

    header: str = ""
    query: str = ""
    prefix: str = ""
    """Before the secret, for example `Bearer `."""
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        """Check every field. Raises ValueError."""
        if bool(self.header) == bool(self.query):
            raise ValueError("a credential goes into a header or into the query: name one of them")
        if self.header and (not _TOKEN.fullmatch(self.header) or own_header(self.header)):
            raise ValueError(f"{self.header[:64]!r} is no header that a credential may be put into")
        if not all(" " <= character <= "~" for character in self.prefix):
            raise ValueError("a credential's prefix must be printable ASCII")

    @property
    def forms(self) -> tuple[str, ...]:
        """Everything of it that must never be told: the longest form first, so that no part of it stays."""
        return tuple(dict.fromkeys((self.prefix + self.secret, quote(self.secret, safe=""), self.secret)))


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTool:
    """One operation as a tool, in the operator's words."""

    operation: str
    """Its `operationId`."""
    name: str
    version: str = "1"
    description: str = ""
    """Instead of the document's."""
    effect: Effect = Effect.IRREVERSIBLE
    idempotency: Idempotency = Idempotency.NONE
    key_header: str = ""
    """The header that takes our key for the call."""
    key_member: str = ""
    """The member of the JSON body that takes it."""
    lookup_operation: str = ""
    """The operation that shows what our key made."""
    lookup_argument: str = ""
    """Its argument for our key."""
    lookup_found: str = ""
    """A JSON pointer to the member of its answer that holds our key, if it shows what our key made."""
    timeout_ms: int = 10_000
    cost: int = 0
    """Of one call, in millionths of a US dollar."""
    redacted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpService:
    """One service. Raises ValueError for what cannot be right."""

    name: str
    origin: str
    """Scheme, host, port and perhaps a path, before every operation's own. What the document says of it is not read."""
    document: bytes = field(repr=False)
    tools: tuple[HttpTool, ...]
    networks: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    call_key: bytes = field(default=b"", repr=False)
    """The secret that our keys for calls are derived with; needed by tools that send one."""
    bounds: Bounds = field(default_factory=Bounds)
    connect_ms: int = 2_000
    idle_ms: int = 10_000
    connections_max: int = 64
    acceptance_ms: int = 30_000
    """How long after a call was sent the service may still accept it: only then does "not found" prove anything."""

    def __post_init__(self) -> None:
        """Check what does not need the document."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name must match {_NAME.pattern}")
        check_origin(self.origin, self.networks)
        keyed = [tool.name for tool in self.tools if tool.key_header or tool.key_member]
        if keyed and len(self.call_key) < CALL_KEY_BYTES_MIN:
            raise ValueError(f"call_key must have at least {CALL_KEY_BYTES_MIN} bytes: {keyed[0]} sends a key")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything that no answer may tell."""
        return tuple(form for credential in self.credentials for form in credential.forms)


def check_origin(url: str, networks: tuple[str, ...]) -> None:
    """Refuse an origin that credentials or arguments must not go to. Raises ValueError."""
    guard_of(url, networks)
    parts = urlsplit(url)
    if parts.query or parts.fragment or "@" in parts.netloc or not re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path):
        raise ValueError("origin must be a scheme, a host and perhaps a plain path: https://api.example.com/v2")
    if any(step in {".", ".."} for step in parts.path.split("/")):
        raise ValueError("origin must not have dots for a path segment")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("origin must begin with https:// (http:// only for a service on this machine)")
