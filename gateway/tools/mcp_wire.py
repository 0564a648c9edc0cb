"""JSON-RPC messages of MCP over Streamable HTTP: one POST for each, answered as JSON or as a stream of events.

What a server sends beside its answer has no power here: its notifications are counted, its requests are declined.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from gateway.terms.limits import RESULT_BYTES_MAX
from gateway.terms.sse import EventReader, EventTooLargeError
from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_object
from gateway.tools.openapi_request import written
from gateway.tools.roundtrip import NoAnswer, Outgoing, Patience, compressed, lost, media_type, opened, round_trip

STREAM_BYTES_MAX: Final = 4 * RESULT_BYTES_MAX
"""Of one stream of events with everything that stands beside the answer (attack row 35)."""

ASIDE_S: Final = 1.0
"""For what is sent beside a call: a cancel, a decline, the end of a session."""
DECLINED_MAX: Final = 16
"""Requests of a server within one stream that get an answer."""

LIST_CHANGED: Final = "notifications/tools/list_changed"
_NO_SUCH_METHOD: Final[JsonValue] = {"code": -32601, "message": "This client offers nothing to servers."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replied:
    """The server answered the request."""

    result: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcFailed:
    """The server answered with an error of JSON-RPC."""

    code: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFailed:
    """The server answered with a status and nothing that says more."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbled:
    """The server answered in no form that can be read."""

    detail: str


Reply = Replied | RpcFailed | HttpFailed | Garbled | NoAnswer


class McpWire:
    """Posts messages to one server. What protocol they are in, its owner says with the headers."""

    def __init__(self, session: aiohttp.ClientSession, url: str, credentials: Mapping[str, str]) -> None:
        self._session = session
        self._url = url
        self._credentials = credentials
        self._number = 0
        self.list_changed = False
        """The server said that its tools are others now. Its owner takes note and takes it back."""
        self.session_id = ""
        """From the answer to `initialize`; empty where the server keeps no session."""

    async def ask(
        self, method: str, params: Mapping[str, JsonValue], headers: Mapping[str, str], patience: Patience
    ) -> Reply:
        """Send one request once, and read until its answer. Raises nothing for what network or server do."""
        if patience.total_s <= 0:
            return NoAnswer(sent=False, detail="no time was left")
        self._number += 1
        number = self._number
        body: JsonValue = {"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}
        outgoing = self._outgoing(body, headers)
        try:
            async with opened(self._session, outgoing, patience) as response:
                if method == "initialize":
                    self.session_id = response.headers.get("Mcp-Session-Id", "")
                return await self._read(response, number, headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            gone = lost(error)
        except (JsonRefusedError, EventTooLargeError) as error:
            return Garbled(detail=str(error) or "an event beyond its bound")
        if gone.sent and self.session_id and method != "initialize":
            await self.notify("notifications/cancelled", {"requestId": number, "reason": "no answer in time"}, headers)
        return gone

    async def notify(self, method: str, params: Mapping[str, JsonValue], headers: Mapping[str, str]) -> bool:
        """Send one notification; whether it was taken."""
        body: JsonValue = {"jsonrpc": "2.0", "method": method, "params": dict(params)}
        return await self._aside(self._outgoing(body, headers))

    async def end_session(self, headers: Mapping[str, str]) -> None:
        """Tell the server that its session is not needed any more."""
        if self.session_id:
            await self._aside(Outgoing(method="DELETE", url=self._url, headers={**headers, **self._credentials}))

    async def _aside(self, outgoing: Outgoing) -> bool:
        reply = await round_trip(self._session, outgoing, Patience(total_s=ASIDE_S))
        return not isinstance(reply, NoAnswer) and 200 <= reply.status < 300

    def _outgoing(self, body: JsonValue, headers: Mapping[str, str]) -> Outgoing:
        """Credentials are added last (attack row 33)."""
        own = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        return Outgoing(
            method="POST", url=self._url, headers={**own, **headers, **self._credentials}, body=written(body)
        )

    async def _read(self, response: aiohttp.ClientResponse, number: int, headers: Mapping[str, str]) -> Reply:
        if compressed(response):
            response.close()
            return Garbled(detail="a compressed body, which was not asked for")
        if response.status == 200 and media_type(response) == "text/event-stream":
            return await self._streamed(response, number, headers)
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > RESULT_BYTES_MAX:
                response.close()
                return Garbled(detail=f"a body of more than {RESULT_BYTES_MAX} bytes")
        return _answer(response.status, bytes(body), number)

    async def _streamed(self, response: aiohttp.ClientResponse, number: int, headers: Mapping[str, str]) -> Reply:
        """Read events until the answer to this request; the rest of the stream is nobody's."""
        reader, room, declined = EventReader(RESULT_BYTES_MAX), STREAM_BYTES_MAX, 0
        async for chunk in response.content.iter_any():
            room -= len(chunk)
            if room < 0:
                response.close()
                return Garbled(detail=f"a stream of more than {STREAM_BYTES_MAX} bytes")
            for event in reader.feed(chunk):
                message = strict_object(event, size_max=RESULT_BYTES_MAX) if event else {}
                if _answers(message, number):
                    response.close()
                    return _message(message)
                if message.get("method") == LIST_CHANGED:
                    self.list_changed = True
                elif "method" in message and "id" in message and declined < DECLINED_MAX:
                    declined += 1
                    await self._decline(message, headers)
        return NoAnswer(sent=True, detail="the stream ended without an answer")

    async def _decline(self, message: Mapping[str, JsonValue], headers: Mapping[str, str]) -> None:
        """Answer a request of the server's: a ping with nothing, all others with "no such method"."""
        told: dict[str, JsonValue] = {"result": {}} if message["method"] == "ping" else {"error": _NO_SUCH_METHOD}
        await self._aside(self._outgoing({"jsonrpc": "2.0", "id": message["id"], **told}, headers))


def _answer(status: int, body: bytes, number: int) -> Reply:
    try:
        message = strict_object(body, size_max=RESULT_BYTES_MAX)
    except JsonRefusedError as error:
        return Garbled(detail=str(error)) if 200 <= status < 300 else HttpFailed(status=status)
    if 200 <= status < 300:
        return _message(message) if _answers(message, number) else Garbled(detail="an answer to another request")
    return _message(message) if status < 500 and _answers(message, number) else HttpFailed(status=status)


def _answers(message: Mapping[str, JsonValue], number: int) -> bool:
    """Whether a message answers the request of this number, and no other."""
    known = message.get("id")
    return message.get("jsonrpc") == "2.0" and "method" not in message and type(known) is int and known == number


def _message(message: Mapping[str, JsonValue]) -> Reply:
    result, error = message.get("result"), message.get("error")
    if isinstance(result, dict) and error is None:
        return Replied(result=result)
    if isinstance(error, dict) and result is None and type(code := error.get("code")) is int:
        return RpcFailed(code=code, message=str(error.get("message", "")))
    return Garbled(detail="neither a result nor an error")
