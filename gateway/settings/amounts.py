"""The amounts of the file in integers; the file was checked before."""

from typing import Final

from gateway.settings.file import BUDGET_SCALES, BudgetTable, LimitTable, ModelTable
from gateway.terms.caller import Budget
from gateway.terms.limits import LimitProfile
from gateway.terms.models import Price
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


def price(table: ModelTable) -> Price:
    """A model's prices in millionths of dollars; cached tokens cost what fresh ones do unless the file says less."""
    return Price(
        input=_micro(table.input_usd_per_million),
        output=_micro(table.output_usd_per_million),
        cached=_micro(table.cached_usd_per_million or table.input_usd_per_million),
    )


def _micro(text: str) -> MicroUsd:
    return MicroUsd(scaled(text, MICRO))
