"""The gateway's client: governed model streams and tool calls as Python calls.

async with GatewayClient("https://gateway-service-123.run.app", tokens) as gateway:
    async for event in gateway.chat(request): ...
    operation = await gateway.execute_tool("place_order", {...})
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from types import TracebackType
from typing import Final, Self, TypeVar, cast

from grpclib.const import Status

from agent.client.address import address
from agent.client.call import Call, CallReport
from agent.client.channels import ChannelPool
from agent.client.errors import (
    GatewayError,
    UnreachableError,
    miscounted,
    too_late,
    unreachable,
    unreadable,
    unwritable,
)
from agent.client.patience import Patience
from agent.client.place import Place, keyed
from agent.client.reply import Reply
from agent.tokens import Forgetful, TokenError, TokenSource
from generated.agentic.gateway.v1 import (
    ChatEvent,
    ChatRequest,
    CountTokensRequest,
    CountTokensResponse,
    DryRun,
    ExecuteToolRequest,
    GetOperationRequest,
    ListModelsRequest,
    ListModelsResponse,
    ListToolsRequest,
    ListToolsResponse,
    Operation,
    Resumable,
    ResumeChatRequest,
    WatchOperationRequest,
)
from generated.agentic.gateway.v1.codec import CODECS
from generated.agentic.gateway.v1.services import METHODS

__all__ = ["CallReport", "GatewayClient", "Patience"]

Answer = TypeVar("Answer")

_DRY_RUN: Final = next(method.path for method in METHODS if method.reply is DryRun)
_PATHS: Final[dict[type, str]] = {method.request: method.path for method in METHODS if method.path != _DRY_RUN}
"""A dry run has the request of the call that it rehearses."""
_PATIENCE: Final = Patience()
_CONNECTIONS_MAX: Final = 64
_CHAT_EVENT: Final = cast("Callable[[bytes], ChatEvent]", CODECS[ChatEvent].decode)

STREAM_GONE: Final = "stream.gone"
"""The reason of a gateway that holds no such stream: another instance than the one that ran it."""

LEAVE_S: Final = 2.0
"""For telling the gateway that a stream is left."""


class GatewayClient:
    """Speaks to one gateway. Raises `GatewayError` for every call that does not end well, `TokenError` for no token."""

    def __init__(
        self,
        url: str,
        tokens: TokenSource | None = None,
        *,
        audience: str = "",
        connections: int = 4,
        patience: Patience = _PATIENCE,
    ) -> None:
        """`audience` is the gateway's URL as Cloud Run knows it, where calls go to another address.

        Raises `ValueError` for a URL that is none, or too many connections.
        """
        if not 1 <= connections <= _CONNECTIONS_MAX:
            raise ValueError(f"connections: from 1 to {_CONNECTIONS_MAX}")
        self._address = address(url)
        self._audience = audience or url.rstrip("/")
        self._tokens = tokens
        self._connections = connections
        self._patience = patience
        self._pool: ChannelPool | None = None

    async def __aenter__(self) -> Self:
        """Make room for connections; the first call makes the first one."""
        self._pool = ChannelPool(self._address, self._connections, self._patience.silence_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    async def chat(
        self,
        request: ChatRequest,
        *,
        timeout_s: float | None = None,
        report: CallReport | None = None,
        anew: Callable[[GatewayError], None] | None = None,
    ) -> AsyncGenerator[ChatEvent, None]:
        """The events of one answer as they come. Leaving the iteration early ends the call at the gateway.

        Tried again before the first event; after it, a stream with `resumable` whose connection broke is resumed where
        it broke, each event once. Tools that the gateway runs get an idempotency key, so that no attempt repeats an
        effect. An iteration that ends without an error gave the whole answer.

        With `anew`, a stream that broke and cannot be resumed, because its instance is gone, is asked for from its
        beginning, as often as `Patience.attempts`: `anew` is called with what broke it, every event until then is
        void, and the first one comes next. Models rarely say the same twice.
        """
        request = keyed(request)
        call = self._call(request, report, self._patience.stream_timeout_s if timeout_s is None else timeout_s)
        place = Place()
        while True:
            reply: Reply | None = None
            try:
                reply = await self._opened(call)
                while (message := await reply.next()) is not None:
                    event = _read(_CHAT_EVENT, message)
                    place.take(event)
                    yield event
                place.check_end()
            except GatewayError as error:
                _close(reply, call)  # its place is for others while this call pauses
                call = self._following(call, request, place, error, begins_anew=anew is not None)
                if error.reason != STREAM_GONE:  # for which nobody needs to wait
                    await self._again(call, error)
                if anew is not None and place.sequence and call.path == _PATHS[ChatRequest]:
                    place.begin()
                    anew(error)
            except GeneratorExit:
                _close(reply, call)
                await self._leave(call, request, place)
                raise
            else:
                return
            finally:
                _close(reply, call)

    def _following(
        self, call: Call, request: ChatRequest, place: Place, error: GatewayError, *, begins_anew: bool
    ) -> Call:
        """The call that goes on after this error: for the rest of the stream, or else for all of it.

        Raises the error where nothing more can be had.
        """
        if not place.sequence:
            return call
        error.effect_unknown = error.effect_unknown or call.effect_unknown
        operation = call.report.metadata.get("gateway-operation", "")
        left_s = call.end - asyncio.get_running_loop().time()
        wish: ChatRequest | ResumeChatRequest
        if left_s <= 0:
            raise error
        if request.resumable is not Resumable.UNSPECIFIED and error.from_edge and error.passing and operation:
            wish = ResumeChatRequest(operation_id=operation, after_sequence=place.sequence)
        elif begins_anew and place.begun < self._patience.attempts and (error.passing or error.reason == STREAM_GONE):
            wish = request
        else:
            raise error
        following = self._call(wish, call.report, left_s)
        following.effect_unknown, following.token = error.effect_unknown, call.token
        # An attempt that brought something was no failure.
        following.attempts_before = call.attempts_before if place.stuck else call.report.attempts - 1
        place.mark()
        return following

    async def _leave(self, call: Call, request: ChatRequest, place: Place) -> None:
        """A stream that goes on when it is cancelled is told, once, that nobody comes back for it."""
        operation = call.report.metadata.get("gateway-operation", "")
        if request.resumable is not Resumable.CANCELLED or place.finished or not operation:
            return
        leaving = self._call(ResumeChatRequest(operation_id=operation, leave=True), None, LEAVE_S)
        reply: Reply | None = None
        try:
            reply = await self._opened(leaving)
            await reply.next()
        except (GatewayError, TokenError):
            return  # then its time without a caller ends it
        finally:
            _close(reply, leaving)

    async def count_tokens(self, request: CountTokensRequest, *, report: CallReport | None = None) -> int:
        """Tokens of a prompt."""
        reply = await self._unary(request, CountTokensResponse, report)
        return reply.input_tokens

    async def list_models(self, *, report: CallReport | None = None) -> ListModelsResponse:
        """The models that this agent may use."""
        return await self._unary(ListModelsRequest(), ListModelsResponse, report)

    async def list_tools(self, *, report: CallReport | None = None) -> ListToolsResponse:
        """The tools that this agent may ask for."""
        return await self._unary(ListToolsRequest(), ListToolsResponse, report)

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
        """Execute a tool once. Every attempt carries the same idempotency key: yours, or one made here.

        `arguments` as a string goes to the gateway byte for byte. An error with `effect_unknown` says that the tool may
        have been called: only the same key makes another try safe, so give one where you may have to.
        """
        request = ExecuteToolRequest(
            tool=tool,
            version=version,
            arguments_json=arguments if isinstance(arguments, str) else _json(arguments),
            idempotency_key=key or f"agent-{secrets.token_hex(16)}",
            run_id=run_id,
        )
        return await self._unary(request, Operation, report, timeout_s)

    async def dry_run_tool(
        self,
        tool: str,
        arguments: Mapping[str, object] | str,
        *,
        version: str = "",
        run_id: str = "",
        report: CallReport | None = None,
    ) -> DryRun:
        """What the same call to `execute_tool` would come to now; nothing is held or sent. The rules must permit it."""
        request = ExecuteToolRequest(
            tool=tool,
            version=version,
            arguments_json=arguments if isinstance(arguments, str) else _json(arguments),
            run_id=run_id,
        )
        return await self._unary(request, DryRun, report)

    async def get_operation(self, operation_id: str, *, report: CallReport | None = None) -> Operation:
        """What became of an operation of this agent."""
        return await self._unary(GetOperationRequest(operation_id=operation_id), Operation, report)

    async def watch_operation(
        self, operation_id: str, *, timeout_s: float | None = None, report: CallReport | None = None
    ) -> AsyncGenerator[Operation, None]:
        """An operation of this agent now and at every change, until it is SUCCEEDED or FAILED or the time is up.

        It has no effect, so it is tried again also after a change was heard; a change may then be heard twice.
        """
        call = self._call(
            WatchOperationRequest(operation_id=operation_id),
            report,
            self._patience.stream_timeout_s if timeout_s is None else timeout_s,
        )
        decode = cast("Callable[[bytes], Operation]", CODECS[Operation].decode)
        while True:
            reply: Reply | None = None
            try:
                reply = await self._opened(call)
                while (message := await reply.next()) is not None:
                    yield _read(decode, message)
            except GatewayError as error:
                _close(reply, call)  # as above
                await self._again(call, error)
            else:
                return
            finally:
                _close(reply, call)

    async def _unary(
        self, request: object, answer: type[Answer], report: CallReport | None, timeout_s: float | None = None
    ) -> Answer:
        path = _DRY_RUN if answer is DryRun else ""
        call = self._call(request, report, self._patience.timeout_s if timeout_s is None else timeout_s, path)
        decode = cast("Callable[[bytes], Answer]", CODECS[answer].decode)
        while True:
            reply: Reply | None = None
            try:
                reply = await self._opened(call)
                message = await reply.next()
                if message is None:
                    raise miscounted("it ended without a message")
                if await reply.next() is not None:
                    raise miscounted("there is more than one message")
                return _read(decode, message)
            except GatewayError as error:
                _close(reply, call)  # as above
                await self._again(call, error)
            finally:
                _close(reply, call)

    def _call(self, request: object, report: CallReport | None, timeout_s: float, path: str = "") -> Call:
        if not timeout_s > 0:
            raise ValueError("timeout_s: a number of seconds above 0")
        path = path or _PATHS.get(type(request), "")
        if not path:
            raise TypeError(f"{type(request).__name__} is no request of the contract; see agent.client.contract")
        try:
            body = CODECS[type(request)].encode(request)
        except ValueError as error:
            raise unwritable(error) from None
        return Call(
            path=path,
            framed=b"\0" + len(body).to_bytes(4) + body,
            end=asyncio.get_running_loop().time() + timeout_s,
            report=report or CallReport(),
        )

    async def _opened(self, call: Call) -> Reply:
        """Make one attempt, up to the point where its answer can be waited for."""
        if self._pool is None:
            raise RuntimeError("GatewayClient is used outside of its context")
        call.report.attempts += 1
        try:
            async with asyncio.timeout_at(call.end):
                if self._tokens is not None:
                    call.token = _fit(await self._tokens.id_token(self._audience))
                return await self._pool.open(call)
        except TimeoutError:
            raise too_late(sent=False) from None
        except UnreachableError as error:
            raise unreachable(error) from error

    async def _again(self, call: Call, error: GatewayError) -> None:
        """Wait until the call may be tried again; raises the error if it may not.

        A token that the edge did not accept is replaced, once: it may have been made for what is no longer so.
        """
        refused = error.from_edge and error.status is Status.UNAUTHENTICATED
        if refused and not call.token_renewed and isinstance(self._tokens, Forgetful):
            self._tokens.forget(self._audience, call.token)
            call.token_renewed = True
            return
        await call.again(error, self._patience)


def _read(decode: Callable[[bytes], Answer], message: bytes) -> Answer:
    try:
        return decode(message)
    except ValueError as error:
        raise unreadable(str(error)) from None


def _close(reply: Reply | None, call: Call) -> None:
    if reply is not None:
        reply.close()
        call.note(reply.metadata)


def _fit(token: str) -> str:
    """A token that can stand in a header."""
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise TokenError("the token source gave something that is no token")
    return token


def _json(arguments: Mapping[str, object]) -> str:
    try:
        return json.dumps(dict(arguments), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise unwritable(ValueError(f"the arguments cannot be written as JSON: {error}")) from None
