"""Approved words of an MCP server become tools: a hash proves that they are the approved ones, the lint bounds them."""

import json
from typing import Final

from gateway.terms.asks import ToolDeclaration
from gateway.terms.strict_json import JsonValue
from gateway.tools.declarations import Draft, declared, described
from gateway.tools.mcp_config import STATELESS, McpServer, McpTool
from gateway.tools.mcp_pins import Said
from gateway.tools.tightening import Bounds, tightened

_HEADERS: Final = "x-mcp-header"


def bound_tools(server: McpServer) -> tuple[tuple[ToolDeclaration, McpTool], ...]:
    """Every configured tool. Raises ValueError with a line for each that cannot be offered."""
    found, faults = [], []
    for tool in server.tools:
        try:
            found.append((_bind(server, tool), tool))
        except ValueError as error:
            faults.append(f"the tool {tool.name}: {error}")
    if faults:
        raise ValueError("\n  ".join((f"the server {server.name} cannot be used:", *faults)))
    return tuple(found)


def offerable(known: Said, bounds: Bounds) -> str:
    """Why agents could not be offered what a server says of a tool; empty if they could."""
    tool = McpTool(tool=known.name, name="tool", pin=known.pin)
    try:
        _declare(known, tool, bounds)
    except ValueError as error:
        return str(error)
    return ""


def _bind(server: McpServer, tool: McpTool) -> ToolDeclaration:
    known = server.pinned.get(tool.pin)
    if known is None or known.name != tool.tool:
        raise ValueError(_unapproved(server, tool))
    if server.protocol == STATELESS and _HEADERS in json.dumps(known.members["inputSchema"], default=str):
        raise ValueError(f"its schema asks for headers ({_HEADERS}), which this gateway does not write")
    return _declare(known, tool, server.bounds)


def _unapproved(server: McpServer, tool: McpTool) -> str:
    """What to do about a tool whose words nobody approved."""
    pins = [f'"{known.pin}"' for known in server.pinned.values() if known.name == tool.tool]
    if not pins:
        return f"nothing that the server says of {tool.tool!r} was approved yet: run `gateway tools pin` and read it"
    why = "its pin is for words that the file of pins does not hold" if tool.pin else "no pin is written"
    return f"{why}: read what the file of pins says of it, and approve that with pin = {' or '.join(pins)}"


def _declare(known: Said, tool: McpTool, bounds: Bounds) -> ToolDeclaration:
    schema: JsonValue = tightened(known.members["inputSchema"], bounds)
    return declared(
        Draft(
            name=tool.name,
            version=tool.version,
            description=described(tool.description or known.description, tool.effect, tool.idempotency),
            arguments_schema=json.dumps(schema, separators=(",", ":"), default=str),
            effect=tool.effect.value,
            idempotency=tool.idempotency.value,
            timeout_ms=tool.timeout_ms,
            redacted=tool.redacted,
        )
    )
