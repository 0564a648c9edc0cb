"""`[[models]]`: what a model name stands for, where it is served, what it costs, and what is done when that fails."""

from collections.abc import Iterator
from datetime import date
from typing import Final, Literal

from gateway.settings import forms
from gateway.settings.forms import amount_faults, range_faults, shown, twice_faults
from gateway.settings.table import Table
from gateway.settings.upstream_tables import CacheTable, MediaTable, SafetyTable
from gateway.terms.money import MICRO

MODEL_TOKENS_MAX: Final = 1_000_000
PRICE_USD_MAX: Final = 1_000_000
"""For a million tokens. The dearest call then still costs less than what 64 bits of micro-dollars hold."""

TARGETS_MAX: Final = 16

Constraint = Literal["json_schema", "regex", "choice"]
Thinking = Literal["", "level", "budget", "none"]


class PriceTable(Table, frozen=True, kw_only=True):
    """`[[models.prices]]`: what tokens cost from midnight (UTC) of a day on, in US dollars for a million."""

    valid_from: str
    input_usd_per_million: str
    output_usd_per_million: str
    cached_usd_per_million: str = ""

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        if not _is_day(self.valid_from):
            yield f'valid_from: {shown(self.valid_from)} will not do: write a day such as "2026-11-23"'
        yield from price_faults(self)


class TargetTable(Table, frozen=True, kw_only=True):
    """`[[models.targets]]`: one place where the model is served. What it leaves out is as in the model's own table."""

    name: str
    upstream: str = ""
    upstream_id: str = ""
    location: str = ""
    thinking: Thinking = ""
    weight: int = 1
    order: int = 1
    throughput: Literal["any", "dedicated", "shared"] = "any"
    tier: Literal["standard", "priority", "flex"] = "standard"
    input_usd_per_million: str = ""
    output_usd_per_million: str = ""
    cached_usd_per_million: str = ""
    prices: list[PriceTable] = []
    caches: list[CacheTable] = []

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.NAME.faults("name", self.name)
        yield from twice_faults("caches: the name", [cache.name for cache in self.caches])
        if self.upstream_id:
            yield from forms.UPSTREAM_ID.faults("upstream_id", self.upstream_id)
        if self.location:
            yield from forms.LOCATION.faults("location", self.location)
        yield from range_faults("weight", self.weight, 0, 1_000)
        yield from range_faults("order", self.order, 1, 100)
        if self.throughput == "dedicated" and self.tier != "standard":
            yield 'tier: a dedicated target has none: leave it out, or write throughput = "any" for both'
        yield from priced_faults(self)


class RetryTable(Table, frozen=True, kw_only=True):
    """`[models.retry]`: how often a call is tried again before its answer begins, and how many calls are."""

    attempts: int | None = None
    budget_percent: int = 20
    burst: int = 10
    wait_ms_max: int = 5_000
    first_delta_ms: int = 0
    hedge_after_ms: int = 0
    hedge_to: Literal["other", "same"] = "other"

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from range_faults("attempts", 1 if self.attempts is None else self.attempts, 1, TARGETS_MAX)
        yield from range_faults("budget_percent", self.budget_percent, 0, 100)
        yield from range_faults("burst", self.burst, 0, 1_000)
        yield from range_faults("wait_ms_max", self.wait_ms_max, 0, 60_000)
        yield from range_faults("first_delta_ms", self.first_delta_ms, 0, 600_000)
        yield from range_faults("hedge_after_ms", self.hedge_after_ms, 0, 600_000)
        yield from self._hedge_faults()

    def _hedge_faults(self) -> Iterator[str]:
        """What would keep every hedge from being sent."""
        if self.hedge_to == "same" and not self.hedge_after_ms:
            yield "hedge_to: nothing is hedged: write hedge_after_ms too, or leave it out"
        if self.hedge_after_ms and not self.burst:
            yield "burst: a hedge is paid like a retry: write 1 or more, or leave hedge_after_ms out"
        if 0 < self.first_delta_ms <= self.hedge_after_ms:
            yield "hedge_after_ms: the target is given up before: write less than first_delta_ms"


class BreakerTable(Table, frozen=True, kw_only=True):
    """`[models.breaker]`: when a target that fails is left alone, and for how long."""

    failures: int = 5
    window_ms: int = 10_000
    open_ms: int = 5_000
    open_ms_max: int = 120_000

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from range_faults("failures", self.failures, 1, 10_000)
        yield from range_faults("window_ms", self.window_ms, 1_000, 600_000)
        yield from range_faults("open_ms", self.open_ms, 100, 3_600_000)
        yield from range_faults("open_ms_max", self.open_ms_max, max(self.open_ms, 100), 3_600_000)


