"""Strict JSON: what is refused, and that numbers keep every digit."""

import pytest

from localcloud.exchange.strict_json import MalformedJsonError, Number, decode_object


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1} trailing',
        b"\xff\xfe",
        b'{"a": ' + b"[" * 60_000,
    ],
)
def test_what_is_not_one_strict_object_is_refused(body):
    with pytest.raises(MalformedJsonError):
        decode_object(body)


@pytest.mark.parametrize("digits", ["0.1", "1e400", "9" * 5_000, "189.50", "-0"])
def test_numbers_stay_the_text_that_was_sent(digits):
    value = decode_object(f'{{"a": {digits}}}'.encode())["a"]
    assert (value, type(value)) == (digits, Number)


def test_text_that_looks_like_a_number_stays_text():
    assert type(decode_object(b'{"a": "1"}')["a"]) is str
