"""The amounts of the file in integers; the file was checked before."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Final

from gateway.settings.file import BUDGET_SCALES, BudgetTable
from gateway.settings.forms import zone
from gateway.settings.limit_tables import FirmTable, LimitTable
from gateway.settings.model_tables import ModelTable, Priced, TargetTable
from gateway.terms.caller import Budget
from gateway.terms.limits import BarrierLimit, LimitProfile, MessageRate, RepeatLimit, Scopes, SharedWindows
from gateway.terms.models import DatedPrice, Price
from gateway.terms.money import MICRO, NANO, MicroUsd, NanoUnits, Unit, scaled

_UNITS: Final = {
    "tokens": Unit.TOKENS,
    "calls": Unit.CALLS,
    "cost_usd": Unit.COST,
    "notional_usd": Unit.NOTIONAL,
}


def limit_profiles(tables: Mapping[str, LimitTable], firm: FirmTable) -> dict[str, LimitProfile]:
    """All `[limits.NAME]` tables with `[firm]`, each knowing the windows of the others."""
    profiles = {name: limit_profile(name, table, firm) for name, table in tables.items()}
    shared = SharedWindows(
        duplicates_ms=max((one.duplicate_window_ms for one in profiles.values()), default=0),
        barriers_ms=tuple(sorted({one.barrier.window_ms for one in profiles.values() if one.barrier is not None})),
    )
    return {name: replace(profile, shared=shared) for name, profile in profiles.items()}


def limit_profile(name: str, table: LimitTable, firm: FirmTable) -> LimitProfile:
    """A `[limits.NAME]` table with `[firm]`, in billionths of units and millionths of dollars."""
    return LimitProfile(
        name=name,
        quantity_max=NanoUnits(scaled(table.quantity_max, NANO)),
        notional_max=_micro(table.notional_usd_max),
        collar_bps=table.collar_bps,
        reference_age_ms_max=table.reference_age_ms_max,
        exposure_max=_micro(table.exposure_usd_max),
        agent_exposure_max=_micro(table.agent_exposure_usd_max) if table.agent_exposure_usd_max else None,
        firm_exposure_max=_micro(firm.exposure_usd_max) if firm.exposure_usd_max else None,
        position_max=Scopes(
            agent=_nano(table.position_max), account=_nano(table.account_position_max), firm=_nano(firm.position_max)
        ),
        short_sales=table.short_sales,
        duplicate_window_ms=table.duplicate_window_ms,
        messages=MessageRate(
            per_minute=table.messages_per_minute, burst=table.message_burst, cancel_reserve=table.cancel_reserve
        ),
        repeats=RepeatLimit(executions=table.repeats_max, window_ms=table.repeats_window_ms)
        if table.repeats_max
        else None,
        # All of what is left in one step is no barrier.
        barrier=BarrierLimit(gamma_bps=table.barrier_gamma_bps, window_ms=table.barrier_window_ms)
        if table.barrier_gamma_bps < 10_000
        else None,
        restricted=frozenset((*table.restricted, *firm.restricted)),
    )


def budget(table: BudgetTable) -> Budget:
    """A `[[budgets]]` table in its unit: tokens, calls, or millionths of dollars."""
    amount = scaled(table.amount, BUDGET_SCALES[table.unit])
    where = zone(table.time_zone)
    return Budget(scope=table.scope, unit=_UNITS[table.unit], window=table.window, amount=amount, zone=where)


def prices(target: TargetTable | ModelTable, model: ModelTable) -> tuple[DatedPrice, ...]:
    """A target's prices by their days, or those of its model where it has none of its own."""
    priced = target if target.prices or target.input_usd_per_million else model
    if not priced.prices:
        return (DatedPrice(valid_from="", from_unix_us=0, price=_price(priced)),)
    return tuple(
        DatedPrice(valid_from=table.valid_from, from_unix_us=_midnight_us(table.valid_from), price=_price(table))
        for table in priced.prices
    )


def _price(table: Priced) -> Price:
    """Millionths of dollars; cached tokens cost what fresh ones do unless the file says less."""
    return Price(
        input=_micro(table.input_usd_per_million),
        output=_micro(table.output_usd_per_million),
        cached=_micro(table.cached_usd_per_million or table.input_usd_per_million),
    )


def _midnight_us(day: str) -> int:
    """The beginning of a day in UTC, in microseconds of Unix time."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * 86_400_000_000


def _nano(text: str) -> NanoUnits | None:
    return NanoUnits(scaled(text, NANO)) if text else None


def _micro(text: str) -> MicroUsd:
    return MicroUsd(scaled(text, MICRO))
