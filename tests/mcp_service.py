"""An MCP server made with the official Python SDK, on a real socket: the judge of our client.

async with mcp_service() as service:
    service.url
"""

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

SECRET = "mcp-secret-value"


@dataclass
class McpService:
    """A running server, and what its tools were called with."""

    url: str
    server: MCPServer
    seen: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    """Method and headers of every HTTP request."""

    def describe(self, name, description):
        """Change what a tool says about itself, as a server may at any time."""
        self.server._tool_manager._tools[name].description = description

    def tool_calls(self):
        return [name for name, *_ in self.seen]


Text = Annotated[str, Field(max_length=80)]


def _tools(service):
    server = service.server

    @server.tool(description="Opens a ticket.")
    def open_ticket(title: Text, urgent: bool = False) -> dict[str, str]:
        service.seen.append(("open_ticket", title, urgent))
        return {"ticket": "T-1", "title": title}

    @server.tool(description="Reads a ticket.")
    def read_ticket(ticket: Text) -> str:
        service.seen.append(("read_ticket", ticket))
        return f"ticket {ticket}"

    @server.tool(description="Always fails.")
    def fail(why: Text) -> str:
        service.seen.append(("fail", why))
        raise ToolError(f"it failed: {why}")

    @server.tool(description="Reports while it works.")
    async def slow(steps: Annotated[int, Field(ge=0, le=50)], context: Context) -> str:
        service.seen.append(("slow", steps))
        for step in range(steps):
            await context.report_progress(step, steps)
        await context.session.send_tool_list_changed()
        return "done"

    @server.tool(description="Never ends.")
    async def hang() -> str:
        service.seen.append(("hang",))
        await asyncio.Event().wait()
        return "never"

    @server.tool(description="Has no bounds.")
    def unbounded(text: str, maybe: str | None = None, many: list[str] | None = None) -> str:
        service.seen.append(("unbounded", text))
        return text


def _watched(app, service):
    """The application with a note of every request's method, protocol headers and credentials."""

    async def watched(scope, receive, send):
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            service.requests.append((scope["method"], headers))
        await app(scope, receive, send)

    return watched


@asynccontextmanager
async def mcp_service(**options):
    """A server that listens on loopback; `options` are those of the SDK's Streamable HTTP application."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        service = McpService(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", MCPServer("tickets"))
        _tools(service)
        app = _watched(service.server.streamable_http_app(**options), service)
        config = uvicorn.Config(app, log_level="critical", lifespan="on", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started:
                await asyncio.sleep(0.005)
                if running.done():
                    running.result()
            yield service
        finally:
            server.should_exit = True
            await running
