"""The tables of tools: operations of HTTP services, and tools of upstream MCP servers."""

from collections.abc import Iterator
from typing import Final, Literal

from gateway.settings import forms
from gateway.settings.forms import amount_faults, origin_faults, range_faults, shown, twice_faults
from gateway.settings.table import Table
from gateway.terms.ids import TOOL_NAME
from gateway.terms.money import MICRO
from gateway.tools.egress import host_fault, network_of

TIMEOUT_MS_MAX: Final = 300_000
COST_USD_MAX: Final = 1_000_000
BOUND_MAX: Final = 65_536
INTEGER_MAX: Final = 2**63 - 1
RECHECK_MS_MAX: Final = 300_000
ACCEPTANCE_S_MAX: Final = 86_400


class CredentialTable(Table, frozen=True, kw_only=True):
    """`[[....credentials]]`: a secret that goes into every request to its origin, in one place."""

    header: str = ""
    query: str = ""
    prefix: str = ""
    secret: str
    """A reference."""

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        if bool(self.header) == bool(self.query):
            yield "header: write a header or a query parameter for the secret, one of them"


class BoundsTable(Table, frozen=True, kw_only=True):
    """`[....bounds]`: what holds where a service's own schema has no bound; 0 sets none, and the tool is refused."""

    string_length: int = 0
    array_items: int = 0
    integer: int = 0

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from range_faults("string_length", self.string_length, 0, BOUND_MAX)
        yield from range_faults("array_items", self.array_items, 0, 1_000)
        yield from range_faults("integer", self.integer, 0, INTEGER_MAX)


class HttpToolTable(Table, frozen=True, kw_only=True):
    """`[[http_services.tools]]`: an operation that agents may be granted."""

    operation: str
    name: str
    version: str = "1"
    description: str = ""
    effect: Literal["read", "reversible", "irreversible"] = "irreversible"
    idempotency: Literal["native-key", "natural", "lookup", "none"] = "none"
    key_header: str = ""
    key_member: str = ""
    lookup_operation: str = ""
    lookup_argument: str = ""
    lookup_found: str = ""
    """A JSON pointer: where its answer holds our key."""
    timeout_ms: int = 10_000
    cost_usd: str = "0"
    redacted: list[str] = []

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from _tool_faults(self)


class HttpServiceTable(Table, frozen=True, kw_only=True):
    """`[[http_services]]`: an HTTP service that an OpenAPI 3.1 document describes."""

    name: str
    document: str
    origin: str
    networks: list[str] = []
    credentials: list[CredentialTable] = []
    call_key: str = ""
    """A reference; makes the keys that tools send for their calls."""
    idle_ms: int = 10_000
    acceptance_s: int = 30
    bounds: BoundsTable = BoundsTable()
    tools: list[HttpToolTable]

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from _origin_faults("origin", self.name, self.origin, self.networks)
        yield from range_faults("idle_ms", self.idle_ms, 1, TIMEOUT_MS_MAX)
        yield from range_faults("acceptance_s", self.acceptance_s, 1, ACCEPTANCE_S_MAX)
        if not self.document:
            yield "document: is empty: write the file of the service's OpenAPI document"
        if not self.call_key and any(tool.key_header or tool.key_member for tool in self.tools):
            yield "call_key: is missing: refer to a secret that the keys of calls are made with"


class McpToolTable(Table, frozen=True, kw_only=True):
    """`[[mcp_servers.tools]]`: a tool of a server, as it was approved."""

    tool: str
    """What the server calls it."""
    name: str
    version: str = "1"
    pin: str = ""
    """The hash of what the server says about it, from `gateway tools pin`."""
    description: str = ""
    effect: Literal["read", "reversible", "irreversible"] = "irreversible"
    idempotency: Literal["natural", "none"] = "none"
    errors_are_final: bool = False
    """It has done nothing when it answers with an error."""
    timeout_ms: int = 10_000
    cost_usd: str = "0"
    redacted: list[str] = []

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from _tool_faults(self)
        if self.errors_are_final and self.effect == "read":
            yield "errors_are_final: says nothing of a tool that only reads: leave it out"


class McpServerTable(Table, frozen=True, kw_only=True):
    """`[[mcp_servers]]`: a server that speaks MCP over Streamable HTTP."""

    name: str
    url: str
    protocol: Literal["2025-11-25", "2026-07-28"] = "2025-11-25"
    pins: str
    """The file that `gateway tools pin` writes: what the server said of its tools when they were approved."""
    networks: list[str] = []
    credentials: list[CredentialTable] = []
    idle_ms: int = 10_000
    recheck_ms: int = 5_000
    bounds: BoundsTable = BoundsTable()
    tools: list[McpToolTable] = []

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from _origin_faults("url", self.name, self.url, self.networks)
        yield from range_faults("idle_ms", self.idle_ms, 1, TIMEOUT_MS_MAX)
        yield from range_faults("recheck_ms", self.recheck_ms, 0, RECHECK_MS_MAX)
        if not self.pins:
            yield "pins: is empty: write a file for what `gateway tools pin` approves"


def _tool_faults(table: HttpToolTable | McpToolTable) -> Iterator[str]:
    if not TOOL_NAME.fullmatch(table.name):
        yield f"name: {shown(table.name)} is no tool name: write a-z 0-9 _"
    yield from range_faults("timeout_ms", table.timeout_ms, 1, TIMEOUT_MS_MAX)
    yield from amount_faults("cost_usd", table.cost_usd, MICRO, COST_USD_MAX)
    yield from twice_faults("redacted", table.redacted)


def _origin_faults(field: str, name: str, url: str, networks: list[str]) -> Iterator[str]:
    yield from forms.VENUE.faults("name", name)
    told = list(origin_faults(field, url, path=True))
    yield from told
    host = "" if told else forms.host_of(url)
    if host and (fault := host_fault(host)):
        yield f"{field}: {fault}"
    yield from network_faults(networks)


def network_faults(networks: list[str]) -> Iterator[str]:
    """Networks that are none, or that would allow too much."""
    for network in networks:
        try:
            network_of(network)
        except ValueError as error:
            yield f"networks: {error}"
