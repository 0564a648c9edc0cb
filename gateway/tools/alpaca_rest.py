"""HTTP to one venue: a request goes out exactly once, and whatever comes back is bounded and told apart.

aiohttp by itself follows redirects with custom headers, and inflates any compressed body (governance study, section 0,
item 11; attack rows 30 to 35): here nothing is followed and nothing is inflated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from gateway.terms.limits import RESULT_BYTES_MAX
from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_value
from gateway.tools.alpaca_config import AlpacaConfig

_IDENTITY: Final = frozenset({"", "identity"})
_KEEPALIVE_S: Final = 10.0
"""Shorter than any venue's own: an order sent on a connection that is just being closed would have an unknown end."""

_NEVER_CEIL: Final = 1e9
"""aiohttp rounds timeouts of over 5 s up to whole seconds unless told not to."""


class Origin(Enum):
    """Which of the venue's two services."""

    TRADING = "trading"
    DATA = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call. Segments and query are values, encoded each for its position (attack row 18)."""

    method: str
    origin: Origin
    segments: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status, and the body in the strict reading."""

    status: int
    body: JsonValue = None
    readable: bool = True
    """False for a body that is compressed, too large or no JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """No status came. `sent` is False only where no byte of the request can have left."""

    sent: bool
    detail: str


Reply = Answer | NoAnswer


class Rest:
    """The calls of one adapter; belongs to a session that its owner opens and closes."""

    def __init__(self, session: aiohttp.ClientSession, config: AlpacaConfig) -> None:
        self._session = session
        self._config = config

    async def call(self, request: Request, timeout_s: float) -> Reply:
        """Send once and read the whole answer within `timeout_s`. Raises nothing for what network or venue do."""
        if timeout_s <= 0:
            return NoAnswer(sent=False, detail="no time was left")
        data = None if request.body is None else msgspec.json.encode(request.body)
        try:
            async with self._session.request(
                request.method,
                self._url(request),
                data=data,
                headers=self._headers(has_body=data is not None),
                timeout=self._timeout(timeout_s),
                allow_redirects=False,
            ) as response:
                return await _answer(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return NoAnswer(sent=False, detail=type(error).__name__)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return NoAnswer(sent=True, detail=type(error).__name__)

    def _url(self, request: Request) -> str:
        base = self._config.trading_url if request.origin is Origin.TRADING else self._config.data_url
        path = "".join("/" + _segment(text) for text in request.segments)
        query = "?" + urlencode(request.query, quote_via=quote, safe="") if request.query else ""
        return base.rstrip("/") + path + query

    def _headers(self, *, has_body: bool) -> dict[str, str]:
        """The headers, with the credentials added last; nothing else in the gateway knows them (attack row 33)."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "agentic-gateway"}
        if has_body:
            headers["Content-Type"] = "application/json"
        headers["APCA-API-KEY-ID"] = self._config.key_id
        headers["APCA-API-SECRET-KEY"] = self._config.secret_key
        return headers

    def _timeout(self, total_s: float) -> aiohttp.ClientTimeout:
        connect_s = min(self._config.connect_ms / 1000, total_s)
        return aiohttp.ClientTimeout(
            total=total_s,
            connect=connect_s,
            sock_connect=connect_s,
            sock_read=self._config.idle_ms / 1000,
            ceil_threshold=_NEVER_CEIL,
        )


def open_session(config: AlpacaConfig) -> aiohttp.ClientSession:
    """A session for one venue: kept-alive connections, no cookies, no proxies from the environment, no inflating."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=config.connections_max, keepalive_timeout=_KEEPALIVE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


def _segment(text: str) -> str:
    if text in {"", ".", ".."}:
        raise ValueError("a path segment must not be empty or dots")
    return quote(text, safe=":")


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    encodings = response.headers.getall("Content-Encoding", [])
    if any(encoding.strip().lower() not in _IDENTITY for encoding in encodings):
        response.close()
        return Answer(status=response.status, readable=False)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > RESULT_BYTES_MAX:
            response.close()
            return Answer(status=response.status, readable=False)
    if not body:
        return Answer(status=response.status)
    try:
        return Answer(status=response.status, body=strict_value(bytes(body), size_max=RESULT_BYTES_MAX))
    except JsonRefusedError:
        return Answer(status=response.status, readable=False)
