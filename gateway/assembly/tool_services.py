"""The services that the settings make tools of, each kind imported only where it is configured."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from gateway.settings.ccxt_tables import CcxtVenueTable
from gateway.settings.faults import SettingsError, reason
from gateway.settings.file import File
from gateway.settings.tool_tables import (
    BoundsTable,
    CredentialTable,
    HttpServiceTable,
    HttpToolTable,
    McpServerTable,
    McpToolTable,
)
from gateway.terms.asks import Effect, Idempotency
from gateway.terms.clock import Clock
from gateway.terms.money import MICRO, scaled
from gateway.tools.backend import Backend

if TYPE_CHECKING:
    from gateway.tools.http_config import Credential, HttpTool
    from gateway.tools.mcp_config import McpServer, McpTool
    from gateway.tools.tightening import Bounds

DOCUMENT_BYTES_MAX: Final = 4 * 1024 * 1024
_UNREAD: Final = "not-read-here-" * 4
"""In the place of a secret where tools are only looked at."""


class ToolService(Backend, AbstractAsyncContextManager["ToolService"], Protocol):
    """A backend that has connections while its block runs."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the files and secrets that the settings refer to come from."""

    base: Path
    secrets: Mapping[str, str] | None = field(repr=False)
    """By their references; None where tools are only looked at and nothing is sent."""

    def secret(self, reference: str) -> str:
        """What a reference leads to."""
        return _UNREAD if self.secrets is None else self.secrets[reference]

    def document(self, place: str, path: str) -> bytes:
        """A file of at most 4 MiB. Raises `SettingsError`."""
        try:
            with (self.base / path).open("rb") as file:
                data = file.read(DOCUMENT_BYTES_MAX + 1)
        except OSError as error:
            raise SettingsError(place, [f"{self.base / path} cannot be read: {reason(error)}"]) from None
        if len(data) > DOCUMENT_BYTES_MAX:
            raise SettingsError(place, [f"{self.base / path} is longer than {DOCUMENT_BYTES_MAX} bytes"])
        return data


def tool_services(file: File, sources: Sources, clock: Clock) -> tuple[ToolService, ...]:
    """Build them without connecting. Raises `SettingsError` or ValueError with everything that is wrong with one."""
    return (
        *(_ccxt(table, sources, clock) for table in file.ccxt_venues),
        *(_http(table, sources, clock) for table in file.http_services),
        *(_mcp(table, sources, clock) for table in file.mcp_servers),
    )


def _ccxt(table: CcxtVenueTable, sources: Sources, clock: Clock) -> ToolService:
    from gateway.tools.ccxt import Ccxt  # noqa: PLC0415 - only where an account is configured
    from gateway.tools.ccxt_config import CcxtConfig  # noqa: PLC0415 - as above

    try:
        config = CcxtConfig(
            name=table.name,
            exchange=table.exchange,
            sandbox=table.mode == "sandbox",
            symbols=tuple(table.symbols),
            counted_as_usd=tuple(table.counted_as_usd),
            key_id=sources.secret(table.key_id),
            secret_key=sources.secret(table.secret_key),
            account=table.account,
            client_order_key=sources.secret(table.order_key).encode(),
            url=table.url,
            acceptance_ms=table.acceptance_s * 1_000,
            networks=tuple(table.networks),
        )
        return Ccxt(config, clock)
    except ValueError as error:
        raise SettingsError(f"ccxt_venues.{table.name}", [str(error)]) from error


def mcp_server(table: McpServerTable, sources: Sources) -> "McpServer":
    """A server as the settings describe it, with what its file of pins holds; a file that is absent holds nothing.

    Raises `SettingsError`.
    """
    from gateway.tools.mcp_config import McpServer  # noqa: PLC0415 - only where a server is configured
    from gateway.tools.mcp_pins import read_pins  # noqa: PLC0415 - as above

    place = f"mcp_servers.{table.name}"
    try:
        absent = not (sources.base / table.pins).exists()
        return McpServer(
            name=table.name,
            url=table.url,
            protocol=table.protocol,
            pinned={} if absent else read_pins(sources.document(place, table.pins)),
            tools=tuple(map(_mcp_tool, table.tools)),
            networks=tuple(table.networks),
            credentials=_credentials(table.credentials, sources),
            bounds=_bounds(table.bounds),
            idle_ms=table.idle_ms,
            recheck_ms=table.recheck_ms,
        )
    except ValueError as error:
        raise SettingsError(place, [str(error)]) from error


def _mcp(table: McpServerTable, sources: Sources, clock: Clock) -> ToolService:
    from gateway.tools.mcp import McpTools  # noqa: PLC0415 - only where a server is configured

    return McpTools(mcp_server(table, sources), clock)


def _mcp_tool(table: McpToolTable) -> "McpTool":
    from gateway.tools.mcp_config import McpTool  # noqa: PLC0415 - as above

    return McpTool(
        tool=table.tool,
        errors_are_final=table.errors_are_final,
        name=table.name,
        version=table.version,
        pin=table.pin,
        description=table.description,
        effect=Effect(table.effect),
        idempotency=Idempotency(table.idempotency),
        timeout_ms=table.timeout_ms,
        cost=scaled(table.cost_usd, MICRO),
        redacted=frozenset(table.redacted),
    )


def _http(table: HttpServiceTable, sources: Sources, clock: Clock) -> ToolService:
    from gateway.tools.http import HttpTools  # noqa: PLC0415 - only where a service is configured
    from gateway.tools.http_config import HttpService  # noqa: PLC0415 - as above

    place = f"http_services.{table.name}"
    document = sources.document(place, table.document)
    try:
        service = HttpService(
            name=table.name,
            origin=table.origin,
            document=document,
            tools=tuple(map(_http_tool, table.tools)),
            networks=tuple(table.networks),
            credentials=_credentials(table.credentials, sources),
            call_key=sources.secret(table.call_key).encode() if table.call_key else b"",
            bounds=_bounds(table.bounds),
            idle_ms=table.idle_ms,
            acceptance_ms=table.acceptance_s * 1_000,
        )
    except ValueError as error:
        raise SettingsError(place, [str(error)]) from error
    return HttpTools(service, clock)


def _http_tool(table: HttpToolTable) -> "HttpTool":
    from gateway.tools.http_config import HttpTool  # noqa: PLC0415 - as above

    return HttpTool(
        operation=table.operation,
        name=table.name,
        version=table.version,
        description=table.description,
        effect=Effect(table.effect),
        idempotency=Idempotency(table.idempotency),
        key_header=table.key_header,
        key_member=table.key_member,
        lookup_operation=table.lookup_operation,
        lookup_argument=table.lookup_argument,
        lookup_found=table.lookup_found,
        timeout_ms=table.timeout_ms,
        cost=scaled(table.cost_usd, MICRO),
        redacted=frozenset(table.redacted),
    )


def _credentials(tables: Iterable[CredentialTable], sources: Sources) -> "tuple[Credential, ...]":
    from gateway.tools.http_config import Credential  # noqa: PLC0415 - as above

    return tuple(
        Credential(header=one.header, query=one.query, prefix=one.prefix, secret=sources.secret(one.secret))
        for one in tables
    )


def _bounds(table: BoundsTable) -> "Bounds":
    from gateway.tools.tightening import Bounds  # noqa: PLC0415 - as above

    return Bounds(
        string_length_max=table.string_length or None,
        array_items_max=table.array_items or None,
        integer_max=table.integer or None,
    )
