"""What the exchange adapter is told about its venue: addresses, credentials, account, bounds."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from gateway.tools.egress import guard_of

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECRET: Final = re.compile(r"[\x21-\x7e]{1,256}")
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpacaConfig:
    """One account at one venue that speaks Alpaca's v2 wire format. Raises ValueError for what cannot be right."""

    name: str
    """What results and scopes call the venue, for example `alpaca-paper`."""
    trading_url: str
    """Where orders go, without a path: `https://paper-api.alpaca.markets`."""
    data_url: str
    """Where quotes come from: `https://data.alpaca.markets`."""
    key_id: str = field(repr=False)
    secret_key: str = field(repr=False)
    account: str
    """Names the account in the scope of its exposure; the operator's word, not the venue's."""
    client_order_key: bytes = field(repr=False)
    """The secret that client order ids are derived with; at least 32 bytes, and the same for every instance."""
    feed: str = ""
    """The quotes' source in Alpaca's words, for example `iex`; empty leaves it to the venue."""
    timeout_ms: int = 10_000
    """For one tool call, looking up a lost order included."""
    acceptance_ms: int = 30_000
    """How long after it was sent an order may still appear at the venue: until then "not found" proves nothing."""
    connect_ms: int = 2_000
    idle_ms: int = 5_000
    """Without a byte for so long, a reply counts as lost."""
    quote_age_ms: int = 500
    """How long a fetched quote answers further questions, so that a burst of orders does not double the traffic."""
    connections_max: int = 64
    networks: tuple[str, ...] = ()
    """Addresses of the venue that may be connected to although they are not public."""

    def __post_init__(self) -> None:
        """Check every field."""
        for name, pattern in (("name", _NAME), ("account", _ACCOUNT), ("key_id", _SECRET), ("secret_key", _SECRET)):
            if not pattern.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must match {pattern.pattern}")
        for name in ("trading_url", "data_url"):
            check_origin(name, getattr(self, name))
            guard_of(getattr(self, name), self.networks)
        if self.feed and not _NAME.fullmatch(self.feed):
            raise ValueError(f"feed must be empty or match {_NAME.pattern}")
        if len(self.client_order_key) < 32:
            raise ValueError("client_order_key must have at least 32 bytes")
        if (
            min(self.timeout_ms, self.acceptance_ms, self.connect_ms, self.idle_ms, self.connections_max) < 1
            or self.quote_age_ms < 0
        ):
            raise ValueError("times and counts must be above zero")


def check_origin(name: str, url: str) -> None:
    """Credentials go to this origin: nothing but TLS, except to a venue on this very machine."""
    parts = urlsplit(url)
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc or not parts.hostname:
        raise ValueError(f"{name} must be a scheme and a host such as https://api.example.com, without a path")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(f"{name} must begin with https:// (http:// only for a venue on this machine)")
