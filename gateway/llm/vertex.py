"""Vertex AI over REST: streamGenerateContent as server-sent events, and countTokens (REST v1)."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import aiohttp

from gateway.llm.credentials import Credentials
from gateway.llm.sse import EventReader, EventTooLargeError
from gateway.llm.vertex_reply import Answer, read_count, read_error
from gateway.llm.vertex_request import chat_body, count_body
from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.conversation import Chunk
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.models import Model

ERROR_BYTES_MAX: Final = 64 * 1024
COUNT_BYTES_MAX: Final = 64 * 1024
CONNECT_S: Final = 5.0
IDLE_S: Final = 120.0
"""Nothing for so long ends the stream: thinking models may be silent for a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexConfig:
    """Where Vertex AI is."""

    project: str
    location: str
    endpoint: str = ""
    """Base URL; empty: Google's own for the location."""
    idle_s: float = IDLE_S

    @property
    def base(self) -> str:
        """Scheme and host (google-genai's own rule)."""
        if self.endpoint:
            return self.endpoint.rstrip("/")
        if self.location == "global":
            return "https://aiplatform.googleapis.com"
        if self.location in ("us", "eu"):
            return f"https://aiplatform.{self.location}.rep.googleapis.com"
        return f"https://{self.location}-aiplatform.googleapis.com"

    def url(self, model: str, method: str) -> str:
        """The URL of a method of a model."""
        parts = (self.project, self.location, model)
        project, location, name = (quote(part, safe="") for part in parts)
        return f"{self.base}/v1/projects/{project}/locations/{location}/publishers/google/models/{name}:{method}"


class Vertex:
    """Streams and counts with the gateway's own token. Closing a stream aborts the request."""

    def __init__(self, config: VertexConfig, session: aiohttp.ClientSession, credentials: Credentials) -> None:
        self._config = config
        self._session = session
        self._credentials = credentials
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=config.idle_s)

    async def stream(self, model: Model, ask: ChatAsk, call_ids: str) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes; ends with exactly one `Ending` or raises `UpstreamError`."""
        answer, events = Answer(call_ids), EventReader()
        url = self._config.url(model.upstream_id, "streamGenerateContent") + "?alt=sse"
        try:
            async with await self._posted(url, chat_body(ask)) as reply:
                try:
                    await _refuse_errors(reply)
                    async for received in reply.content.iter_any():
                        for data in events.feed(received):
                            for chunk in answer.chunks(data):
                                yield chunk
                finally:
                    # A stream that was read to its end keeps its connection; any other is cut here and now.
                    if not reply.content.is_eof():
                        reply.close()
        except EventTooLargeError:
            raise UpstreamError(Fault.TOO_LARGE, "an event is beyond the bound") from None
        except TimeoutError as error:
            raise UpstreamError(Fault.STALLED, repr(error)) from error
        except aiohttp.ClientError as error:
            if not answer.ended:
                raise UpstreamError(Fault.TRUNCATED, repr(error)) from error
        if not answer.ended or events.pending:
            raise UpstreamError(Fault.TRUNCATED, "the stream ended without a finish reason")
        yield answer.end()

    async def count(self, model: Model, ask: CountAsk) -> int:
        """Tokens of a prompt; raises `UpstreamError`."""
        try:
            url = self._config.url(model.upstream_id, "countTokens")
            async with await self._posted(url, count_body(ask.conversation)) as reply:
                await _refuse_errors(reply)
                return read_count(await reply.content.read(COUNT_BYTES_MAX))
        except TimeoutError as error:
            raise UpstreamError(Fault.STALLED, repr(error)) from error
        except aiohttp.ClientError as error:
            raise UpstreamError(Fault.UNREACHABLE, repr(error)) from error

    async def _posted(self, url: str, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send, and once more if a kept connection turns out to be dead before anything came back.

        Cloud Run drops idle outbound connections without a word. A model call has no effect but its cost, so sending
        it again before the first byte of an answer is safe.
        """
        token = await self._credentials.token()
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
        }
        for attempt in (1, 2):
            try:
                return await self._session.post(
                    url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if attempt == 2 or isinstance(error, aiohttp.ClientConnectorError):
                    raise UpstreamError(Fault.UNREACHABLE, repr(error)) from error
            except aiohttp.ClientError as error:
                raise UpstreamError(Fault.UNREACHABLE, repr(error)) from error
        raise AssertionError("unreachable")


async def _refuse_errors(reply: aiohttp.ClientResponse) -> None:
    if reply.status != 200:
        body = await reply.content.read(ERROR_BYTES_MAX)
        raise read_error(reply.status, body, reply.headers.get("Retry-After", ""))
