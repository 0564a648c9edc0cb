"""What a call must hold, from its caller's budgets and its own demand."""

from dataclasses import replace

import pytest

from gateway.call.claims import claims
from gateway.terms.asks import CountAsk, Effect, Idempotency, ReadAsk, ToolAsk, ToolDeclaration
from gateway.terms.caller import Budget, Caller
from gateway.terms.conversation import Conversation
from gateway.terms.money import Unit
from gateway.terms.operations import Claim, Demand
from gateway.terms.verdict import Permit

NOON_US = 1_795_953_600_000_000  # 2026-11-29T12:00:00Z
TOOL = ToolDeclaration(
    name="place_order",
    version="1",
    description="",
    arguments_schema="{}",
    effect=Effect.IRREVERSIBLE,
    idempotency=Idempotency.NATIVE_KEY,
    timeout_ms=1_000,
    redacted=frozenset(),
    hash="",
)
ASK = ToolAsk(tool=TOOL, arguments_bytes=b"{}", arguments={}, key="k", run="run-1", digest=b"")
CALLER = Caller(
    principal="1",
    email="",
    agent="trader",
    team="desk",
    tenant="acme",
    role="trader",
    models=frozenset(),
    tools=frozenset(),
    budgets=(),
    limits=None,
)


def held(budgets, demand, ask=ASK):
    caller = replace(CALLER, budgets=tuple(Budget(scope=s, unit=u, window=w, amount=a) for s, u, w, a in budgets))
    permit = Permit(caller=caller, ask=ask, rules=(), policy_hash="")
    return claims(permit, demand, "op-1", NOON_US)


def test_every_budget_with_a_demanded_unit_is_held_in_the_callers_order():
    budgets = [
        ("tenant:acme", Unit.CALLS, "month", 100),
        ("team:desk", Unit.NOTIONAL, "day", 900),
        ("agent:trader", Unit.TOKENS, "hour", 5),
        ("agent:trader", Unit.CALLS, "hour", 10),
        ("run", Unit.CALLS, "total", 3),
    ]
    found = held(budgets, Demand(amounts={Unit.CALLS: 1, Unit.NOTIONAL: 250}))
    assert [(claim.scope, claim.unit, claim.window, claim.limit, claim.amount) for claim in found] == [
        ("tenant:acme", Unit.CALLS, "month:2026-11", 100, 1),
        ("team:desk", Unit.NOTIONAL, "day:2026-11-29", 900, 250),
        ("agent:trader", Unit.CALLS, "hour:2026-11-29T12", 10, 1),
        ("run:trader:run-1", Unit.CALLS, "total", 3, 1),
    ]


def test_what_the_ask_itself_claims_comes_last():
    own = Claim(scope="account:paper/desk", unit=Unit.EXPOSURE, window="total", limit=9, amount=4)
    found = held([("agent:trader", Unit.CALLS, "day", 1)], Demand(amounts={Unit.CALLS: 1}, claims=(own,)))
    assert found[-1] == own
    assert len(found) == 2


@pytest.mark.parametrize(
    "ask",
    [
        replace(ASK, run=""),
        CountAsk(model="flash", conversation=Conversation(system_instruction="", turns=()), digest=b""),
        ReadAsk(what="list_tools", operation=""),
    ],
    ids=["tool without a run", "count", "read"],
)
def test_a_call_without_a_run_is_a_run_of_its_own(ask):
    """Otherwise the bound of a run would be passed by leaving its name out."""
    (claim,) = held([("run", Unit.CALLS, "total", 3)], Demand(amounts={Unit.CALLS: 5}), ask)
    assert (claim.scope, claim.limit, claim.amount) == ("run:trader:op-1", 3, 5)


def test_an_amount_of_nothing_is_held_too():
    """Settling may charge it."""
    (claim,) = held([("agent:trader", Unit.COST, "day", 3)], Demand(amounts={Unit.COST: 0}))
    assert claim.amount == 0
