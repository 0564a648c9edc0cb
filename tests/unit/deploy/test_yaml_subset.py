"""The strict reader of manifests: what it takes it reads as PyYAML does, and everything doubtful it refuses."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.yaml_subset import YamlError, read_yaml

ROOT = Path(__file__).parents[3]

TAKEN = [
    "a: 1\nb: two\nc:\n  - x\n  - v: 1\n    z: 2\n  -\n    w: 3\n",
    "a:\n- 1\n- [2, {b: 3, c: []}]\n- {}\n",
    "a: {b: 'it''s', c: \"q\\n\\u00e9\", d: x y}  # why\n# more\n\ne: a#b\nf: 'a # b'\n",
    "a:\nb: null\nc: true\nd: -7\ne: 512Mi\nf: https://x.y/z:8080\n",
    '"quoted key": 1\nsome.key/with-dash: "1"\n',
    "- a\n- b: 1\n",
    "a: b#c\nd: x-y_z.9/q@sha256\n",
    "plain\n",
]


@pytest.mark.parametrize("text", TAKEN)
def test_it_reads_as_another_reader_does(text):
    assert read_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("path", ["service.yaml", "deploy/agent.yaml"])
def test_it_reads_the_shipped_manifests_as_another_reader_does(path):
    text = (ROOT / path).read_text().replace("${TRAFFIC}", "[{latestRevision: true, percent: 100}]")
    for name in ("PROJECT", "IMAGE", "GATEWAY_URL"):
        text = text.replace(f"${{{name}}}", "value")
    assert read_yaml(text) == yaml.safe_load(text)


REFUSED = [
    ("", "empty"),
    ("a: 1\na: 2\n", "line 2: a stands there twice"),
    ("a: {b: 1, b: 2}\n", "twice"),
    ("a: yes\n", "put it in quotes"),
    ("a: Off\n", "put it in quotes"),
    ("on: 1\n", "put it in quotes"),
    ("8080: x\n", "put it in quotes"),
    ("a: 010\n", "put it in quotes"),
    ("a: 1.5\n", "put it in quotes"),
    ("a: 1e3\n", "put it in quotes"),
    ("a: 0x1F\n", "put it in quotes"),
    ("a: 1_000\n", "put it in quotes"),
    ("a: 2026-11-23\n", "put it in quotes"),
    ("a: 12:30\n", "put it in quotes"),
    ("a: True\n", "put it in quotes"),
    ("a: ~\n", "put it in quotes"),
    ("a: b'c\n", "no plain value"),
    ("- - a\n", "no plain value"),
    ("a: - b\n", "no plain value"),
    ("a: b\u2028c\n", "cannot be seen"),
    ("a: b\r\n", "cannot be seen"),
    ("a: &x 1\n", "no plain value"),
    ("a: *x\n", "no plain value"),
    ("a: !!str 1\n", "no plain value"),
    ("a: |\n  text\n", "no plain value"),
    ("a: >-\n  text\n", "no plain value"),
    ("a: b: c\n", "no plain value"),
    ("a: {b: 1\n", "a } is missing"),
    ("a: [1, 2\n", "a ] is missing"),
    ("a: [1] 2\n", "stands behind the value"),
    ('a: "x\n', "quote is not closed"),
    ("a: 'x' y\n", "goes on behind its quote"),
    ('a: "\\q"\n', "as JSON writes strings"),
    ("a:\n\tb: 1\n", "tab"),
    ("---\na: 1\n", "one document"),
    ("a: 1\n  b: 2\n", "indented"),
    ("a:\n  b: 1\n c: 2\n", "indented"),
    ("a: 1\nb\n", "KEY: VALUE"),
    ("a: " + "[" * 3000 + "]" * 3000 + "\n", "nested deeper"),
]


@pytest.mark.parametrize("text, said", REFUSED)
def test_it_refuses_what_others_may_read_differently(text, said):
    with pytest.raises(YamlError) as refused:
        read_yaml(text)
    assert said in str(refused.value)


PIECES = st.sampled_from(
    [
        *("a", "b: ", "c:", "1", "-7", "true", "'x'", '"y"', "it's", "{", "}", "[", "]", ",", ": ", "- ", "\n", "\n  "),
        *(" #", "x y", "512Mi", "h://x:80", "'", '"', "\\", "-", "é", "$x", "&", "*", "!", "<<", "0", "00", "1:2"),
        *("yes", "---"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_whatever_it_takes_another_reader_reads_alike(text):
    try:
        value = read_yaml(text)
    except YamlError:
        return
    assert value == yaml.safe_load(text)
