"""The transparent rule by which the model decides to call functions: a small grammar over the user's text.

    call place_order {"symbol": "AAPL", "qty": "5"}     exactly this call, of a declared function
    buy 5 AAPL            sell 2 MSFT at 410.50         a function that places orders
    cancel order ID       status of order ID            a function that cancels, or reads, an order
    my orders             list orders                   a function that lists orders
    what is my position in AAPL        my positions     a function that reads positions
    quote for AAPL        price of AAPL                 a function that reads quotes
    account / balance / buying power                    a function that reads the account
    is the market open    market clock                  a function that reads the clock

Phrases may stand anywhere in a sentence. Several of them are parallel calls; `then` in front of one starts the next
step, which is called when the results of the step before are there. Only declared functions are ever called: a phrase
for which none is declared is plain text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from localcloud.vertex.arguments import fill
from localcloud.vertex.intents import Intent, function_for
from localcloud.vertex.jsontypes import JsonObject
from localcloud.vertex.prompt import Call, Function

EXPLICIT = re.compile(r"\bcall\s+([A-Za-z_][A-Za-z0-9_.:-]*)[ \t]*", re.IGNORECASE)
THEN = re.compile(r"\bthen\b", re.IGNORECASE)
SYMBOL = r"([A-Z]{1,10}(?:[./][A-Z]{1,10})?)\b"
NUMBER = r"(\d{1,15}(?:\.\d{1,12})?)"
# An identifier holds a digit, which "cancel order soon" does not.
ORDER_ID = r"(?=[A-Za-z_-]*\d)([A-Za-z0-9][A-Za-z0-9_-]{0,127})"
SIDE = r"\b((?i:buy|sell))"
AT = rf"(?:\s+(?i:at|@|limit)\s+\$?{NUMBER})?"

PHRASES: tuple[tuple[Intent, re.Pattern[str], tuple[str, ...]], ...] = (
    (
        Intent.TRADE,
        re.compile(rf"{SIDE}\s+{NUMBER}\s+(?:shares?\s+of\s+)?{SYMBOL}{AT}"),
        ("side", "quantity", "symbol", "price"),
    ),
    (Intent.CANCEL, re.compile(rf"(?i:\bcancel\s+(?:the\s+|my\s+)?order)\s+{ORDER_ID}"), ("order",)),
    (
        Intent.ORDER,
        re.compile(rf"(?i:\b(?:status\s+of|look\s+up|show|get)\s+(?:the\s+|my\s+)?order)\s+{ORDER_ID}"),
        ("order",),
    ),
    (Intent.ORDERS, re.compile(r"(?i:\b(?:my|our|all|open|list|show)\s+orders\b)()"), ("nothing",)),
    (Intent.POSITION, re.compile(rf"(?i:\bposition\s+(?:in|of|for))\s+{SYMBOL}"), ("symbol",)),
    (
        Intent.POSITION,
        re.compile(r"(?i:\b(?:my|our|all|open|list|show)\s+positions?\b)(?!\s+(?i:in|of|for)\s)()"),
        ("nothing",),
    ),
    (Intent.QUOTE, re.compile(rf"(?i:\b(?:quote|price)\s+(?:for|of))\s+{SYMBOL}"), ("symbol",)),
    (
        Intent.ACCOUNT,
        re.compile(r"(?i:\bmy\s+(?:account|balance|cash)\b|\bbuying\s+power\b|\baccount\s+balance\b)()"),
        ("nothing",),
    ),
    (Intent.CLOCK, re.compile(r"(?i:\bis\s+the\s+market\s+open\b|\bmarket\s+clock\b)()"), ("nothing",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A call line whose arguments are not a JSON object: what a real model now and then produces."""

    name: str
    text: str


Step = tuple[Call | Malformed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One thing found in the text, with its place."""

    start: int
    call: Call | Malformed


def steps(text: str, functions: tuple[Function, ...]) -> tuple[Step, ...]:
    """The calls that the text asks for, step by step, each step's in the order of the text."""
    if not functions:
        return ()
    explicit, rest = _explicit(text, functions)
    found = sorted([*explicit, *_phrases(rest, functions)], key=lambda item: item.start)
    breaks = [match.start() for match in THEN.finditer(rest)]
    grouped: dict[int, list[Call | Malformed]] = {}
    for item in found:
        grouped.setdefault(sum(place < item.start for place in breaks), []).append(item.call)
    return tuple(tuple(calls) for _, calls in sorted(grouped.items()))


def _explicit(text: str, functions: tuple[Function, ...]) -> tuple[list[_Found], str]:
    """The call lines, and the text with them blanked out, so that no phrase is read inside their arguments."""
    names = {function.name for function in functions}
    found: list[_Found] = []
    place = 0
    while match := EXPLICIT.search(text, place):
        place = match.end()
        name = match[1].rstrip(".:")
        if name not in names:
            continue
        call, place = _arguments(name, text, place)
        found.append(_Found(start=match.start(), call=call))
        text = text[: match.start()] + " " * (place - match.start()) + text[place:]
    return found, text


def _arguments(name: str, text: str, place: int) -> tuple[Call | Malformed, int]:
    """The call and where it ends; the arguments are the rest of the line up to the end of its JSON object."""
    end = text.find("\n", place)
    line = text[place:] if end < 0 else text[place:end]
    if not line.startswith("{"):
        return Call(name=name, arguments={}), place
    for stop in _object_ends(line):
        try:
            arguments: JsonObject = msgspec.json.decode(line[:stop], type=dict[str, object])
        except msgspec.DecodeError:
            break
        return Call(name=name, arguments=arguments), place + stop
    return Malformed(name=name, text=line), place + len(line)


def _object_ends(line: str) -> Iterator[int]:
    """Where the object that the line begins with ends, if it does."""
    depth, quoted, escaped = 0, False, False
    for place, letter in enumerate(line):
        if quoted:
            quoted = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            quoted = True
        elif letter in "{}":
            depth += 1 if letter == "{" else -1
            if depth == 0:
                yield place + 1
                return


def _phrases(text: str, functions: tuple[Function, ...]) -> Iterator[_Found]:
    for intent, pattern, concepts in PHRASES:
        for match in pattern.finditer(text):
            values = {concept: value for concept, value in zip(concepts, match.groups(), strict=True) if value}
            function = function_for(intent, functions, values)
            if function is not None:
                yield _Found(
                    start=match.start(), call=Call(name=function.name, arguments=fill(function.schema, values))
                )
