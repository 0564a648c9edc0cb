"""Amounts are integers read from plain decimal strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.terms.money import LONG_MAX, MICRO, NANO, MicroUsd, NanoUnits, notional, scaled, written


@pytest.mark.parametrize(
    "text, scale, value",
    [
        ("0", MICRO, 0),
        ("1", MICRO, 1_000_000),
        ("12.5", MICRO, 12_500_000),
        ("0.000001", MICRO, 1),
        ("3.10", NANO, 3_100_000_000),
    ],
)
def test_a_plain_decimal_is_read_exactly(text, scale, value):
    assert value == scaled(text, scale)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+1",
        "-1",
        "01",
        "1.",
        ".5",
        "1e5",
        "1 ",
        " 1",
        "1\n",
        "١٢",
        "1_0",
        "0x1",
        "NaN",
        "1,5",
        "0.0000001",
        "9" * 19,
    ],
)
def test_anything_else_is_refused_and_never_rounded(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the message is for people
        scaled(text, MICRO)


@given(st.integers(min_value=0, max_value=LONG_MAX // 2))
def test_writing_and_reading_are_inverse(value):
    assert value == scaled(written(value, MICRO), MICRO)


@given(st.integers(0, 10**15), st.integers(0, 10**12))
def test_a_notional_is_never_rounded_down(quantity, price):
    exact = quantity * price
    assert exact <= notional(NanoUnits(quantity), MicroUsd(price)) * NANO < exact + NANO
