"""The library's one way out: its requests leave through our own round trip, and its errors are judged by what answered.

ccxt signs requests, translates names and reads replies. Everything else is ours: it gets no session, no retries and no
rate limiter that waits, and `fetch`, which each of its requests passes, is replaced (governance study, section 5.1).
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Protocol, cast

import aiohttp

from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_value
from gateway.tools.ccxt_config import CcxtConfig
from gateway.tools.roundtrip import NoAnswer, Outgoing, Patience, Received, round_trip

ID_TAKEN: Final = "venue.client_order_id_taken"

DEFINITE: Final[Mapping[str, str]] = {
    "InsufficientFunds": "venue.insufficient_funds",
    "PermissionDenied": "venue.forbidden",
    "AccountSuspended": "venue.forbidden",
    "AuthenticationError": "venue.unauthorized",
    "OrderNotFound": "venue.not_found",
    "DuplicateOrderId": ID_TAKEN,
    "InvalidOrder": "venue.unprocessable",
    "BadRequest": "venue.invalid",
    "OperationRejected": "venue.conflict",
    "RateLimitExceeded": "venue.rate_limited",
    "DDoSProtection": "venue.rate_limited",
    "InvalidNonce": "venue.clocks_apart",
}
"""The library's errors that are a no of the exchange, if the exchange answered so. All others say nothing."""

AT_ONCE: Final = frozenset(
    {"venue.insufficient_funds", "venue.forbidden", "venue.unauthorized", "venue.invalid", "venue.clocks_apart"}
)
"""Refusals that cannot stand for an order of ours that is there already."""

MARKETS_BYTES_MAX: Final = 4 * 1024 * 1024


class Library(Protocol):
    """What of the library's exchange class is used. Amounts are strings on both sides."""

    urls: dict[str, object]
    fetch: Callable[..., Awaitable[object]]

    def set_sandbox_mode(self, enabled: bool) -> None:  # noqa: FBT001 - the library's own form
        """Take the test exchange's addresses."""

    def set_markets(self, markets: object) -> object:
        """Take these for all markets."""

    def market(self, symbol: str) -> Mapping[str, object]:
        """One of them."""

    def amount_to_precision(self, symbol: str, amount: str) -> str:
        """The quantity, cut to the market's step."""

    def price_to_precision(self, symbol: str, price: str) -> str:
        """The price, rounded to the market's step."""

    def handle_errors(self, *args: object) -> object:
        """Raise what the exchange's own error code stands for."""

    def handle_http_status_code(self, *args: object) -> object:
        """Raise what a status stands for."""

    async def fetch_markets(self, params: Mapping[str, str]) -> object:
        """Ask for markets."""

    async def fetch_ticker(self, symbol: str) -> object:
        """Ask for the best bid and ask."""

    async def fetch_balance(self, params: Mapping[str, str]) -> object:
        """Ask for what the account holds."""

    async def fetch_order(self, order_id: str, symbol: str, params: Mapping[str, str]) -> object:
        """Ask for an order."""

    async def fetch_orders(self, symbol: str, since: None, limit: int) -> object:
        """Ask for the newest orders."""

    async def fetch_open_orders(self, symbol: str, since: None, limit: int) -> object:
        """Ask for the open orders."""

    async def cancel_order(self, order_id: str, symbol: str) -> object:
        """Cancel an order."""

    async def create_order(  # noqa: PLR0913, PLR0917 - the library's own form
        self, symbol: str, kind: str, side: str, amount: str, price: str | None, params: Mapping[str, str]
    ) -> object:
        """Place an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The exchange did or showed what it was asked; the library's reading of it."""

    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A definite no: of the exchange, or of the library before anything was sent."""

    reason: str
    words: str
    sent: bool

    @property
    def at_once(self) -> bool:
        """Whether it cannot stand for an effect of ours that happened."""
        return not self.sent or self.reason in AT_ONCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Nothing that could be relied on came back. `sent` is False only where no byte can have left."""

    sent: bool


Reply = Told | Refused | Lost


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """One call of the library, and the one request that it may make."""

    until: float
    """In the event loop's time."""
    bytes_max: int | None
    asked: bool = False
    sent: bool = False
    error: Received | None = None
    """An answer of the exchange's that is an error of its own form."""
    words: str = ""
    duplicate: bool = False
    """Whether they say that our id is taken."""


class NoReplyError(Exception):
    """The exchange did not answer as documented; the attempt knows what that means."""


_ATTEMPT: ContextVar[_Attempt] = ContextVar("_ATTEMPT")


