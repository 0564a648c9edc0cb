"""A writer of strings that match a regular expression of the plain kind that JSON Schemas carry.

Understood: literals, escapes, `.`, classes, groups, alternatives, and the quantifiers; anchors are taken as given.
Look-around, back references and flags are refused.
"""

import re
import string
from collections.abc import Callable
from random import Random

Writer = Callable[[Random], str]

DIGITS = string.digits
WORD = string.ascii_letters + string.digits + "_"
PRINTABLE = string.ascii_letters + string.digits + " _-.,:;!?+*/=()"
CLASSES = {"d": DIGITS, "w": WORD, "s": " ", "D": string.ascii_letters, "W": " -.", "S": WORD}
CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
# How many more than the least an open quantifier writes at most.
OPEN = 4
MAX_REPEAT = 1000


class PatternError(ValueError):
    """The pattern is malformed or of a kind that this writer does not understand."""


def writer(pattern: str) -> Writer:
    """A function that writes a matching string from a source of chance; PatternError where there is none."""
    parser = _Parser(pattern)
    written = parser.alternatives()
    if parser.place != len(pattern):
        raise PatternError(f"unexpected {pattern[parser.place]!r} at {parser.place}")
    try:
        compiled = re.compile(pattern)
    except re.error as fault:
        raise PatternError(str(fault)) from None

    def checked(chance: Random) -> str:
        value = written(chance)
        if not compiled.search(value):
            raise PatternError(f"no matching text found for {pattern!r}")
        return value

    return checked


class _Parser:
    """Recursive descent over the pattern; every rule returns a writer."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.place = 0

    def peek(self) -> str:
        return self.pattern[self.place : self.place + 1]

    def take(self) -> str:
        taken = self.peek()
        if not taken:
            raise PatternError("the pattern ends too early")
        self.place += 1
        return taken

    def alternatives(self) -> Writer:
        branches = [self.sequence()]
        while self.peek() == "|":
            self.place += 1
            branches.append(self.sequence())
        return branches[0] if len(branches) == 1 else lambda chance: chance.choice(branches)(chance)

    def sequence(self) -> Writer:
        pieces: list[Writer] = []
        while self.peek() not in ("", "|", ")"):
            atom = self.atom()
            pieces.append(self.repeated(atom))
        return lambda chance: "".join(piece(chance) for piece in pieces)

    def atom(self) -> Writer:
        taken = self.take()
        if taken == "(":
            return self.group()
        if taken == "[":
            return _one_of(self.members())
        if taken == "\\":
            return self.escape()
        if taken == ".":
            return _one_of(PRINTABLE)
        if taken in "^$":
            return lambda _: ""
        if taken in "*+?{":
            raise PatternError(f"nothing to repeat at {self.place - 1}")
        return lambda _: taken

    def group(self) -> Writer:
        if self.peek() == "?":
            if not self.pattern.startswith("?:", self.place):
                raise PatternError("look-around, named groups and flags are not supported")
            self.place += 2
        inner = self.alternatives()
        if self.take() != ")":
            raise PatternError("a group is not closed")
        return inner

    def escape(self) -> Writer:
        taken = self.take()
        if taken in CLASSES:
            return _one_of(CLASSES[taken])
        if taken in "bBAZ":
            return lambda _: ""
        if taken.isdigit() or (taken.isalpha() and taken not in CONTROLS):
            raise PatternError(f"the escape \\{taken} is not supported")
        literal = CONTROLS.get(taken, taken)
        return lambda _: literal

    def members(self) -> str:
        negated = self.peek() == "^"
        self.place += negated
        found = ""
        while self.peek() != "]" or not found:
            first = self.member()
            if self.peek() == "-" and self.pattern[self.place + 1 : self.place + 2] not in ("", "]"):
                self.place += 1
                last = self.member()
                if len(first) != 1 or len(last) != 1 or first > last:
                    raise PatternError("a bad range in a class")
                first = "".join(map(chr, range(ord(first), min(ord(last), ord(first) + 255) + 1)))
            found += first
        self.place += 1
        return "".join(letter for letter in PRINTABLE if letter not in found) if negated else found

    def member(self) -> str:
        taken = self.take()
        if taken != "\\":
            return taken
        escaped = self.take()
        return CLASSES.get(escaped, CONTROLS.get(escaped, escaped))

    def repeated(self, atom: Writer) -> Writer:
        least, most = self.bounds()
        if (least, most) == (1, 1):
            return atom
        return lambda chance: "".join(atom(chance) for _ in range(chance.randint(least, most)))

    def bounds(self) -> tuple[int, int]:
        found = re.compile(r"(?:([*+?])|\{(\d*)(,?)(\d*)\})[?+]?").match(self.pattern, self.place)
        if found is None:
            return 1, 1
        self.place = found.end()
        if found[1]:
            return {"*": (0, OPEN), "+": (1, 1 + OPEN), "?": (0, 1)}[found[1]]
        least = int(found[2] or 0)
        most = int(found[4]) if found[4] else (least + OPEN if found[3] else least)
        if not least <= most <= MAX_REPEAT:
            raise PatternError(f"a repeat of {least} to {most} is out of bounds")
        return least, most


def _one_of(letters: str) -> Writer:
    if not letters:
        raise PatternError("a class matches nothing")
    return lambda chance: chance.choice(letters)
