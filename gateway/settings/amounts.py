"""The amounts of the file in integers; the file was checked before."""

from datetime import date
from typing import Final

from gateway.settings.file import BUDGET_SCALES, BudgetTable, LimitTable
from gateway.settings.model_tables import ModelTable, Priced, TargetTable
from gateway.terms.caller import Budget
from gateway.terms.limits import LimitProfile
from gateway.terms.models import DatedPrice, Price
from gateway.terms.money import MICRO, NANO, MicroUsd, NanoUnits, Unit, scaled

_UNITS: Final = {
    "tokens": Unit.TOKENS,
    "calls": Unit.CALLS,
    "cost_usd": Unit.COST,
    "notional_usd": Unit.NOTIONAL,
}


def limit_profile(name: str, table: LimitTable) -> LimitProfile:
    """A `[limits.NAME]` table in billionths of units and millionths of dollars."""
    return LimitProfile(
        name=name,
        quantity_max=NanoUnits(scaled(table.quantity_max, NANO)),
        notional_max=_micro(table.notional_usd_max),
        collar_bps=table.collar_bps,
        reference_age_ms_max=table.reference_age_ms_max,
        exposure_max=_micro(table.exposure_usd_max),
    )


def budget(table: BudgetTable) -> Budget:
    """A `[[budgets]]` table in its unit: tokens, calls, or millionths of dollars."""
    amount = scaled(table.amount, BUDGET_SCALES[table.unit])
    return Budget(scope=table.scope, unit=_UNITS[table.unit], window=table.window, amount=amount)


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


def _micro(text: str) -> MicroUsd:
    return MicroUsd(scaled(text, MICRO))
