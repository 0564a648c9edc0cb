"""The tokenizer loses nothing, and what is read off the tape counts as many tokens as were asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.vertex.prose import Tape
from localcloud.vertex.tokens import count, split

TAPE = Tape(7)


@given(st.text())
def test_joined_tokens_are_the_text(text):
    assert "".join(split(text)) == text
    assert count(text) == len(split(text))


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("", []),
        ("Buy 5 AAPL.", ["Buy", " 5", " AAPL", "."]),
        ("deterministic", ["determ", "inisti", "c"]),
        ("a\n\nb", ["a", "\n\n", "b"]),
        ("日本語", ["日本", "語"]),
        ('{"a":1}', ["{", '"', "a", '"', ":", "1", "}"]),
    ],
)
def test_the_cuts(text, tokens):
    assert split(text) == tokens


@given(st.integers(min_value=0, max_value=2**64), st.integers(min_value=0, max_value=3000))
def test_the_tape_counts_what_it_gives(position, wanted):
    tokens = TAPE.read(position, wanted)
    assert len(tokens) == wanted
    assert split("".join(tokens)) == tokens


def test_the_tape_goes_round():
    everything = TAPE.read_sentences(0, 10_000)
    assert len(TAPE.read(0, 5 * len(everything))) == 5 * len(everything)


@given(st.integers(min_value=0, max_value=10_000), st.integers(min_value=1, max_value=9))
def test_sentences_are_whole(position, wanted):
    text = "".join(TAPE.read_sentences(position, wanted))
    assert text.endswith(".")
    assert text[0].isupper()


def test_the_seed_makes_the_tape():
    assert Tape(1).read(0, 500) == Tape(1).read(0, 500)
    assert Tape(1).read(0, 500) != Tape(2).read(0, 500)


def test_articles_agree_with_their_nouns():
    text = "".join(TAPE.read_sentences(0, 600))
    assert " a early" not in text
    assert " an early" in text
