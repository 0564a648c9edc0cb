"""Directives: lines at the beginning of the user's text that start with `@` and steer one answer.

    @pace deltas=64 interval_ms=20 size=5 first_ms=0   prose of so many chunks of so many tokens
    @finish reason=SAFETY after=12                     end with this finish reason, after so many tokens of text
    @block reason=PROHIBITED_CONTENT                   refuse the prompt: a block reason and no candidate
    @echo                                              answer with the text that follows the directives

What is not prose (an echo, JSON, a summary of results) has its own length and takes size and timing only. Thoughts
come in chunks of their own before the text, and the output limit cuts a paced answer as it cuts every other.
Directives count as prompt text like every other line. A known word with a wrong parameter is refused with 400; any
other line that starts with `@` is plain text. `@pace` holds for the following rounds of function calls too, the others
only while the user's text is in the last turn.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from localcloud.vertex.config import Pace
from localcloud.vertex.errors import invalid

LINE = re.compile(r"@(pace|finish|block|echo)\b[ \t]*(.*)")
REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
MAX_DELTAS = 100_000
MAX_SIZE = 10_000
MAX_MS = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """What the directives of a text say; `text` is what follows them."""

    pace: Pace
    text: str
    finish: str = ""
    finish_after: int | None = None
    block: str = ""
    echo: bool = False


def read_directives(text: str, pace: Pace) -> Directives:
    """Take the leading directive lines off the text; `pace` is the server's own, which `@pace` overrides in part."""
    found = Directives(pace=pace, text=text)
    while line := LINE.match(found.text):
        rest = found.text[line.end() :].removeprefix("\r").removeprefix("\n")
        found = READERS[line[1]](replace(found, text=rest), _pairs(line[1], line[2]))
    return found


def _pairs(word: str, text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in text.split():
        name, equals, value = item.partition("=")
        if not equals or name in pairs:
            raise invalid(f"Directive @{word}: {item!r} is not a single name=value pair.")
        pairs[name] = value
    return pairs


def _number(word: str, pairs: dict[str, str], name: str, most: int, default: int) -> int:
    value = pairs.pop(name, None)
    if value is None:
        return default
    if not (value.isascii() and value.isdecimal()) or int(value[:12]) > most:
        raise invalid(f"Directive @{word}: {name} must be an integer from 0 to {most}, got {value!r}.")
    return int(value)


def _reason(word: str, pairs: dict[str, str]) -> str:
    reason = pairs.pop("reason", "")
    if not REASON.fullmatch(reason):
        raise invalid(f"Directive @{word}: reason must be an upper-case word such as SAFETY, got {reason!r}.")
    return reason


def _nothing_left(word: str, pairs: dict[str, str]) -> None:
    if pairs:
        raise invalid(f"Directive @{word}: unknown parameter {next(iter(pairs))!r}.")


def _pace(found: Directives, pairs: dict[str, str]) -> Directives:
    pace = Pace(
        deltas=_number("pace", pairs, "deltas", MAX_DELTAS, found.pace.deltas),
        interval_ms=_number("pace", pairs, "interval_ms", MAX_MS, found.pace.interval_ms),
        first_ms=_number("pace", pairs, "first_ms", MAX_MS, found.pace.first_ms),
        size=max(1, _number("pace", pairs, "size", MAX_SIZE, found.pace.size)),
    )
    _nothing_left("pace", pairs)
    return replace(found, pace=pace)


def _finish(found: Directives, pairs: dict[str, str]) -> Directives:
    reason = _reason("finish", pairs)
    after = _number("finish", pairs, "after", MAX_SIZE, -1)
    _nothing_left("finish", pairs)
    return replace(found, finish=reason, finish_after=None if after < 0 else after)


def _block(found: Directives, pairs: dict[str, str]) -> Directives:
    reason = _reason("block", pairs)
    _nothing_left("block", pairs)
    return replace(found, block=reason)


def _echo(found: Directives, pairs: dict[str, str]) -> Directives:
    _nothing_left("echo", pairs)
    return replace(found, echo=True)


READERS: dict[str, Callable[[Directives, dict[str, str]], Directives]] = {
    "pace": _pace,
    "finish": _finish,
    "block": _block,
    "echo": _echo,
}
