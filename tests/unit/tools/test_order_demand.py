"""What an order must hold and what counts it, beside the limits of one order (table 5.3 of the governance study)."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toolcases import CALLER, LIMITS

from gateway.terms.limits import BarrierLimit, MessageRate, RepeatLimit, Scopes, SharedWindows
from gateway.terms.money import MICRO, NANO, Unit
from gateway.terms.operations import Latch, Rate, Similar
from gateway.tools.order_demand import Trading
from gateway.tools.pretrade import Order, Side, check, restricted

WHOLE = replace(
    LIMITS,
    agent_exposure_max=20_000 * MICRO,
    firm_exposure_max=90_000 * MICRO,
    position_max=Scopes(agent=200 * NANO, account=300 * NANO, firm=400 * NANO),
    duplicate_window_ms=1_000,
    messages=MessageRate(per_minute=70, burst=10, cancel_reserve=5),
    repeats=RepeatLimit(executions=20, window_ms=60_000),
    barrier=BarrierLimit(gamma_bps=5_000, window_ms=60_000),
    restricted=frozenset({"GOOG"}),
)
OTHERS = SharedWindows(duplicates_ms=60_000, barriers_ms=(1_000, 60_000))
ORDER = Order(
    symbol="AAPL",
    side=Side.BUY,
    quantity=10 * NANO,
    limit_price=190 * MICRO,
    reference=189 * MICRO,
    reference_age_ms=0,
)


def trading(limits=WHOLE, agent="trader"):
    return Trading(caller=replace(CALLER, agent=agent, limits=limits), limits=limits, venue="paper", account="main")


def demand(order=ORDER, limits=WHOLE, agent="trader"):
    return trading(limits, agent).order("place_order", order)


def guard(kind, order=ORDER, **more):
    (found,) = (one for one in demand(order, **more).guards if isinstance(one, kind))
    return found


def test_an_order_is_held_in_every_scope_the_widest_first():
    assert [(claim.scope, claim.unit, claim.amount, claim.limit) for claim in demand().claims] == [
        ("tenant:acme", Unit.EXPOSURE, 1_900 * MICRO, 90_000 * MICRO),
        ("account:paper/main", Unit.EXPOSURE, 1_900 * MICRO, LIMITS.exposure_max),
        ("agent:trader", Unit.EXPOSURE, 1_900 * MICRO, 20_000 * MICRO),
        ("tenant:acme/AAPL", Unit.POSITION, 10 * NANO, 400 * NANO),
        ("account:paper/main/AAPL", Unit.POSITION, 10 * NANO, 300 * NANO),
        ("agent:trader/AAPL", Unit.POSITION, 10 * NANO, 200 * NANO),
    ]


def test_only_exposure_has_a_barrier():
    assert [claim.barrier for claim in demand().claims] == [WHOLE.barrier] * 3 + [None] * 3


def test_a_sale_holds_nothing_in_every_place_that_it_may_give_back_to():
    bought, sold = demand().claims, demand(replace(ORDER, side=Side.SELL)).claims
    assert [replace(claim, amount=0) for claim in bought] == list(sold)


def test_what_a_profile_leaves_out_is_as_strict_as_the_account():
    claims = demand(limits=LIMITS).claims
    assert [(claim.unit, claim.limit) for claim in claims] == [(Unit.EXPOSURE, LIMITS.exposure_max)] * 3
    assert demand(limits=LIMITS).guards == ()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60_000_000))
def test_a_rate_is_never_rounded_in_the_agents_favour(per_minute):
    limits = replace(WHOLE, messages=replace(WHOLE.messages, per_minute=per_minute))
    assert guard(Rate, limits=limits).pace.interval_us * per_minute >= 60_000_000


def test_orders_and_cancels_are_one_stream_of_messages_and_cancels_have_the_reserve():
    order = guard(Rate)
    (cancel,) = trading().cancel().guards
    assert (order.scope, order.pace.burst) == ("agent:trader@paper", 10)
    assert cancel == replace(order, pace=replace(order.pace, burst=15))
    assert guard(Rate, agent="other").scope != order.scope


def test_a_cancel_needs_no_budget_and_is_never_latched():
    assert (dict(trading().cancel().amounts), trading().cancel().claims) == ({}, ())
    assert trading(LIMITS).cancel().guards == ()


@pytest.mark.parametrize(
    "changed, alike",
    [
        ({}, True),
        ({"reference": 1, "reference_age_ms": 7}, True),
        ({"symbol": "MSFT"}, False),
        ({"side": Side.SELL}, False),
        ({"quantity": 10 * NANO + 1}, False),
        ({"limit_price": 190 * MICRO + 1}, False),
        ({"limit_price": 0}, False),
    ],
)
def test_what_makes_two_orders_duplicates(changed, alike):
    other = guard(Similar, replace(ORDER, **changed), agent="other")
    assert other.scope == "account:paper/main"
    assert (other == guard(Similar)) == alike


@pytest.mark.parametrize("own_ms, kept_ms", [(0, 60_000), (1_000, 60_000), (90_000, 90_000)])
def test_an_order_is_kept_for_who_looks_back_longest(own_ms, kept_ms):
    """Also the order of an agent that looks back for nothing."""
    seen = guard(Similar, limits=replace(WHOLE, duplicate_window_ms=own_ms, shared=OTHERS))
    assert (seen.window_ms, seen.kept_ms, seen.digest) == (own_ms, kept_ms, guard(Similar).digest)


@pytest.mark.parametrize("barrier", [WHOLE.barrier, None])
def test_an_exposure_counts_in_the_steps_of_everyone(barrier):
    claims = demand(limits=replace(WHOLE, barrier=barrier, shared=OTHERS)).claims
    exposures = [claim for claim in claims if claim.unit is Unit.EXPOSURE]
    assert [(claim.barrier, claim.steps_ms) for claim in exposures] == [(barrier, (1_000, 60_000))] * 3


@pytest.mark.parametrize(
    "changed, same",
    [
        ({"quantity": 1, "limit_price": 1, "reference": 2}, True),
        ({"symbol": "MSFT"}, False),
        ({"side": Side.SELL}, False),
        ({"limit_price": 0}, False),
    ],
)
def test_what_makes_two_executions_one_strategy(changed, same):
    found = guard(Latch, replace(ORDER, **changed))
    assert (found.scope, found.executions, found.window_ms) == ("agent:trader/place_order", 20, 60_000)
    assert (found.digest == guard(Latch).digest) == same


@pytest.mark.parametrize("side", Side)
def test_a_restricted_symbol_is_refused_both_ways_before_anything_else(side):
    refusal = check(WHOLE, replace(ORDER, symbol="GOOG", side=side, quantity=0, reference=0))
    assert (refusal.reason, refusal.rules) == ("limit.restricted", ("limit.restricted",))
    assert restricted(WHOLE, "GOOGL") is None
