"""What the tools of an upstream MCP server are made of: its address, what was approved, and the operator's words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.terms.asks import Effect, Idempotency
from gateway.tools.http_config import Credential, check_origin
from gateway.tools.mcp_pins import Said
from gateway.tools.tightening import Bounds

HANDSHAKE: Final = "2025-11-25"
"""The newest protocol with a handshake and sessions; a server may answer with an older one of these."""
HANDSHAKES: Final = frozenset({"2025-03-26", "2025-06-18", HANDSHAKE})
STATELESS: Final = "2026-07-28"
"""The protocol in which every request stands alone."""

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_TOOL: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class McpTool:
    """One tool of the server, in the operator's words."""

    tool: str
    """What the server calls it."""
    name: str
    version: str = "1"
    pin: str = ""
    description: str = ""
    """Instead of the server's."""
    effect: Effect = Effect.IRREVERSIBLE
    idempotency: Idempotency = Idempotency.NONE
    errors_are_final: bool = False
    """The operator knows that it has done nothing when it answers with an error (`isError`) or asks for more."""
    timeout_ms: int = 10_000
    cost: int = 0
    """Of one call, in millionths of a US dollar."""
    redacted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """One server. Raises ValueError for what cannot be right."""

    name: str
    url: str
    protocol: str = HANDSHAKE
    pinned: Mapping[str, Said] = field(default_factory=dict)
    """What the server said that was or may be approved, by its pins."""
    tools: tuple[McpTool, ...] = ()
    networks: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    connect_ms: int = 2_000
    idle_ms: int = 10_000
    recheck_ms: int = 5_000
    """How long a look at the server's tools counts; 0 looks before every call."""
    listing_ms: int = 5_000
    """How long such a look may take."""
    connections_max: int = 64

    def __post_init__(self) -> None:
        """Check what needs no connection."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name must match {_NAME.pattern}")
        if self.protocol not in {HANDSHAKE, STATELESS}:
            raise ValueError(f"protocol must be {HANDSHAKE} or {STATELESS}")
        check_origin(self.url, self.networks)
        if any(credential.query for credential in self.credentials):
            raise ValueError("a credential of an MCP server goes into a header")
        unsafe = [tool.tool for tool in self.tools if not _TOOL.fullmatch(tool.tool)]
        if unsafe:
            raise ValueError(f"{unsafe[0][:64]!r} is no name of a tool: 1 to 128 of A-Z a-z 0-9 _ - . /")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything that no answer may tell."""
        return tuple(form for credential in self.credentials for form in credential.forms)
