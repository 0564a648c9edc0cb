"""The plain part of YAML that manifests need, read strictly: what two readers could read differently is refused.

Block mappings and lists, flow mappings and lists on one line, quoted and plain scalars, comments. No anchors, tags,
several documents or folded texts. The standard library has no YAML, and to see whether a value stands in quotes
is what the preflight is for.
"""

import json
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

Yaml: TypeAlias = "dict[str, Yaml] | list[Yaml] | str | int | bool | None"

_KEY: Final = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[A-Za-z0-9_][^\s:#,\[\]{}"']*)\s*:(?:\s+|$)""")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_PLAIN: Final = re.compile(r"""(?:[A-Za-z0-9_./$]|-(?! |$))[^'"]*""")
_DOUBTFUL: Final = re.compile(
    r"(?i:yes|no|on|off|y|n|true|false|null|~)"  # booleans and nothing to one reader, words to another
    r"|[-+.]?[0-9][0-9a-fA-F_,.:xXoOTtZz +-]*"  # numbers, times and dates to one, words to another
    r"|[-+]?\.(?i:inf|nan)"
)
_FLOW_END: Final = ",]}"


class YamlError(ValueError):
    """A text outside of the subset; says the line, and what to write."""


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    indent: int
    text: str


def read_yaml(text: str) -> Yaml:
    """The document's value. Raises YamlError."""
    lines = [line for number, raw in enumerate(text.split("\n"), 1) if (line := _line(number, raw)).text]
    if not lines:
        raise YamlError("the document is empty")
    try:
        value, rest = _block(lines, lines[0].indent)
    except RecursionError:
        raise YamlError("it is nested deeper than any manifest") from None
    if rest:
        raise _fault(rest[0], "it is indented less or more than what stands above it")
    return value


def _line(number: int, raw: str) -> _Line:
    text = raw.lstrip(" ")
    if not raw.isprintable():
        raise YamlError(f"line {number}: there is a tab or a character that cannot be seen: write spaces")
    if text.startswith(("---", "...", "%")):
        raise YamlError(f"line {number}: write one document, without markers")
    return _Line(number, len(raw) - len(text), _without_comment(text, number))


def _without_comment(text: str, number: int) -> str:
    """A text up to a # that begins a comment: one at the start or after a blank, and outside of quotes."""
    quote, previous = "", " "
    for place, character in enumerate(text):
        if quote:
            escaped = quote == '"' and previous == "\\"
            quote = "" if character == quote and not escaped else quote
            character = "" if escaped else character  # noqa: PLW2901 - an escaped backslash escapes nothing itself
        elif character == "#" and previous == " ":
            return text[:place].rstrip()
        elif character in "\"'" and previous in " [{,:":
            quote = character
        previous = character
    if quote:
        raise YamlError(f"line {number}: the quote is not closed on its line")
    return text.rstrip()


def _block(lines: list[_Line], indent: int) -> tuple[Yaml, list[_Line]]:
    """The value that begins with these lines at this indentation, and the lines behind it."""
    first = lines[0].text
    if first == "-" or first.startswith("- "):
        return _list(lines, indent)
    if _KEY.match(first) and first[0] not in "{[":
        return _mapping(lines, indent)
    return _inline(lines[0], first), lines[1:]


def _mapping(lines: list[_Line], indent: int) -> tuple[Yaml, list[_Line]]:
    found: dict[str, Yaml] = {}
    while lines and lines[0].indent == indent and not lines[0].text.startswith("- "):
        line = lines[0]
        match = _KEY.match(line.text)
        if match is None:
            raise _fault(line, "write KEY: VALUE")
        key = _word(line, match[1])
        if key in found:
            raise _fault(line, f"{key} stands there twice")
        found[key], lines = _valued(line, line.text[match.end() :], lines[1:], inside_list=False)
    return found, lines


def _list(lines: list[_Line], indent: int) -> tuple[Yaml, list[_Line]]:
    found: list[Yaml] = []
    while lines and lines[0].indent == indent and (lines[0].text + " ").startswith("- "):
        line = lines[0]
        rest = line.text[2:].lstrip(" ")
        if rest and _KEY.match(rest) and rest[0] not in "{[":
            inner = indent + len(line.text) - len(rest)
            member, lines = _mapping([_Line(line.number, inner, rest), *lines[1:]], inner)
        else:
            member, lines = _valued(line, rest, lines[1:], inside_list=True)
        found.append(member)
    return found, lines


def _valued(line: _Line, rest: str, behind: list[_Line], *, inside_list: bool) -> tuple[Yaml, list[_Line]]:
    """What stands behind a key or a dash: on the line, or below it."""
    if rest:
        return _inline(line, rest), behind
    below = behind[0] if behind else None
    if below is not None and below.indent > line.indent:
        return _block(behind, below.indent)
    if below is not None and not inside_list and below.indent == line.indent and below.text.startswith("- "):
        return _list(behind, below.indent)
    return None, behind


def _inline(line: _Line, text: str) -> Yaml:
    value, rest = _flow(line, text) if text[0] in "{[" else (_scalar(line, text), "")
    if rest.strip():
        raise _fault(line, f"{rest.strip()!r} stands behind the value")
    return value


def _flow(line: _Line, text: str) -> tuple[Yaml, str]:
    """A flow value at the start of a text, and the text behind it."""
    if text.startswith("{"):
        return _flow_mapping(line, text[1:].lstrip(" "))
    if text.startswith("["):
        return _flow_list(line, text[1:].lstrip(" "))
    if text[:1] in ('"', "'"):
        match = re.match(r""""(?:[^"\\]|\\.)*"|'(?:[^']|'')*'""", text)
        if match is None:
            raise _fault(line, "a quote is not closed")
        return _word(line, match[0]), text[match.end() :].lstrip(" ")
    end = next((place for place, character in enumerate(text) if character in "[{" + _FLOW_END), len(text))
    return _scalar(line, text[:end].rstrip(" ")), text[end:]


def _flow_mapping(line: _Line, text: str) -> tuple[Yaml, str]:
    found: dict[str, Yaml] = {}
    while not text.startswith("}"):
        match = _KEY.match(text)
        if match is None:
            raise _fault(line, "write {KEY: VALUE, ...} on one line")
        key = _word(line, match[1])
        if key in found:
            raise _fault(line, f"{key} stands there twice")
        found[key], text = _flow(line, text[match.end() :])
        text = _next(line, text, "}")
    return found, text[1:].lstrip(" ")


def _flow_list(line: _Line, text: str) -> tuple[Yaml, str]:
    found: list[Yaml] = []
    while not text.startswith("]"):
        member, text = _flow(line, text)
        found.append(member)
        text = _next(line, text, "]")
    return found, text[1:].lstrip(" ")


def _next(line: _Line, text: str, end: str) -> str:
    """The text behind a comma, or at the closing bracket."""
    if text.startswith(","):
        return text[1:].lstrip(" ")
    if not text.startswith(end):
        raise _fault(line, f"a {end} is missing: write it on the same line")
    return text


def _scalar(line: _Line, text: str) -> Yaml:
    if text[:1] in ('"', "'"):
        return _word(line, text)
    if text in ("true", "false"):
        return text == "true"
    if text == "null":
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DOUBTFUL.fullmatch(text):
        raise _fault(line, f"{text} means different things to different readers: put it in quotes")
    if not _PLAIN.fullmatch(text) or ": " in text or text.endswith(":"):
        raise _fault(line, f"{text!r} is no plain value: put it in quotes")
    return text


def _word(line: _Line, text: str) -> str:
    """A key or a quoted scalar."""
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            raise _fault(line, f"{text} is not written as JSON writes strings") from None
    if text.startswith("'"):
        if not re.fullmatch(r"'(?:[^']|'')*'", text):
            raise _fault(line, f"{text} is not closed, or goes on behind its quote")
        return text[1:-1].replace("''", "'")
    if _DOUBTFUL.fullmatch(text):
        raise _fault(line, f"{text} means different things to different readers: put it in quotes")
    return text


def _fault(line: _Line, what: str) -> YamlError:
    return YamlError(f"line {line.number}: {what}")
