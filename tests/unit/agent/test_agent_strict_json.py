import pytest

from agent.strict_json import json_object


def test_an_object_is_what_it_is():
    assert json_object(b'{"a": [1, {"b": null}], "c": "\\u00e4"}') == {"a": [1, {"b": None}], "c": "ä"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xff", "not UTF-8"),
        (b"[1]", "no object"),
        (b"null", "no object"),
        (b'{"a": 1, "a": 2}', "'a' stands here twice"),
        (b'{"x": {"a": 1, "b": 2, "a": 1}}', "'a' stands here twice"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": -Infinity}', "-Infinity is no JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1} x', "not JSON"),
    ],
)
def test_everything_else_is_refused_with_a_sentence(text, said):
    with pytest.raises(ValueError, match=said):
        json_object(text)
