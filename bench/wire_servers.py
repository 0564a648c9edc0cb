"""The servers that `bench wire` compares, each in a process of its own: ours, grpcio.aio, and grpclib as it comes."""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc  # type: ignore[import-untyped] # a judge that has no types
import grpc.aio  # type: ignore[import-untyped] # as above
import grpclib.server
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase

from gateway.terms.clock import SystemClock, SystemIds
from gateway.wire.config import WireConfig
from gateway.wire.descriptors import COMPILED
from gateway.wire.server import GatewayServer
from gateway.wire.table import bind
from gateway.wire.web.application import WebApplication
from generated.agentic.gateway.v1 import (
    ChatEvent,
    ChatRequest,
    ExecuteToolRequest,
    Operation,
    TextDelta,
)
from generated.agentic.gateway.v1.services import METHODS

MESSAGES = 200
TEXT = "x" * 32
"""With its envelope, a message of 40 bytes."""
EXECUTE = "/agentic.gateway.v1.ToolService/ExecuteTool"
CHAT = "/agentic.gateway.v1.ModelService/Chat"


class ToolService:
    """Echoes."""

    async def execute_tool(self, request: Any, _passage: Any) -> Any:
        """The arguments come back as the result."""
        return Operation(id="op-1", tool=request.tool, result_json=request.arguments_json)


class ModelService:
    """Streams; `turns` lets the loop have its turn between messages, as an upstream would."""

    def __init__(self, *, turns: bool) -> None:
        self._turns = turns

    async def chat(self, _request: Any, _passage: Any) -> AsyncIterator[Any]:
        """All messages."""
        for number in range(1, MESSAGES + 1):
            yield ChatEvent(sequence=number, text=TextDelta(text=TEXT))
            if self._turns:
                await asyncio.sleep(0)


class Silent:
    """A witness that keeps nothing: what is measured is the wire."""

    def tell(self, event: str, fields: Any) -> None:
        """Nothing."""


async def ours(*, turns: bool) -> int:
    """The gateway's wire, with everything on the port."""
    measured = [method for method in METHODS if method.path in {EXECUTE, CHAT}]
    table = bind(measured, ToolService()).joined(bind(measured, ModelService(turns=turns)))
    server = GatewayServer(table, WireConfig(), SystemClock(), SystemIds(), Silent())
    web = WebApplication(table, server.surroundings, server.readiness)
    return await server.start("127.0.0.1", 0, web)


async def grpcio(*, turns: bool) -> int:
    """With google.protobuf's messages, as its users have it."""
    files = FileDescriptorSet.FromString(COMPILED.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    names = ("ExecuteToolRequest", "Operation", "ChatRequest", "ChatEvent", "TextDelta")
    execute, operation, chat, event, delta = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"agentic.gateway.v1.{name}")) for name in names
    )

    async def execute_tool(request: Any, _context: Any) -> Any:
        return operation(id="op-1", tool=request.tool, result_json=request.arguments_json)

    async def stream(_request: Any, _context: Any) -> AsyncIterator[Any]:
        for number in range(1, MESSAGES + 1):
            yield event(sequence=number, text=delta(text=TEXT))
            if turns:
                await asyncio.sleep(0)

    server = grpc.aio.server()
    methods = {
        EXECUTE: grpc.unary_unary_rpc_method_handler(execute_tool, execute.FromString, operation.SerializeToString),
        CHAT: grpc.unary_stream_rpc_method_handler(stream, chat.FromString, event.SerializeToString),
    }
    for path, answer in methods.items():
        service, _, method = path[1:].partition("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: answer}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    KEPT.append(server)
    return int(port)


class Betterproto(CodecBase):
    """What betterproto2's own generated code does."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ARG002 - grpclib's own
        """See `CodecBase`."""
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        """See `CodecBase`."""
        return message_type.parse(data)


class Stock:
    """Both services for grpclib."""

    def __init__(self, *, turns: bool) -> None:
        self._tools, self._models = ToolService(), ModelService(turns=turns)

    async def _execute(self, stream: Any) -> None:
        await stream.send_message(await self._tools.execute_tool(await stream.recv_message(), None))

    async def _chat(self, stream: Any) -> None:
        async for event in self._models.chat(await stream.recv_message(), None):
            await stream.send_message(event)

    def __mapping__(self) -> dict[str, Handler]:
        return {
            EXECUTE: Handler(self._execute, Cardinality.UNARY_UNARY, ExecuteToolRequest, Operation),
            CHAT: Handler(self._chat, Cardinality.UNARY_STREAM, ChatRequest, ChatEvent),
        }


async def stock(*, turns: bool) -> int:
    """Stock grpclib and betterproto2."""
    server = grpclib.server.Server([Stock(turns=turns)], codec=Betterproto())
    await server.start("127.0.0.1", 0)
    KEPT.append(server)
    return int(server._server.sockets[0].getsockname()[1])  # type: ignore[union-attr]  # noqa: SLF001 - grpclib does not tell


KEPT: list[object] = []
SERVERS: dict[str, Callable[..., Any]] = {"ours": ours, "grpcio": grpcio, "grpclib": stock}


async def main() -> None:
    """`NAME [turns]`: print the port and serve until the process is ended."""
    os.sched_setaffinity(0, {int(sys.argv[2])})
    # As `gateway serve` does once it is ready; for all of them alike.
    gc.freeze()
    print(await SERVERS[sys.argv[1]](turns=sys.argv[3:] == ["turns"]), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
