"""The prose of the model: an endless tape of plain sentences, made once from a seed and read from any sentence on.

Reading a tape is cheap (no chance is drawn per answer), and any stretch of it counts exactly as many tokens as were
read, because the tape is cut by the very tokenizer that counts.
"""

import re
from random import Random

from localcloud.vertex.tokens import split

SENTENCES = 600
BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")
FORMS = (
    "The {a} {n} {v} the {n}",
    "A {n} {v} every {a} {n}",
    "{P}, the {n} {v} a {a} {n}",
    "No {n} {v} the {n} without a {a} {n}",
    "When the {n} {v} the {n}, a {a} {n} follows",
    "Each {n} and its {n} stay {a}",
)
WORDS = {
    "a": ("careful", "open", "final", "early", "quiet", "narrow", "steady", "exact", "known", "small", "bounded"),
    "n": ("ledger", "market", "order", "gateway", "record", "window", "budget", "trader", "signal", "limit", "account"),
    "v": ("follows", "records", "weighs", "measures", "closes", "names", "carries", "settles", "checks", "answers"),
    "P": ("Today", "At noon", "In short", "For now", "As before", "In practice", "After that"),
}


class Tape:
    """Tokens of generated prose, read in a circle."""

    __slots__ = ("_starts", "_tokens")

    def __init__(self, seed: int) -> None:
        """Write the tape; the same seed writes the same one."""
        chance = Random(seed)  # noqa: S311 - reproducible, not secret
        self._tokens: list[str] = []
        self._starts: list[int] = []
        for _ in range(SENTENCES):
            self._starts.append(len(self._tokens))
            self._tokens += split(f" {_sentence(chance)}.")

    def read(self, position: int, count: int) -> list[str]:
        """`count` tokens from a sentence chosen by `position` on; the first loses its space."""
        start = self._starts[position % len(self._starts)]
        tokens = self._tokens[start : start + count]
        while len(tokens) < count:
            tokens += self._tokens[: count - len(tokens)]
        return [tokens[0].lstrip(" "), *tokens[1:]] if tokens else []

    def read_sentences(self, position: int, count: int) -> list[str]:
        """Whole sentences, `count` of them, from a sentence chosen by `position` on."""
        first = position % len(self._starts)
        last = first + count
        end = self._starts[last] if last < len(self._starts) else len(self._tokens)
        return self.read(first, end - self._starts[first])


def _sentence(chance: Random) -> str:
    form = chance.choice(FORMS)
    while "{" in form:
        slot = form[form.index("{") + 1]
        form = form.replace(f"{{{slot}}}", chance.choice(WORDS[slot]), 1)
    return BEFORE_VOWEL.sub(r"\1n ", form)
