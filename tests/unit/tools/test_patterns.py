"""Patterns bound whole strings in linear time, or they are refused."""

import pytest

from gateway.tools.patterns import fault_of

GOOD = [
    r"^[A-Z]{1,5}(\.[A-Z])?$",
    r"^(a|b)$",
    r"^(?:a|b)+$",
    r"^[|$^(]$",
    r"^a\|b$",
    r"^\^\$$",
    "^$",
]


@pytest.mark.parametrize("pattern", GOOD)
def test_good_patterns(pattern):
    assert fault_of(pattern) is None


@pytest.mark.parametrize(
    "pattern, told",
    [
        ("[a-z]+", "anchored"),
        ("^[a-z]+", "anchored"),
        ("[a-z]+$", "anchored"),
        (r"^a\$", "anchored"),
        ("^a|b$", "anchored"),
        ("^(a)|(b)$", "anchored"),
        ("^[a$]", "anchored"),
        ("[^a]$", "anchored"),
        ("^*a$", "repeats"),
        ("^?a$", "repeats"),
        ("^{0}a$", "repeats"),
        ("(?i)^a$", "flags"),
        ("^(?m:a)$", "flags"),
        ("^(?P<name>a)$", "flags"),
        ("^(?=a)a$", "linear engine"),
        (r"^(a)\1$", "linear engine"),
        ("^(a$", "linear engine"),
        ("^(a{1000}){1000}$", "linear engine"),
        ("^[]|b]$", "class"),
    ],
)
def test_bad_patterns(pattern, told):
    fault = fault_of(pattern)
    assert fault is not None
    assert told in fault
