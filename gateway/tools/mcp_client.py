"""The client of one MCP server: how a session begins, what the server lists, and one call of one tool.

Two protocols are spoken: with a handshake and perhaps a session (2025-03-26 to 2025-11-25), and the one in which every
request stands alone (2026-07-28). The operator says which; nothing is tried out on a server that has effects.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Final

import aiohttp

from gateway.terms.clock import Clock
from gateway.terms.strict_json import JsonValue
from gateway.tools.deadline import Deadline
from gateway.tools.mcp_config import HANDSHAKE, HANDSHAKES, STATELESS, McpServer
from gateway.tools.mcp_pins import TOOLS_MAX, Said, said
from gateway.tools.mcp_wire import Garbled, HttpFailed, McpWire, Replied, Reply
from gateway.tools.roundtrip import NoAnswer, Patience

PAGES_MAX: Final = 50
_SESSION: Final = re.compile(r"[\x21-\x7e]{0,256}")
_CLIENT: Final[JsonValue] = {"name": "agentic-gateway", "version": "1"}


class McpClient:
    """One server. Belongs to a session of connections that its owner opens and closes."""

    def __init__(self, server: McpServer, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        credentials = {one.header: one.prefix + one.secret for one in server.credentials}
        self._wire = McpWire(session, server.url, credentials)
        self._version = STATELESS if server.protocol == STATELESS else ""
        """What is spoken; empty until a handshake."""
        self._beginning = asyncio.Lock()

    @property
    def list_changed(self) -> bool:
        """Whether the server said so since the tools were listed."""
        return self._wire.list_changed

    async def tools(self) -> dict[str, Said] | Reply:
        """Everything that the server lists now, or why it cannot be known. A session that is gone is begun anew."""
        deadline = Deadline(self._clock, self._server.listing_ms)
        found = await self._listed(deadline)
        if isinstance(found, HttpFailed) and found.status == 404:
            found = await self._listed(deadline)
        return found

    async def call(self, tool: str, arguments: JsonValue, deadline: Deadline) -> Reply:
        """Call a tool once. A handshake that fails is told as a call that was not sent."""
        trouble = await self._begun(deadline)
        if isinstance(trouble, NoAnswer):
            return NoAnswer(sent=False, detail=trouble.detail, guarded=trouble.guarded)
        if trouble is not None:
            return NoAnswer(sent=False, detail="the handshake failed")
        return await self._ask("tools/call", {"name": tool, "arguments": arguments}, deadline)

    async def close(self) -> None:
        """End the session, if there is one."""
        if self._version:
            await self._wire.end_session(self._headers(self._version))

    async def _listed(self, deadline: Deadline) -> dict[str, Said] | Reply:
        trouble = await self._begun(deadline)
        if trouble is not None:
            return trouble
        self._wire.list_changed = False
        found: dict[str, Said] = {}
        cursors: set[str] = set()
        params: dict[str, JsonValue] = {}
        for _ in range(PAGES_MAX):
            reply = await self._ask("tools/list", params, deadline)
            if not isinstance(reply, Replied):
                return reply
            for raw in _items(reply.result.get("tools")):
                tool = said(raw)
                if tool is None or tool.name in found or len(found) >= TOOLS_MAX:
                    return Garbled(detail="a tool without a name, one that stands twice, or too many")
                found[tool.name] = tool
            cursor = reply.result.get("nextCursor")
            if cursor is None:
                return found
            if not isinstance(cursor, str) or cursor in cursors:
                break
            cursors.add(cursor)
            params = {"cursor": cursor}
        return Garbled(detail="a list of tools that does not end")

    async def _begun(self, deadline: Deadline) -> Reply | None:
        """Begin a session unless there is one; None when there is."""
        if self._version:
            return None
        async with self._beginning:
            if self._version:
                return None
            params: dict[str, JsonValue] = {
                "protocolVersion": HANDSHAKE,
                "capabilities": {},
                "clientInfo": _CLIENT,
            }
            reply = await self._wire.ask("initialize", params, {}, self._patience(deadline))
            if not isinstance(reply, Replied):
                return reply
            version = reply.result.get("protocolVersion")
            if version not in HANDSHAKES or not _SESSION.fullmatch(self._wire.session_id):
                return Garbled(detail="a protocol or a session id that is none")
            headers = self._headers(str(version))
            if not await self._wire.notify("notifications/initialized", {}, headers):
                return NoAnswer(sent=True, detail="the handshake was not ended")
            self._version = str(version)
        return None

    async def _ask(self, method: str, params: Mapping[str, JsonValue], deadline: Deadline) -> Reply:
        version = self._version
        headers = self._headers(version)
        if version == STATELESS:
            name = params.get("name")
            headers |= {"Mcp-Method": method} | ({"Mcp-Name": name} if isinstance(name, str) else {})
            params = {**params, "_meta": _ENVELOPE}
        reply = await self._wire.ask(method, params, headers, self._patience(deadline))
        if isinstance(reply, HttpFailed) and reply.status == 404 and version != STATELESS:
            # The protocol's own word for a session that the server has forgotten: the next one begins anew.
            self._version, self._wire.session_id = "", ""
        return reply

    def _headers(self, version: str) -> dict[str, str]:
        headers = {"MCP-Protocol-Version": version}
        if self._wire.session_id:
            headers["Mcp-Session-Id"] = self._wire.session_id
        return headers

    def _patience(self, deadline: Deadline) -> Patience:
        server = self._server
        return Patience(total_s=deadline.left_s(), connect_s=server.connect_ms / 1000, idle_s=server.idle_ms / 1000)


_ENVELOPE: Final[JsonValue] = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}


def _items(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
