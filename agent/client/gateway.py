"""The gateway's client: governed model streams and tool calls as Python calls.

async with GatewayClient("https://gateway-service-123.run.app", tokens) as gateway:
    async for event in gateway.chat(request): ...
    operation = await gateway.execute_tool("place_order", {...})
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import SystemRandom
from types import TracebackType
from typing import Final, Self, TypeVar, cast

from grpclib.client import Stream
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError, StreamTerminatedError

from agent.client.channels import ChannelPool
from agent.client.errors import GatewayError, gateway_error, too_late, unreachable
from agent.tokens import TokenSource
from generated.agentic.gateway.v1 import (
    ChatEvent,
    ChatRequest,
    CountTokensRequest,
    CountTokensResponse,
    ExecuteToolRequest,
    GetOperationRequest,
    ListModelsRequest,
    ListModelsResponse,
    ListToolsRequest,
    ListToolsResponse,
    Operation,
)

Request = TypeVar("Request")
Reply = TypeVar("Reply")

_MODELS: Final = "/agentic.gateway.v1.ModelService/"
_TOOLS: Final = "/agentic.gateway.v1.ToolService/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long and how often a call is tried. Seconds."""

    timeout_s: float = 60.0
    """For a unary call with all of its retries."""
    attempts: int = 5
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0


@dataclass(slots=True, kw_only=True)
class CallReport:
    """What the gateway said beside the answer; filled while a call runs."""

    metadata: dict[str, str] = field(default_factory=dict)
    """Initial and trailing metadata: `gateway-request`, `gateway-operation`, `gateway-timing`."""
    attempts: int = 0


