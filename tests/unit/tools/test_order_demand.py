"""What an order must hold and what counts it, beside the limits of one order (table 5.3 of the governance study)."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toolcases import CALLER, LIMITS

from gateway.terms.limits import BarrierLimit, MessageRate, RepeatLimit, Scopes, SharedWindows
from gateway.terms.money import LONG_MAX, MICRO, NANO, Unit
from gateway.terms.operations import Latch, Rate, Similar
from gateway.tools.cover import Cover
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
    reduces=False,
)


def trading(limits=WHOLE, agent="trader"):
    return Trading(caller=replace(CALLER, agent=agent, limits=limits), limits=limits, venue="paper", account="main")


def demand(order=ORDER, limits=WHOLE, agent="trader", cover=None, shorts=False):
    return trading(limits, agent).order("place_order", order, cover, shorts=shorts)


def guard(kind, order=ORDER, **more):
    (found,) = (one for one in demand(order, **more).guards if isinstance(one, kind))
    return found


def test_an_order_is_held_in_every_scope_the_widest_first():
    assert [(claim.scope, claim.unit, claim.amount, claim.limit) for claim in demand().claims] == [
        ("tenant:acme", Unit.EXPOSURE, 1_900 * MICRO, 90_000 * MICRO),
        ("account:paper/main", Unit.EXPOSURE, 1_900 * MICRO, LIMITS.exposure_max),
        ("agent:trader", Unit.EXPOSURE, 1_900 * MICRO, 20_000 * MICRO),
        ("account:paper/main/AAPL", Unit.POSITION, 0, LONG_MAX),
        ("account:paper/main/AAPL", Unit.BOOK, 0, LONG_MAX),
        ("agent:trader/AAPL", Unit.POSITION, 0, LONG_MAX),
        ("agent:trader/AAPL", Unit.BOOK, 0, LONG_MAX),
        ("account:paper/main/AAPL", Unit.FILLED, 10 * NANO, LONG_MAX),
        ("account:paper/main/AAPL", Unit.PAID, 1_900 * MICRO, LONG_MAX),
        ("account:paper/main/AAPL", Unit.OPEN, 0, LONG_MAX),
        ("tenant:acme/AAPL", Unit.POSITION, 10 * NANO, 400 * NANO),
        ("account:paper/main/AAPL", Unit.POSITION, 10 * NANO, 300 * NANO),
        ("agent:trader/AAPL", Unit.POSITION, 10 * NANO, 200 * NANO),
    ]


def test_only_exposure_has_a_barrier():
    assert [claim.barrier for claim in demand().claims] == [WHOLE.barrier] * 3 + [None] * 10


def test_a_sale_holds_nothing_in_every_place_that_it_may_give_back_to():
    bought, sold = bounded(demand().claims), bounded(demand(replace(ORDER, side=Side.SELL, reduces=True)).claims)
    assert [msgspec.structs.replace(claim, amount=0, passes=claim.unit is Unit.POSITION) for claim in bought] == sold
    filled = [claim for claim in demand(SALE).claims if claim.unit in {Unit.FILLED, Unit.PAID, Unit.OPEN}]
    assert [(claim.amount, claim.window) for claim in filled] == [(10 * NANO, "sold"), (0, "sold"), (0, "sold")]


def test_a_lot_is_of_one_account_for_whoever_has_it():
    assert [(claim.scope, claim.window) for claim in demand().claims if claim.unit is Unit.BOOK] == [
        ("account:paper/main/AAPL", "paper/main"),
        ("agent:trader/AAPL", "paper/main"),
    ]


def bounded(claims):
    """Those of exposure and position that have a limit."""
    return [one for one in claims if one.unit in {Unit.EXPOSURE, Unit.POSITION} and one.limit != LONG_MAX]


COVER = Cover(position=30 * NANO, traded=50 * NANO, filled=35 * NANO, agent_offset=7 * NANO, firm_offset=9 * NANO)
SALE = replace(ORDER, side=Side.SELL, reduces=True)
SHORT = replace(SALE, reduces=False)


def counted(order, **more):
    """What is counted of the traded: place, unit, limit where one binds, and the reason of its refusal."""
    claims = demand(order, shorts=True, **more).claims
    return [
        (claim.scope, claim.unit, None if claim.passes else claim.limit, claim.reason)
        for claim in claims
        if claim.unit in {Unit.TRADED, Unit.FILLED} and claim.window == "total"
    ]


def test_a_cover_is_what_is_held_without_what_is_open():
    assert COVER.free == 15 * NANO
    assert Cover.of(COVER.facts()) == COVER
    assert Cover.of({name: value for name, value in COVER.facts().items() if "firm" not in name}) is None
    assert Cover.of({**COVER.facts(), "cover.filled_nano": True}) is None


def test_a_covered_sale_is_bound_by_its_cover_and_by_no_position():
    assert counted(SALE, cover=COVER) == [
        ("account:paper/main/AAPL/sell", Unit.TRADED, 65 * NANO, "limit.uncovered"),
        ("account:paper/main/AAPL/sell", Unit.FILLED, None, ""),
        ("tenant:acme/AAPL/sell", Unit.TRADED, None, ""),
        ("agent:trader/AAPL/sell", Unit.TRADED, None, ""),
    ]
    held = bounded(demand(SALE, shorts=True, cover=COVER).claims)
    assert [claim.amount for claim in held] == [0] * 6


def test_a_short_sale_is_bound_by_every_position_and_is_exposure_at_the_collar():
    assert counted(SHORT, cover=COVER) == [
        ("account:paper/main/AAPL/sell", Unit.TRADED, 365 * NANO, "limit.position"),
        ("account:paper/main/AAPL/sell", Unit.FILLED, None, ""),
        ("tenant:acme/AAPL/sell", Unit.TRADED, 409 * NANO, ""),
        ("agent:trader/AAPL/sell", Unit.TRADED, 207 * NANO, ""),
    ]
    assert {claim.amount for claim in demand(SHORT, shorts=True, cover=COVER).claims[:3]} == {1_984_500_000}


def test_a_purchase_offsets_what_may_be_short_and_closes_only_what_it_covers():
    assert counted(ORDER) == [
        ("tenant:acme/AAPL/buy", Unit.FILLED, None, ""),
        ("agent:trader/AAPL/buy", Unit.FILLED, None, ""),
    ]
    closing = replace(ORDER, reduces=True)
    assert counted(closing, cover=COVER)[0] == (
        "account:paper/main/AAPL/buy",
        Unit.TRADED,
        65 * NANO,
        "limit.uncovered",
    )
    assert counted(ORDER, cover=COVER)[0] == ("account:paper/main/AAPL/buy", Unit.TRADED, None, "limit.position")
    held = bounded(demand(closing, shorts=True, cover=COVER).claims)
    assert [(claim.amount, claim.passes) for claim in held] == [(0, False)] * 3 + [(10 * NANO, True)] * 3


def test_without_position_limits_nothing_but_the_account_is_counted():
    assert [one[:3] for one in counted(SHORT, cover=COVER, limits=LIMITS)] == [
        ("account:paper/main/AAPL/sell", Unit.TRADED, None),
        ("account:paper/main/AAPL/sell", Unit.FILLED, None),
    ]
    assert counted(ORDER, limits=LIMITS) == []


def test_what_a_profile_leaves_out_is_as_strict_as_the_account():
    claims = bounded(demand(limits=LIMITS).claims)
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
    assert cancel == msgspec.structs.replace(order, pace=msgspec.structs.replace(order.pace, burst=15))
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
