"""Regular expressions in argument schemas: which ones bound a whole string, in linear time."""

import re
from typing import Final

import jsonschema_rs

OPTIONS: Final = jsonschema_rs.RegexOptions(size_limit=256 * 1024, dfa_size_limit=2 * 1024 * 1024)
"""The linear engine: no look-around and no back-references, so no input makes it slow (attack row 19)."""

_ESCAPED_OR_CLASS: Final = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]", re.DOTALL)
_QUANTIFIERS: Final = "*+?{"


def fault_of(pattern: str) -> str | None:
    """What is wrong with a pattern, or None: it must compile in the linear engine and match whole strings only."""
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=OPTIONS)
    except ValueError:
        return "does not compile in a linear engine (no look-around, no back-references, bounded size)"
    if "[]" in pattern or "[^]" in pattern:
        return "has a class that begins with a bracket, which engines read differently; escape it"
    # What is left are the operators: escapes and classes cannot anchor anything.
    operators = _ESCAPED_OR_CLASS.sub("x", pattern)
    if "(?" in operators.replace("(?:", "("):
        return "has flags or a named group; only plain and `(?:` groups are read the same everywhere"
    if not (operators.startswith("^") and operators.endswith("$")) or _alternates(operators):
        return "is not anchored: begin with ^, end with $, and put alternatives into a group"
    if operators[1:2] and operators[1] in _QUANTIFIERS:
        return "repeats its own anchor"
    return None


def _alternates(operators: str) -> bool:
    """Whether a `|` stands outside every group: then `^` and `$` bind to one alternative only."""
    depth = 0
    for character in operators:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "|" and depth == 0:
            return True
    return False
