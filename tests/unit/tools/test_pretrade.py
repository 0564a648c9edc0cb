"""Hard limits: integers only, monotone, and never passed by rounding (table 5.3 of the governance study)."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.terms.limits import LimitProfile
from gateway.terms.money import LONG_MAX, NANO
from gateway.terms.verdict import Kind
from gateway.tools.pretrade import Order, Side, check, incomparable, no_profile

LIMITS = LimitProfile(
    name="p",
    quantity_max=100 * NANO,
    notional_max=10_000 * 10**6,
    collar_bps=500,
    reference_age_ms_max=5_000,
    exposure_max=10**12,
)
ORDER = Order(
    symbol="AAPL",
    side=Side.BUY,
    quantity=10 * NANO,
    limit_price=100 * 10**6,
    reference=100 * 10**6,
    reference_age_ms=0,
    reduces=False,
)

quantities = st.integers(1, 10**18)
prices = st.integers(1, 10**12)
profiles = st.builds(
    LimitProfile,
    name=st.just("p"),
    quantity_max=quantities,
    notional_max=st.integers(0, LONG_MAX),
    collar_bps=st.integers(0, 20_000),
    reference_age_ms_max=st.integers(0, 10_000),
    exposure_max=st.just(0),
)
orders = st.builds(
    Order,
    symbol=st.just("AAPL"),
    side=st.sampled_from(Side),
    quantity=quantities,
    limit_price=st.one_of(st.just(0), prices),
    reference=prices,
    reference_age_ms=st.integers(-1, 10_000),
    reduces=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(profiles, orders)
def test_what_passes_is_within_every_limit_in_exact_arithmetic(limits, order):
    if check(limits, order) is not None:
        return
    price = max(order.limit_price, order.reference)
    assert 0 < order.quantity <= limits.quantity_max
    assert Fraction(order.quantity, NANO) * price <= limits.notional_max <= LONG_MAX
    assert 0 <= order.reference_age_ms <= limits.reference_age_ms_max
    if order.limit_price:
        off = abs(Fraction(order.limit_price, order.reference) - 1)
        assert off <= Fraction(limits.collar_bps, 10_000)


@settings(max_examples=300, deadline=None)
@given(profiles, orders)
def test_what_is_refused_is_beyond_a_limit_in_exact_arithmetic(limits, order):
    refusal = check(limits, order)
    if refusal is None:
        return
    worth = Fraction(order.quantity, NANO) * max(order.limit_price, order.reference)
    broken = {
        "limit.no_reference": not 0 <= order.reference_age_ms <= limits.reference_age_ms_max,
        "limit.quantity": order.quantity > limits.quantity_max,
        "limit.notional": worth > min(limits.notional_max, LONG_MAX),
        "limit.collar": abs(Fraction(order.limit_price, order.reference) - 1) * 10_000 > limits.collar_bps,
    }
    assert broken[refusal.reason]


@settings(max_examples=300, deadline=None)
@given(profiles, orders, st.integers(1, 10**15))
def test_less_of_a_permitted_order_is_permitted(limits, order, less):
    smaller = replace(order, quantity=max(1, order.quantity - less))
    if check(limits, order) is None:
        assert check(limits, smaller) is None
    assert smaller.notional <= order.notional


@settings(max_examples=300, deadline=None)
@given(orders)
def test_the_notional_is_rounded_up_by_less_than_one(order):
    exact = Fraction(order.quantity, NANO) * max(order.limit_price, order.reference)
    assert exact <= order.notional < exact + 1
    if order.reduces:
        assert order.adds_exposure(500) == 0
    elif order.side is Side.BUY:
        assert order.adds_exposure(500) == order.notional
    else:
        collar = -(-order.reference * 10_500 // 10_000)
        worth = Fraction(order.quantity, NANO) * max(order.limit_price, collar)
        assert max(worth, order.notional) <= order.adds_exposure(500) < worth + 1


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({}, None),
        ({"quantity": 0}, "limit.quantity"),
        ({"quantity": -1}, "limit.quantity"),
        ({"quantity": 100 * NANO + 1}, "limit.quantity"),
        ({"quantity": 100 * NANO}, None),
        ({"quantity": 100 * NANO, "limit_price": 100 * 10**6 + 1}, "limit.notional"),
        ({"quantity": 100 * NANO, "limit_price": 0, "reference": 100 * 10**6 + 1}, "limit.notional"),
        ({"limit_price": 105 * 10**6}, None),
        ({"limit_price": 105 * 10**6 + 1}, "limit.collar"),
        ({"limit_price": 95 * 10**6}, None),
        ({"limit_price": 95 * 10**6 - 1}, "limit.collar"),
        ({"limit_price": 1}, "limit.collar"),
        ({"limit_price": 0}, None),
        ({"reference": 0}, "limit.no_reference"),
        ({"reference": -1}, "limit.no_reference"),
        ({"reference_age_ms": 5_000}, None),
        ({"reference_age_ms": 5_001}, "limit.no_reference"),
        ({"reference_age_ms": -1}, "limit.no_reference"),
    ],
)
def test_the_edges(changed, reason):
    refusal = check(LIMITS, replace(ORDER, **changed))
    assert (refusal and refusal.reason) == reason
    if refusal:
        assert refusal.rules == (refusal.reason,)
        assert refusal.kind is (Kind.UNAVAILABLE if reason == "limit.no_reference" else Kind.FORBIDDEN)


def test_what_does_not_fit_into_64_bits_is_compared_with_nothing():
    order = replace(ORDER, quantity=10**18, limit_price=10**15)
    assert incomparable(LIMITS, order).reason == "limit.notional"
    assert incomparable(replace(LIMITS, notional_max=LONG_MAX), order).reason == "limit.notional"


def test_without_a_profile_an_agent_only_reads():
    assert (no_profile().kind, no_profile().rules) == (Kind.FORBIDDEN, ("limit.no_profile",))