class ModelTable(Table, frozen=True, kw_only=True):
    """`[[models]]`: a model, what it can be made to answer, and what its tokens cost."""

    name: str
    upstream: str = "vertex"
    upstream_id: str = ""
    description: str = ""
    max_output_tokens: int
    thinking: Thinking = ""
    constraints: list[Constraint] = []
    verified_constraints: list[Constraint] = []
    media: list[MediaTable] = []
    file_prefixes: list[str] = []
    caches: list[CacheTable] = []
    safety: list[SafetyTable] = []
    input_usd_per_million: str = ""
    output_usd_per_million: str = ""
    cached_usd_per_million: str = ""
    prices: list[PriceTable] = []
    targets: list[TargetTable] = []
    retry: RetryTable = RetryTable()
    breaker: BreakerTable = BreakerTable()
    hold: Literal["bound", "typical"] = "bound"

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.NAME.faults("name", self.name)
        if self.upstream_id:
            yield from forms.UPSTREAM_ID.faults("upstream_id", self.upstream_id)
        yield from range_faults("max_output_tokens", self.max_output_tokens, 1, MODEL_TOKENS_MAX)
        yield from twice_faults("constraints", [*self.constraints, *self.verified_constraints])
        yield from self._input_faults()
        yield from priced_faults(self)
        yield from self._missing()
        yield from self._target_faults()

    def _input_faults(self) -> Iterator[str]:
        yield from twice_faults("media: the type", [media.mime_type for media in self.media])
        yield from twice_faults("caches: the name", [cache.name for cache in self.caches])
        yield from twice_faults("safety: the category", [setting.category for setting in self.safety])
        yield from twice_faults("file_prefixes", self.file_prefixes)
        for prefix in self.file_prefixes:
            yield from forms.FILE_PREFIX.faults("file_prefixes", prefix)
        if self.file_prefixes and not self.media:
            yield "media: is missing: write which files the model reads, because file_prefixes says from where"

    def _missing(self) -> Iterator[str]:
        """What neither the model nor its targets say; a model without targets is its own."""
        targets = [(f"targets.{target.name}.", target) for target in self.targets]
        places: list[tuple[str, TargetTable | ModelTable]] = [*targets] if targets else [("", self)]
        for place, target in places:
            if not target.upstream_id and not self.upstream_id:
                yield f"{place}upstream_id: is missing: write it"
            if not any(map(_has_prices, (target, self))):
                yield f"{place}input_usd_per_million: is missing: write it and output_usd_per_million, or prices"

    def _target_faults(self) -> Iterator[str]:
        yield from twice_faults("targets: the name", [target.name for target in self.targets])
        if len(self.targets) > TARGETS_MAX:
            yield f"targets: there are {len(self.targets)}: write at most {TARGETS_MAX}"
        same = self.retry.hedge_to == "same"
        if self.retry.hedge_after_ms and not same and len(self.targets) < 2:
            yield 'retry.hedge_after_ms: there is no other target: write a second one, or hedge_to = "same"'
        if same and len(self.targets) > 1:
            yield "retry.hedge_to: there are other targets, which are asked then: leave it out"


Priced = PriceTable | TargetTable | ModelTable


def price_faults(table: Priced) -> Iterator[str]:
    """The faults of a table's own prices."""
    for field in ("input_usd_per_million", "output_usd_per_million", "cached_usd_per_million"):
        text: str = getattr(table, field)
        if text or field != "cached_usd_per_million":
            yield from amount_faults(field, text, MICRO, PRICE_USD_MAX)


def priced_faults(table: TargetTable | ModelTable) -> Iterator[str]:
    """The faults of the prices of a table that may have one price, several with their days, or none."""
    own = _has_a_price(table)
    if own and table.prices:
        yield "prices: stand beside a price without a day: write the one or the other"
    elif own:
        yield from price_faults(table)
    days = [price.valid_from for price in table.prices]
    if days != sorted(set(days)):
        yield "prices: write each day once, the earliest first"


def _has_prices(table: TargetTable | ModelTable) -> bool:
    return bool(table.prices) or _has_a_price(table)


def _has_a_price(table: TargetTable | ModelTable) -> bool:
    """Whether it says anything of a price without a day; if all of it is missing, that is told elsewhere."""
    return bool(table.input_usd_per_million or table.output_usd_per_million or table.cached_usd_per_million)


def _is_day(text: str) -> bool:
    try:
        return len(text) == 10 and date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