class Wire:
    """The library's exchange, whose requests leave one by one."""

    def __init__(self, session: aiohttp.ClientSession, config: CcxtConfig) -> None:
        """Import the library; takes half a second and some 80 MB."""
        self._session = session
        self._config = config
        self.library: Final = _library(config)
        self.library.fetch = self._fetch

    async def call(
        self, work: Callable[[], Awaitable[object]], timeout_s: float, bytes_max: int | None = None
    ) -> Reply:
        """Let the library make one request. Raises nothing for what the exchange, the network or the library do."""
        loop = asyncio.get_running_loop()
        attempt = _Attempt(until=loop.time() + timeout_s, bytes_max=bytes_max)
        with _current(attempt):
            try:
                async with asyncio.timeout(timeout_s):
                    return Told(value=await work())
            except Exception as error:  # noqa: BLE001 - a library that reads foreign words may raise anything
                return _judged(attempt, error)

    async def _fetch(
        self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> object:
        """In the place of the library's own: the same errors, from one round trip."""
        attempt = _ATTEMPT.get()
        if attempt.asked:
            # A second request in one call would be a retry, or an effect that nobody asked for.
            raise NoReplyError("the library wanted to send more than one request")
        attempt.asked = True
        received = await self._sent(
            attempt,
            Outgoing(
                method=method,
                url=self._placed(url),
                headers=dict(headers or {}),
                body=body.encode() if body else None,
                repeatable=method == "GET",
            ),
        )
        text, value = _read(received)
        attempt.error = received if self._is_refusal(received.status, value) else None
        attempt.words = str(members(value).get("msg", ""))
        attempt.duplicate = self._config.verified.duplicate in attempt.words
        told: tuple[object, ...] = (received.status, "", url, method, {}, text, value)
        self.library.handle_errors(*told, dict(headers or {}), body)
        self.library.handle_http_status_code(received.status, "", url, method, text)
        if received.status != 200 or value is None:
            raise NoReplyError(f"status {received.status}")
        return value

    def _is_refusal(self, status: int, value: object) -> bool:
        """Whether the exchange itself says no, and not something on the way to it, and knows what it says."""
        told = members(value)
        code = told.get("code")
        known = isinstance(code, int) and code not in self._config.verified.open_ended
        return known and isinstance(told.get("msg"), str) and 400 <= status < 500 and status != 408

    async def _sent(self, attempt: _Attempt, outgoing: Outgoing) -> Received:
        left_s = attempt.until - asyncio.get_running_loop().time()
        patience = Patience(
            total_s=left_s, connect_s=self._config.connect_ms / 1000, idle_s=self._config.idle_ms / 1000
        )
        attempt.sent = left_s > 0
        bound = {} if attempt.bytes_max is None else {"bytes_max": attempt.bytes_max}
        received = await round_trip(self._session, outgoing, patience, **bound)
        if isinstance(received, NoAnswer):
            attempt.sent = received.sent
            raise NoReplyError(received.detail)
        return received

    def _placed(self, url: str) -> str:
        """The URL at the origin that was configured. The credentials go nowhere else, whatever the library says."""
        own = self._config.own_origin
        if not url.startswith(own + "/"):
            raise NoReplyError("the library wanted to ask another origin")
        return self._config.origin + url.removeprefix(own)


def _library(config: CcxtConfig) -> Library:
    module = importlib.import_module(f"ccxt.async_support.{config.exchange}")
    library = cast(
        "Library",
        getattr(module, config.exchange)(
            {
                "apiKey": config.key_id,
                "secret": config.secret_key,
                "enableRateLimit": False,
                "number": str,
                "options": {"maxRetriesOnFailure": 0, **config.verified.options},
            }
        ),
    )
    if config.sandbox:
        library.set_sandbox_mode(True)
    addresses = cast("Mapping[str, object]", library.urls["api"])
    library.urls["api"] = {section: addresses[section] for section in config.verified.sections}
    return library


@contextmanager
def _current(attempt: _Attempt) -> Iterator[None]:
    token = _ATTEMPT.set(attempt)
    try:
        yield
    finally:
        _ATTEMPT.reset(token)


def _judged(attempt: _Attempt, error: Exception) -> Reply:
    """What an error says of the request: the library's word for it counts only if the exchange itself said no."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    reason = next((DEFINITE[kind] for kind in kinds if kind in DEFINITE), "")
    if not attempt.asked and reason:
        return Refused(reason=reason, words=str(error), sent=False)
    if attempt.error is not None and reason:
        return Refused(reason=ID_TAKEN if attempt.duplicate else reason, words=attempt.words, sent=True)
    return Lost(sent=attempt.sent)


def _read(received: Received) -> tuple[str, object]:
    """The body as text, and as values whose numbers with a point are strings: no float comes near a price."""
    if received.body is None:
        return "", None
    try:
        value = strict_value(received.body, size_max=len(received.body))
    except JsonRefusedError:
        return received.body.decode(errors="replace"), None
    return received.body.decode(errors="replace"), _without_decimals(value)


def _without_decimals(value: JsonValue) -> object:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return {name: _without_decimals(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_without_decimals(member) for member in value]
    return value


def members(value: object) -> Mapping[str, object]:
    """The library's structure as a mapping; empty for anything else."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> Sequence[object]:
    """The library's list; empty for anything else."""
    return value if isinstance(value, list) else ()
