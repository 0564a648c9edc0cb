"""What a user can want of an exchange, and which declared function does it, told from the words of its name."""

import enum
import re
from collections.abc import Mapping

from localcloud.vertex.arguments import takes
from localcloud.vertex.prompt import Function

WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


class Intent(enum.Enum):
    """The wishes that the grammar knows."""

    TRADE = "trade"
    CANCEL = "cancel"
    ORDER = "order"
    ORDERS = "orders"
    POSITION = "position"
    QUOTE = "quote"
    ACCOUNT = "account"
    CLOCK = "clock"


# A function fits if its name holds a word of every group and none of the excluded ones.
GROUPS: dict[Intent, tuple[frozenset[str], ...]] = {
    Intent.TRADE: (
        frozenset({"order", "trade", "orders"}),
        frozenset({"place", "submit", "create", "new", "send", "trade", "enter", "buy", "sell"}),
    ),
    Intent.CANCEL: (frozenset({"cancel"}), frozenset({"order", "orders"})),
    Intent.ORDER: (frozenset({"order"}), frozenset({"get", "read", "show", "status", "lookup", "find"})),
    Intent.ORDERS: (frozenset({"orders"}), frozenset({"list", "get", "read", "show", "open", "find"})),
    Intent.POSITION: (frozenset({"position", "positions", "holdings", "portfolio"}),),
    Intent.QUOTE: (frozenset({"quote", "quotes", "price", "prices", "ticker"}),),
    Intent.ACCOUNT: (frozenset({"account", "balance", "balances"}),),
    Intent.CLOCK: (frozenset({"clock"}),),
}
EXCLUDED: dict[Intent, frozenset[str]] = {
    Intent.TRADE: frozenset({"cancel", "get", "list"}),
    Intent.ORDERS: frozenset({"cancel"}),
    Intent.POSITION: frozenset({"close", "liquidate"}),
}


def function_for(intent: Intent, functions: tuple[Function, ...], values: Mapping[str, str]) -> Function | None:
    """The declared function that fits best: one that takes as many of the wish's values as possible, then the first."""
    fitting = [function for function in functions if _fits(function.name, intent)]
    if not fitting:
        return None
    known = len({concept for concept in values if concept != "nothing"})
    return min(fitting, key=lambda function: abs(takes(function.schema, values) - known))


def _fits(name: str, intent: Intent) -> bool:
    words = {word.lower() for word in WORD.findall(name)}
    if words & EXCLUDED.get(intent, frozenset()):
        return False
    return all(words & group for group in GROUPS[intent])
