"""The tables of the file that bound what agents may order, and how often they may ask for what moves nothing."""

from collections.abc import Iterator
from typing import Final

from gateway.settings.forms import amount_faults, optional_amount_faults, range_faults, symbol_faults
from gateway.settings.table import Table
from gateway.terms.money import MICRO, NANO

REFERENCE_AGE_MS_MAX: Final = 3_600_000
WINDOW_MS_MAX: Final = 86_400_000
MESSAGES_MAX: Final = 60_000_000
"""A message each microsecond: more cannot be counted apart."""

REPEATS_MAX: Final = 1_000
"""So many times of executions are kept in one row."""


class LimitTable(Table, frozen=True, kw_only=True):
    """`[limits.NAME]`: what one order, and all that is open, may come to."""

    quantity_max: str
    notional_usd_max: str
    collar_bps: int
    reference_age_ms_max: int
    exposure_usd_max: str
    agent_exposure_usd_max: str = ""
    position_max: str = ""
    account_position_max: str = ""
    short_sales: bool = False
    duplicate_window_ms: int = 1_000
    messages_per_minute: int = 120
    message_burst: int = 30
    cancel_reserve: int = 30
    repeats_max: int = 100
    repeats_window_ms: int = 60_000
    barrier_gamma_bps: int = 5_000
    barrier_window_ms: int = 60_000
    restricted: list[str] = []

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from amount_faults("quantity_max", self.quantity_max, NANO)
        yield from amount_faults("notional_usd_max", self.notional_usd_max, MICRO)
        yield from range_faults("collar_bps", self.collar_bps, 1, 10_000)
        yield from range_faults("reference_age_ms_max", self.reference_age_ms_max, 1, REFERENCE_AGE_MS_MAX)
        yield from amount_faults("exposure_usd_max", self.exposure_usd_max, MICRO)
        for field, scale in (("agent_exposure_usd_max", MICRO), ("position_max", NANO), ("account_position_max", NANO)):
            yield from optional_amount_faults(field, getattr(self, field), scale)
        yield from range_faults("duplicate_window_ms", self.duplicate_window_ms, 0, WINDOW_MS_MAX)
        yield from range_faults("messages_per_minute", self.messages_per_minute, 1, MESSAGES_MAX)
        yield from range_faults("message_burst", self.message_burst, 1, MESSAGES_MAX)
        yield from range_faults("cancel_reserve", self.cancel_reserve, 1, MESSAGES_MAX)
        yield from range_faults("repeats_max", self.repeats_max, 0, REPEATS_MAX)
        yield from range_faults("repeats_window_ms", self.repeats_window_ms, 1, WINDOW_MS_MAX)
        yield from range_faults("barrier_gamma_bps", self.barrier_gamma_bps, 1, 10_000)
        yield from range_faults("barrier_window_ms", self.barrier_window_ms, 1, WINDOW_MS_MAX)
        yield from symbol_faults("restricted", self.restricted)


class FirmTable(Table, frozen=True, kw_only=True):
    """`[firm]`: what all agents on all accounts may come to together, and what nobody trades."""

    exposure_usd_max: str = ""
    position_max: str = ""
    restricted: list[str] = []

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from optional_amount_faults("exposure_usd_max", self.exposure_usd_max, MICRO)
        yield from optional_amount_faults("position_max", self.position_max, NANO)
        yield from symbol_faults("restricted", self.restricted)


class QuotaTable(Table, frozen=True, kw_only=True):
    """`[quotas]`: how often an agent may ask for what moves nothing."""

    refusals_per_minute: int = 300
    dry_runs_per_minute: int = 60

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from range_faults("refusals_per_minute", self.refusals_per_minute, 1, MESSAGES_MAX)
        yield from range_faults("dry_runs_per_minute", self.dry_runs_per_minute, 1, MESSAGES_MAX)