class GatewayClient:
    """Speaks to one gateway. Raises `GatewayError` for every call that does not end well."""

    def __init__(
        self,
        url: str,
        tokens: TokenSource | None = None,
        *,
        audience: str = "",
        connections: int = 4,
        patience: Patience = Patience(),
    ) -> None:
        """`audience` is the gateway's URL as Cloud Run knows it, where calls go to another address."""
        self._url = url.rstrip("/")
        self._audience = audience or self._url
        self._tokens = tokens
        self._connections = connections
        self._patience = patience
        self._pool: ChannelPool | None = None
        self._random = SystemRandom()

    async def __aenter__(self) -> Self:
        """Make the channels; they connect with the first call."""
        self._pool = ChannelPool(self._url, self._connections)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the channels."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    async def chat(
        self, request: ChatRequest, *, timeout_s: float | None = None, report: CallReport | None = None
    ) -> AsyncGenerator[ChatEvent, None]:
        """The events of one answer as they come. Leaving the iteration early ends the call at the gateway.

        Tried again only before the first event, and only when the gateway could not be reached.
        """
        report = report or CallReport()
        for attempt in range(1, self._patience.attempts + 1):
            report.attempts, begun = attempt, False
            try:
                async with self._stream("Chat", request, ChatEvent, timeout_s, report) as stream:
                    async for event in stream:
                        begun = True
                        yield event
            except GatewayError as error:
                if begun or not error.passing or attempt == self._patience.attempts:
                    raise
                await asyncio.sleep(self._pause_s(attempt, error))
            else:
                return

    async def count_tokens(self, request: CountTokensRequest, *, report: CallReport | None = None) -> int:
        """Tokens of a prompt."""
        reply = await self._unary(_MODELS + "CountTokens", request, CountTokensResponse, report)
        return reply.input_tokens

    async def list_models(self, *, report: CallReport | None = None) -> ListModelsResponse:
        """The models that this agent may use."""
        return await self._unary(_MODELS + "ListModels", ListModelsRequest(), ListModelsResponse, report)

    async def list_tools(self, *, report: CallReport | None = None) -> ListToolsResponse:
        """The tools that this agent may ask for."""
        return await self._unary(_TOOLS + "ListTools", ListToolsRequest(), ListToolsResponse, report)

    async def execute_tool(  # noqa: PLR0913 - the fields of one request
        self,
        tool: str,
        arguments: Mapping[str, object] | str,
        *,
        key: str = "",
        version: str = "",
        run_id: str = "",
        timeout_s: float | None = None,
        report: CallReport | None = None,
    ) -> Operation:
        """Execute a tool once. Every retry carries the same idempotency key: yours, or one made here.

        `arguments` as a string goes to the gateway byte for byte.
        """
        request = ExecuteToolRequest(
            tool=tool,
            version=version,
            arguments_json=arguments if isinstance(arguments, str) else json.dumps(arguments),
            idempotency_key=key or f"agent-{secrets.token_hex(16)}",
            run_id=run_id,
        )
        return await self._unary(_TOOLS + "ExecuteTool", request, Operation, report, timeout_s)

    async def get_operation(self, operation_id: str, *, report: CallReport | None = None) -> Operation:
        """What became of an operation of this agent."""
        request = GetOperationRequest(operation_id=operation_id)
        return await self._unary(_TOOLS + "GetOperation", request, Operation, report)

    async def _unary(
        self,
        path: str,
        request: object,
        reply: type[Reply],
        report: CallReport | None,
        timeout_s: float | None = None,
    ) -> Reply:
        report = report or CallReport()
        clock = asyncio.get_running_loop().time
        end = clock() + (timeout_s or self._patience.timeout_s)
        for attempt in range(1, self._patience.attempts + 1):
            report.attempts = attempt
            try:
                async with self._opened(path, Cardinality.UNARY_UNARY, request, reply, end - clock(), report) as stream:
                    return cast(Reply, await stream.recv_message())
            except GatewayError as error:
                pause = self._pause_s(attempt, error)
                if not error.passing or attempt == self._patience.attempts or clock() + pause >= end:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _pause_s(self, attempt: int, error: GatewayError) -> float:
        """Exponential with full jitter; at least what the gateway asks for."""
        most = min(self._patience.first_pause_s * 2.0**attempt, self._patience.longest_pause_s)
        return max(self._random.random() * most, error.retry_after_s or 0.0)

    @asynccontextmanager
    async def _stream(
        self, method: str, request: object, reply: type[Reply], timeout_s: float | None, report: CallReport
    ) -> AsyncIterator[AsyncIterator[Reply]]:
        async with self._opened(
            _MODELS + method, Cardinality.UNARY_STREAM, request, reply, timeout_s, report
        ) as stream:
            yield cast(AsyncIterator[Reply], stream)

    @asynccontextmanager
    async def _opened(  # noqa: PLR0913, PLR0917 - what one call is made of
        self,
        path: str,
        cardinality: Cardinality,
        request: object,
        reply: type[Reply],
        timeout_s: float | None,
        report: CallReport,
    ) -> AsyncIterator["Stream[object, Reply]"]:
        if self._pool is None:
            raise RuntimeError("GatewayClient is used outside of its context")
        metadata = {}
        if self._tokens is not None:
            metadata["authorization"] = f"Bearer {await self._tokens.id_token(self._audience)}"
        stream: Stream[object, Reply] | None = None
        try:
            async with self._pool.channel() as channel:
                stream = channel.request(path, cardinality, type(request), reply, timeout=timeout_s, metadata=metadata)
                async with stream:
                    await stream.send_message(request, end=True)
                    yield stream
        except GRPCError as error:
            _note(stream, report)
            raise gateway_error(error, report.metadata) from error
        except (StreamTerminatedError, ConnectionError) as error:
            raise unreachable(error) from error
        except TimeoutError as error:
            raise too_late() from error
        _note(stream, report)


def _note(stream: "Stream[object, Reply] | None", report: CallReport) -> None:
    for metadata in (stream.initial_metadata, stream.trailing_metadata) if stream else ():
        if metadata is not None:
            report.metadata.update({name: value for name, value in metadata.items() if isinstance(value, str)})
