"""The scopes of halt switches, and the form of what an operator gives as a reason."""

import re
from typing import Final

EVERYTHING: Final = "all"
KINDS: Final = ("tenant", "team", "agent", "tool", "model", "symbol", "venue")
REASON_LENGTH_MAX: Final = 500

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
