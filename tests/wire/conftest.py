"""A gateway's wire on a loopback port, with toy services over the real messages."""

from dataclasses import dataclass, field

import pytest
from wire_clients import Raw, eventually

from gateway.terms.clock import SystemClock, SystemIds
from gateway.wire.config import WireConfig
from gateway.wire.server import GatewayServer
from gateway.wire.table import bind
from generated.agentic.gateway.v1 import (
    ChatEvent,
    CountTokensResponse,
    DryRun,
    ListModelsResponse,
    ListToolsResponse,
    Operation,
    TextDelta,
)
from generated.agentic.gateway.v1.services import METHODS


@dataclass
class Log:
    """A witness that keeps what it was told."""

    events: list = field(default_factory=list)

    def tell(self, event, fields):
        self.events.append((event, dict(fields)))

    def named(self, name):
        return [fields for event, fields in self.events if event == name]


class ModelService:
    """Answers as the request's texts say: behaviour is chosen by the test, through `on`."""

    def __init__(self, on):
        self._on = on

    def chat(self, request, passage):
        return self._on.get("chat", _count_to_three)(request, passage)

    def resume_chat(self, request, passage):
        return self._on.get("resume_chat", _count_to_three)(request, passage)

    async def count_tokens(self, request, passage):
        return await self._on.get("count_tokens", _count_letters)(request, passage)

    async def list_models(self, request, passage):
        return ListModelsResponse()


class ToolService:
    """The other service, so that the table has two."""

    async def list_tools(self, request, passage):
        return ListToolsResponse()

    async def execute_tool(self, request, passage):
        return Operation(id="op-1", tool=request.tool, result_json=request.arguments_json)

    async def dry_run_tool(self, request, passage):
        return DryRun(message=request.arguments_json)

    async def get_operation(self, request, passage):
        return Operation(id=request.operation_id)

    async def watch_operation(self, request, passage):
        yield Operation(id=request.operation_id)


async def _count_to_three(request, passage):
    for number in (1, 2, 3):
        yield ChatEvent(sequence=number, text=TextDelta(text=request.model))


async def _count_letters(request, passage):
    return CountTokensResponse(input_tokens=len(request.model))


@dataclass
class Served:
    server: GatewayServer
    port: int
    log: Log
    clients: list = field(default_factory=list)

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    async def raw(self, **options):
        """A raw HTTP/2 client, closed with the server."""
        client = await Raw.open(self.port, **options)
        self.clients.append(client)
        return client

    async def quiet(self):
        """Wait until no call is open."""
        await eventually(lambda: not self.server._load.calls and not self.server._load.exchanges)


@pytest.fixture
async def serve():
    """Start a server: `await serve(chat=..., count_tokens=..., more=<a table>, web=<ASGI>, **bounds)`."""
    started = []

    async def start(chat=None, count_tokens=None, more=None, web=None, **bounds):
        on = {name: call for name, call in (("chat", chat), ("count_tokens", count_tokens)) if call}
        table = bind(METHODS, ModelService(on)).joined(bind(METHODS, ToolService()))
        table = table if more is None else table.joined(more)
        log = Log()
        # Clients of these tests do not close when the server does: waiting for them is waiting for nothing.
        bounds = {"linger_s": 0.05, **bounds}
        server = GatewayServer(table, WireConfig(**bounds), SystemClock(), SystemIds(), log)
        port = await server.start("127.0.0.1", 0, web)
        server.readiness.set_serving(True)
        started.append(Served(server, port, log))
        return started[-1]

    yield start
    for served in started:
        server = served.server
        for client in served.clients:
            await client.close()
        await server.drain(0.05)
        assert server.running == 0
        # An application that is deaf is cancelled a moment after it was answered for.
        await eventually(lambda server=server: not server._load.exchanges)
        assert server.connections == 0
        assert server._load.receiving_bytes == 0
