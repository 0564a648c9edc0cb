"""What two parsers could read differently is refused."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.terms.strict_json import DEPTH_MAX, JsonRefusedError, frozen, strict_object, strict_value


@pytest.mark.parametrize(
    "text, why",
    [
        ('{"a":1,"a":2}', "stands twice"),
        ('{"a":{"b":1,"b":1}}', "stands twice"),
        ('{"a":NaN}', "NaN"),
        ('{"a":-Infinity}', "Infinity"),
        ('{"a":1e999}', "digits"),
        ('{"a":' + "9" * 41 + "}", "digits"),
        ('{"a":"\\ud800"}', "surrogate"),
        ("[1]", "object"),
        ('{"a":1} x', "not JSON"),
        ('{"a":1,}', "not JSON"),
        ("{'a':1}", "not JSON"),
        ("", "not JSON"),
        (b'{"a":"\xff"}', "UTF-8"),
        ("[" * 100_000, "deeper"),
        ('{"a":' * (DEPTH_MAX + 1) + "1" + "}" * (DEPTH_MAX + 1), "deeper"),
        ("{" + " " * 5000 + "}", "longer"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text, why):
    with pytest.raises(JsonRefusedError, match=why):
        strict_object(text, size_max=200_000 if len(text) > 6000 else 4096)


def test_brackets_inside_of_strings_are_no_depth():
    text = json.dumps({"a": "[{" * 200, "b": '\\"[' * 50})
    assert json.loads(text) == strict_object(text, size_max=4096)


def test_a_string_without_end_is_read_once():
    """Two million escaped quotes: looking for an end from each of them would take hours."""
    with pytest.raises(JsonRefusedError):
        strict_object("[" * 40 + '"' + '\\"' * 1_000_000, size_max=4_000_000)
    with pytest.raises(JsonRefusedError, match="not JSON"):
        strict_object("[" * 30 + "{" + '"' + '\\"' * 1_000_000, size_max=4_000_000)


def test_fractions_are_decimals_and_long_integers_stay_exact():
    assert {"a": Decimal("0.1"), "b": 10**30} == strict_object(
        '{"a":0.1,"b":1000000000000000000000000000000}', size_max=99
    )


def test_a_frozen_value_cannot_be_changed():
    value = frozen(strict_value('{"a":[1,{"b":2}]}', size_max=99))
    with pytest.raises(TypeError):
        value["a"] = 2
    with pytest.raises(TypeError):
        value["a"][1]["b"] = 3


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_everything_else_is_read_as_json_reads_it(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert value == strict_value(text, size_max=1_000_000)
