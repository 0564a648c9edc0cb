"""What the ccxt adapter is told about its exchange, and the exchanges that it may be used for."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Final

from gateway.tools.alpaca_config import check_origin
from gateway.tools.egress import guard_of

LIBRARY_SERIES: Final = (4, 5)
"""The series of the library that the table below was read against, and that the tests run with."""

SYMBOLS_MAX: Final = 64

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECRET: Final = re.compile(r"[\x21-\x7e]{1,256}")
SYMBOL: Final = re.compile(r"[A-Z0-9]{1,12}/[A-Z0-9]{1,12}")
CURRENCY: Final = re.compile(r"[A-Z0-9]{1,12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was read in the library's source about one exchange, and tried against its wire."""

    client_id_max: int
    """How many characters of a client order id the exchange takes."""
    place_parameter: str
    """Carries our order id when an order is placed."""
    look_up_parameter: str
    """Makes `fetch_order` ask for the order of our id."""
    sections: tuple[str, ...]
    """Of the library's addresses, those that spot trading needs. All others are taken out."""
    origin: str
    sandbox_origin: str
    """Empty for an exchange without a test exchange of its own."""
    acceptance_ms_min: int
    """For how long a signed request stays good (its receive window): nothing is accepted later."""
    market_query: Callable[[tuple[str, ...]], Mapping[str, str]]
    """Makes `fetch_markets` ask for these symbols only."""
    open_ended: frozenset[int]
    """Error codes that say that the end is not known, whatever status and class they come with."""
    duplicate: str
    """In its own words: it has an order under this id already. The library has no class for them."""
    options: Mapping[str, object]


def _binance_markets(symbols: tuple[str, ...]) -> Mapping[str, str]:
    return {"symbols": json.dumps([symbol.replace("/", "") for symbol in symbols], separators=(",", ":"))}


_BINANCE: Final = {
    "client_id_max": 36,
    "place_parameter": "newClientOrderId",
    "look_up_parameter": "origClientOrderId",
    "sections": ("public", "private"),
    "acceptance_ms_min": 10_000,
    "market_query": _binance_markets,
    # Unknown error, internal error, unexpected answer of the message bus, time out behind the exchange's front.
    "open_ended": frozenset({-1000, -1001, -1006, -1007}),
    "duplicate": "Duplicate order sent",
    "options": MappingProxyType(
        {
            "defaultType": "spot",
            "fetchMarkets": {"types": ["spot"]},
            "fetchMargins": False,
            "fetchCurrencies": False,
            "recvWindow": 10_000,
            "adjustForTimeDifference": False,
        }
    ),
}

