"""The table of accounts at exchanges that ccxt speaks to."""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from gateway.settings import forms
from gateway.settings.forms import origin_faults, range_faults
from gateway.settings.table import Table
from gateway.settings.tool_tables import network_faults
from gateway.tools.ccxt_config import EXCHANGES, exchange_fault, symbol_faults

ACCEPTANCE_S_MAX: Final = 86_400


class CcxtVenueTable(Table, frozen=True, kw_only=True):
    """`[[ccxt_venues]]`: a spot account at an exchange that was verified. The last three refer to secrets."""

    name: str
    exchange: str
    mode: Literal["sandbox", "live"]
    """Has no default: which of the two it is must never be a surprise."""
    symbols: list[str]
    counted_as_usd: list[str] = msgspec.field(default_factory=lambda: ["USD"])
    account: str
    key_id: str
    secret_key: str
    order_key: str
    """Makes client order ids; must never change while orders may be asked for again."""
    url: str = ""
    acceptance_s: int = 30
    networks: list[str] = []

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.VENUE.faults("name", self.name)
        fault = exchange_fault(self.exchange, sandbox=self.mode == "sandbox")
        if fault:
            yield fault
        yield from symbol_faults(tuple(self.symbols), tuple(self.counted_as_usd))
        yield from forms.ACCOUNT.faults("account", self.account)
        if self.url:
            yield from origin_faults("url", self.url)
        known = EXCHANGES.get(self.exchange)
        least_s = 1 if known is None else -(-known.acceptance_ms_min // 1_000)
        yield from range_faults("acceptance_s", self.acceptance_s, least_s, ACCEPTANCE_S_MAX)
        yield from network_faults(self.networks)
