"""The scopes of halt switches, and the form of what an operator gives as a reason."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

EVERYTHING: Final = "all"
KINDS: Final = ("tenant", "team", "agent", "tool", "model", "symbol", "venue")
REASON_LENGTH_MAX: Final = 500
NEAR_MAX: Final = 3
NEAR_ENOUGH: Final = 0.5
"""Of 1: how alike a name must be to be told; of a mistake in an emergency it is better to tell too many."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@-]{0,127}")


def scope_fault(scope: str) -> str:
    """What is wrong with the text of a scope; empty for nothing."""
    kind, _, name = scope.partition(":")
    if scope == EVERYTHING or (kind in KINDS and _NAME.fullmatch(name)):
        return ""
    return f"write {EVERYTHING}, or one of {', '.join(f'{kind}:NAME' for kind in KINDS)}"


def reason_fault(reason: str) -> str:
    """What is wrong with an operator's reason; empty for nothing. It is told to strangers, so it must be visible."""
    if reason.strip() and reason.isprintable() and len(reason) <= REASON_LENGTH_MAX:
        return ""
    return f"say why, in 1 to {REASON_LENGTH_MAX} visible characters on one line"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownScopes:
    """What this gateway's calls can be stopped by: a switch of any other scope would stop nothing."""

    names: Mapping[str, frozenset[str]]
    """Of each kind."""
    symbols: tuple[re.Pattern[str], ...] = ()
    """How symbols are written that are not among the names."""

    def knows(self, scope: str) -> bool:
        """Whether a call can be in this scope."""
        if scope == EVERYTHING:
            return True
        kind, _, name = scope.partition(":")
        return name in self.names.get(kind, ()) or (
            kind == "symbol" and any(form.fullmatch(name) for form in self.symbols)
        )

    def near(self, scope: str) -> tuple[str, ...]:
        """The known scopes that may have been meant, the likeliest first; at most three."""
        kind, _, name = scope.partition(":")
        found = dict.fromkeys((*self._elsewhere(kind, name), *self._spelled(kind, name)))
        return tuple(one for one in found if self.knows(one))[:NEAR_MAX]

    def _elsewhere(self, kind: str, name: str) -> Iterator[str]:
        """The same name, in other letters or of another kind."""
        if kind == "symbol":
            yield f"symbol:{name.upper()}"
        for other in (kind, *KINDS):
            yield from (f"{other}:{one}" for one in sorted(self.names.get(other, ())) if one.lower() == name.lower())

    def _spelled(self, kind: str, name: str) -> Iterator[str]:
        from difflib import get_close_matches  # noqa: PLC0415 - only a misspelled switch needs it

        known = {one.lower(): one for one in sorted(self.names.get(kind, ()))}
        yield from (f"{kind}:{known[one]}" for one in get_close_matches(name.lower(), known, NEAR_MAX, NEAR_ENOUGH))
