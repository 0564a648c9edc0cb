"""What a call must hold of its caller's budgets: a pure reading of budgets, demand and calendar."""

from gateway.call.windows import window
from gateway.terms.asks import ChatAsk, ToolAsk
from gateway.terms.caller import Budget
from gateway.terms.ids import OperationId
from gateway.terms.operations import Claim, Demand
from gateway.terms.verdict import Permit


def claims(permit: Permit, demand: Demand, operation: OperationId, now_us: int) -> tuple[Claim, ...]:
    """One claim for each budget with a unit that is demanded, in the caller's order, then what the ask itself claims.

    `now_us` is in microseconds of Unix time. A unit that no budget counts is held nowhere.
    """
    held = tuple(
        Claim(
            scope=_scope(permit, budget, operation),
            unit=budget.unit,
            window=window(budget.window, now_us, budget.zone),
            limit=budget.amount,
            amount=demand.amounts[budget.unit],
        )
        for budget in permit.caller.budgets
        if budget.unit in demand.amounts
    )
    return held + demand.claims


def _scope(permit: Permit, budget: Budget, operation: OperationId) -> str:
    """The budget's own scope, or the agent's run; a call without a run is one of its own, and has its bound too."""
    if budget.scope != "run":
        return budget.scope
    run = permit.ask.run if isinstance(permit.ask, ToolAsk | ChatAsk) else ""
    return f"run:{permit.caller.agent}:{run or operation}"