EXCHANGES: Final[Mapping[str, Verified]] = MappingProxyType(
    {
        "binance": Verified(
            origin="https://api.binance.com",
            sandbox_origin="https://testnet.binance.vision",
            **_BINANCE,  # type: ignore[arg-type]  # one mapping for two exchanges of one wire
        ),
        # The library would send its sandbox to the other exchange's.
        "binanceus": Verified(
            origin="https://api.binance.us",
            sandbox_origin="",
            **_BINANCE,  # type: ignore[arg-type]  # as above
        ),
    }
)
"""An exchange that is not here is refused. One belongs here when its class looks orders up by our id in `fetch_order`,
its ticker has a time, its balances and orders are told in strings, and the contract tests pass against its wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CcxtConfig:
    """One account at one exchange that the library speaks to. Raises ValueError for what cannot be right."""

    name: str
    """What results and scopes call the venue."""
    exchange: str
    """The library's name for it, one of `EXCHANGES`."""
    sandbox: bool
    """Whether orders go to the exchange's test exchange."""
    symbols: tuple[str, ...]
    """What may be traded and asked for, in the library's words: BTC/USD."""
    counted_as_usd: tuple[str, ...]
    """Currencies of which the operator says that one is one US dollar; limits and budgets count in dollars."""
    key_id: str = field(repr=False)
    secret_key: str = field(repr=False)
    account: str
    client_order_key: bytes = field(repr=False)
    """The secret that client order ids are derived with; at least 32 bytes, and the same for every instance."""
    url: str = ""
    """Where the exchange's API is, in the place of its own origin."""
    timeout_ms: int = 10_000
    acceptance_ms: int = 30_000
    """How long after it was sent an order may still appear at the exchange."""
    connect_ms: int = 2_000
    idle_ms: int = 5_000
    quote_age_ms: int = 500
    markets_age_ms: int = 3_600_000
    """How long the exchange's word on steps of prices and quantities is believed."""
    connections_max: int = 64
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every field."""
        fault = exchange_fault(self.exchange, sandbox=self.sandbox)
        if fault:
            raise ValueError(fault)
        for name, pattern in (("name", _NAME), ("account", _ACCOUNT), ("key_id", _SECRET), ("secret_key", _SECRET)):
            if not pattern.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must match {pattern.pattern}")
        check_origin("url", self.origin)
        guard_of(self.origin, self.networks)
        for fault in symbol_faults(self.symbols, self.counted_as_usd):
            raise ValueError(fault)
        if len(self.client_order_key) < 32:
            raise ValueError("client_order_key must have at least 32 bytes")
        self._check_times()

    def _check_times(self) -> None:
        if self.acceptance_ms < self.verified.acceptance_ms_min:
            least = self.verified.acceptance_ms_min
            raise ValueError(f"acceptance must be at least {least} ms: for so long {self.exchange} accepts a request")
        times = (self.timeout_ms, self.connect_ms, self.idle_ms, self.markets_age_ms, self.connections_max)
        if min(times) < 1 or self.quote_age_ms < 0:
            raise ValueError("times and counts must be above zero")

    @property
    def verified(self) -> Verified:
        """What is known of the exchange."""
        return EXCHANGES[self.exchange]

    @property
    def own_origin(self) -> str:
        """Where the library thinks that the exchange is."""
        return self.verified.sandbox_origin if self.sandbox else self.verified.origin

    @property
    def origin(self) -> str:
        """Where requests really go."""
        return (self.url or self.own_origin).rstrip("/")


def exchange_fault(exchange: str, *, sandbox: bool) -> str:
    """Why this exchange cannot be had, as a sentence that says what to do; empty if it can."""
    known = EXCHANGES.get(exchange)
    if known is None:
        return (
            f"exchange: {exchange[:32]!r} was not verified to find orders by our own order id, without which a lost "
            f"reply could never be cleared up: write one of {', '.join(sorted(EXCHANGES))}"
        )
    if sandbox and not known.sandbox_origin:
        return f'mode: {exchange} has no test exchange: write "live", and keys that may lose money'
    return ""


def symbol_faults(symbols: tuple[str, ...], counted_as_usd: tuple[str, ...]) -> tuple[str, ...]:
    """What is wrong with the symbols, as sentences."""
    found = [f"symbols: {one[:40]!r} will not do: write one such as BTC/USD" for one in symbols if not _is_symbol(one)]
    found += [
        f"counted_as_usd: {one[:40]!r} is no currency: write one such as USD"
        for one in counted_as_usd
        if not CURRENCY.fullmatch(one)
    ]
    if not 0 < len(symbols) <= SYMBOLS_MAX or len(set(symbols)) < len(symbols):
        found.append(f"symbols: write 1 to {SYMBOLS_MAX} of them, each once")
    found += [
        f"symbols: {one} is priced in {one.partition('/')[2]}, and limits count US dollars: trade what is priced in "
        "dollars, or say in counted_as_usd which currency you count as dollars"
        for one in symbols
        if _is_symbol(one) and one.partition("/")[2] not in counted_as_usd
    ]
    return tuple(found)


def library_fault() -> str:
    """Why the library cannot be used, as a sentence that says what to do; empty if it can."""
    series = ".".join(map(str, LIBRARY_SERIES))
    try:
        found = version("ccxt")
    except PackageNotFoundError:
        return f'ccxt is not installed: install the extra, as in: pip install "agentic-gateway[ccxt]" (ccxt {series})'
    if tuple(found.split(".")[:2]) != tuple(map(str, LIBRARY_SERIES)):
        return f"ccxt {found[:20]} is installed, and this version was verified with {series}: install that"
    return ""


def _is_symbol(text: str) -> bool:
    return SYMBOL.fullmatch(text) is not None
