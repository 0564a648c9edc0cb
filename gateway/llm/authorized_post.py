"""A POST of JSON with the credentials of its upstream: sent once, or once more where nothing can have happened."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Final

import aiohttp

from gateway.llm.bodies import BodyTooLargeError, whole_body
from gateway.llm.credentials import Credentials
from gateway.llm.vertex_error import read_error
from gateway.terms.faults import Fault, UpstreamError

CONNECT_S: Final = 10.0
"""A connection, from the pool or a new one with its name looked up."""

ERROR_S: Final = 5.0
"""The body of an error; its status came before."""

ERROR_BYTES_MAX: Final = 64 * 1024

READ_AHEAD_BYTES: Final = 16 * 1024
"""Of a reply; twice as much may wait in memory before the connection is not read any more."""

_AT_ONCE_BYTES: Final = 64 * 1024
"""A larger body is written in pieces, so that it does not hold up the other calls."""

_DROPPED: Final = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientConnectionResetError)


ReadError = Callable[[int, bytes, str], UpstreamError]
"""Reads status, body and `Retry-After` of a reply that is not 200."""


class _Attempt:
    """What one attempt to send met."""

    kept = False
    """It was sent on a connection that had been used before."""


async def _note_kept(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    if isinstance(context.trace_request_ctx, _Attempt):
        context.trace_request_ctx.kept = True


_TRACE: Final = aiohttp.TraceConfig()
_TRACE.on_connection_reuseconn.append(_note_kept)
_TRACE.freeze()


class AuthorizedPost:
    """Posts to one upstream. `head_s` is how long the head of a reply may take, in seconds; `more` goes with all."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        credentials: Credentials | None,
        head_s: float,
        read_error: ReadError = read_error,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`credentials`: None for an upstream that asks for none; `headers` go with every request."""
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        self._session = session
        self._credentials = credentials
        self._head_s = head_s
        self._read_error = read_error
        self._timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
        if _TRACE not in session.trace_configs:
            session.trace_configs.append(_TRACE)

    @asynccontextmanager
    async def answered(self, url: str, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """The reply, with status 200 and an unread body; raises `UpstreamError` for anything else.

        At the end, a reply that was read whole leaves its connection for the next call; any other is cut at once.
        """
        reply = await self._accepted(url, body)
        del body  # the reply may take an hour, and the prompt is not needed again
        try:
            yield reply
        finally:
            _let_go(reply)

    async def _accepted(self, url: str, body: bytes) -> aiohttp.ClientResponse:
        token = "" if self._credentials is None else await self._credentials.token()
        reply = await self._sent(url, body, token)
        if reply.status == 401 and self._credentials is not None:
            # The token may have been revoked before its end: another one, once.
            refusal = await self._refusal(reply)
            self._credentials.refused(token)
            another = await self._credentials.token()
            if another == token:
                raise refusal
            reply = await self._sent(url, body, another)
        if reply.status != 200:
            raise await self._refusal(reply)
        return reply

    async def _sent(self, url: str, body: bytes, token: str) -> aiohttp.ClientResponse:
        """The head of the reply.

        Sent once more only if a kept connection turns out to be dead: the far end closes idle ones, and Cloud Run
        drops them without a word. On a new connection the same error may mean that the call is under way.
        """
        attempt = _Attempt()
        try:
            try:
                return await self._attempted(url, body, token, attempt)
            except _DROPPED:
                if not attempt.kept:
                    raise
            return await self._attempted(url, body, token, attempt)
        except aiohttp.ClientResponseError as error:
            raise UpstreamError(Fault.MALFORMED, f"not HTTP: {error.message}") from error
        except aiohttp.ClientError as error:
            raise UpstreamError(Fault.UNREACHABLE, repr(error)) from error
        except TimeoutError as error:
            raise UpstreamError(Fault.STALLED, f"no answer for {self._head_s:g} s") from error

    async def _attempted(self, url: str, body: bytes, token: str, attempt: _Attempt) -> aiohttp.ClientResponse:
        headers = self._headers
        if token:
            headers = headers | {"Authorization": f"Bearer {token}"}
        async with asyncio.timeout(self._head_s):
            return await self._session.post(
                url,
                data=body if len(body) <= _AT_ONCE_BYTES else io.BytesIO(body),
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
                read_bufsize=READ_AHEAD_BYTES,
                trace_request_ctx=attempt,
            )

    async def _refusal(self, reply: aiohttp.ClientResponse) -> UpstreamError:
        body = b""
        try:
            async with asyncio.timeout(ERROR_S):
                body = await whole_body(reply, ERROR_BYTES_MAX)
        except (aiohttp.ClientError, TimeoutError, BodyTooLargeError):
            pass  # the status speaks for itself
        finally:
            _let_go(reply)
        return self._read_error(reply.status, body, reply.headers.get("Retry-After", ""))


def _let_go(reply: aiohttp.ClientResponse) -> None:
    """A reply at its end has given its connection back already; any other's is cut, with all that was not sent."""
    if reply.content.is_eof():
        return
    if reply.connection is not None and reply.connection.transport is not None:
        reply.connection.transport.abort()
    reply.close()
