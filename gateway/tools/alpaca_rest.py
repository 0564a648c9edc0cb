"""The requests of one venue: values encoded each for its position, credentials added last, answers read strictly."""

from collections.abc import Mapping
from enum import Enum
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from gateway.terms.limits import RESULT_BYTES_MAX
from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_value
from gateway.tools.alpaca_config import AlpacaConfig
from gateway.tools.egress import KEEPALIVE_S, guard_of, guarded_session
from gateway.tools.roundtrip import NoAnswer, Outgoing, Patience, Received, round_trip


class Origin(Enum):
    """Which of the venue's two services."""

    TRADING = "trading"
    DATA = "data"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call. Segments and query are values, encoded each for its position (attack row 18)."""

    method: str
    origin: Origin
    segments: tuple[str, ...]
    query: Mapping[str, str] = {}
    body: Mapping[str, str] | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A status, and the body in the strict reading."""

    status: int
    body: JsonValue = None
    readable: bool = True
    """False for a body that is compressed, too large or no JSON."""


Reply = Answer | NoAnswer


class Rest:
    """The calls of one adapter; belongs to a session that its owner opens and closes."""

    def __init__(self, session: aiohttp.ClientSession, config: AlpacaConfig) -> None:
        self._session = session
        self._config = config

    async def call(self, request: Request, timeout_s: float) -> Reply:
        """Send once and read the whole answer within `timeout_s`. Raises nothing for what network or venue do."""
        data = None if request.body is None else msgspec.json.encode(request.body)
        outgoing = Outgoing(
            method=request.method,
            url=self._url(request),
            headers=self._headers(has_body=data is not None),
            body=data,
            repeatable=request.method == "GET",
        )
        received = await round_trip(self._session, outgoing, self._patience(timeout_s))
        return received if isinstance(received, NoAnswer) else _answer(received)

    def _url(self, request: Request) -> str:
        base = self._config.trading_url if request.origin is Origin.TRADING else self._config.data_url
        path = "".join("/" + _segment(text) for text in request.segments)
        query = "?" + urlencode(request.query, quote_via=quote, safe="") if request.query else ""
        return base.rstrip("/") + path + query

    def _headers(self, *, has_body: bool) -> dict[str, str]:
        """The headers, with the credentials added last; nothing else in the gateway knows them (attack row 33)."""
        headers = {"Accept": "application/json"}
        if has_body:
            headers["Content-Type"] = "application/json"
        headers["APCA-API-KEY-ID"] = self._config.key_id
        headers["APCA-API-SECRET-KEY"] = self._config.secret_key
        return headers

    def _patience(self, total_s: float) -> Patience:
        return Patience(total_s=total_s, connect_s=self._config.connect_ms / 1000, idle_s=self._config.idle_ms / 1000)


def open_session(config: AlpacaConfig) -> aiohttp.ClientSession:
    """A session for one venue: kept-alive connections, no cookies, no proxies from the environment, no inflating."""
    trading, data = (guard_of(url, config.networks, local=True) for url in (config.trading_url, config.data_url))
    return guarded_session(trading.joined(data), connections_max=config.connections_max, keepalive_s=KEEPALIVE_S)


def _segment(text: str) -> str:
    if text in {"", ".", ".."}:
        raise ValueError("a path segment must not be empty or dots")
    return quote(text, safe=":")


def _answer(received: Received) -> Answer:
    if received.body is None:
        return Answer(status=received.status, readable=False)
    if not received.body:
        return Answer(status=received.status)
    try:
        return Answer(status=received.status, body=strict_value(received.body, size_max=RESULT_BYTES_MAX))
    except JsonRefusedError:
        return Answer(status=received.status, readable=False)
