"""Whatever stands in the file, the answer is settings or sentences: never another exception, never a secret."""

import json
import math
import tomllib

from example_file import EXAMPLE, TEXT, VARIABLES, example
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.settings.faults import SettingsError
from gateway.settings.reading import Settings, read_settings

SOMETHING = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=40)
    | st.sampled_from(
        ["", "-1", "1e9", "0.0000000001", "env:X", "file:/", "https://", "http://127.0.0.1", "run", "\0"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


def outcome(path, text):
    path.write_bytes(text)
    try:
        return read_settings(path, VARIABLES)
    except SettingsError as error:
        refused = error
    assert refused.faults
    assert all(fault.isprintable() for fault in refused.faults)
    assert not any(secret in str(refused) for secret in VARIABLES.values())
    return refused


def written(value):
    """A value as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(name)} = {written(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def places(value, steps=()):
    """Every place in a tree."""
    yield steps
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from places(member, (*steps, name))


PLACES = [steps for steps in places(example()) if steps]


@given(st.sampled_from(PLACES), SOMETHING)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_in_any_place(tmp_path, steps, value):
    raw = example()
    at = raw
    for step in steps[:-1]:
        at = at[step]
    at[steps[-1]] = value
    text = "".join(f"{name} = {written(member)}\n" for name, member in raw.items())
    assert tomllib.loads(text).keys() == raw.keys()
    outcome(tmp_path / "gateway.toml", text.encode())


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_the_text(tmp_path, data):
    text = bytearray(TEXT.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 30))
        text[at : at + length] = data.draw(st.binary(max_size=8) | st.text(max_size=8).map(str.encode))
    outcome(tmp_path / "gateway.toml", bytes(text))


def test_the_undamaged_text_passes(tmp_path):
    assert isinstance(outcome(tmp_path / "gateway.toml", TEXT.encode()), Settings)
    assert tomllib.loads(EXAMPLE.read_text()) == example()
