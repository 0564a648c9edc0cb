"""Amounts: integers in declared units, read from decimal strings, never floats.

A quantity of shares or coins is counted in billionths (`NANO`), a price or a sum of US dollars in millionths
(`MICRO`). Cedar's Long and SQLite's INTEGER hold 64 bits: 9.2 thousand million units or 9.2 million million dollars.
"""

import re
from enum import StrEnum
from typing import Final, NewType

MicroUsd = NewType("MicroUsd", int)
"""Millionths of a US dollar."""

NanoUnits = NewType("NanoUnits", int)
"""Billionths of a share or coin."""

Tokens = NewType("Tokens", int)

MICRO: Final = 1_000_000
NANO: Final = 1_000_000_000
LONG_MAX: Final = 2**63 - 1

_DECIMAL: Final = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,18}))?")


class Unit(StrEnum):
    """What budgets and exposures are counted in."""

    TOKENS = "tokens"
    COST = "cost_micro_usd"
    CALLS = "calls"
    NOTIONAL = "notional_micro_usd"
    EXPOSURE = "exposure_micro_usd"
    POSITION = "position_nano"
    """Billionths of a share or coin of one symbol."""
    TRADED = "traded_nano"
    """Of one symbol and side, since the ledger began: what was filled, and all that is open or unknown."""
    FILLED = "filled_nano"
    """Of one symbol and side, since the ledger began: what is known to be filled. `TRADED` less this is open."""
    PAID = "paid_micro_usd"
    """What was paid for what an order that opens had filled; it counts it for itself (`OWN`)."""
    OPEN = "open_micro_usd"
    """What the open rest of an order that opens may cost; it counts it for itself (`OWN`)."""
    BOOK = "book_micro_usd"
    """Of one symbol at one account: what the position of a scope cost, at average cost. With what the open rest of its
    orders may cost, the sum of it is exposure."""


SIGNED: Final = frozenset({Unit.EXPOSURE, Unit.POSITION})
"""What can be given back: it may be charged negatively, and a claim of 0 of it never meets its limit."""

BOUGHT: Final = "bought"
SOLD: Final = "sold"
"""The windows in which an order counts what it came to itself, for the ledger's lots."""

OWN: Final = frozenset({BOUGHT, SOLD})
"""What an operation holds in these windows is its own memory: no balance adds it up, and no limit bounds it."""


def scaled(text: str, scale: int) -> int:
    """Read a non-negative decimal string as an integer number of 1/`scale`.

    Raises ValueError for anything but plain ASCII digits with at most one point: no sign, no exponent, no leading
    zero, no surrounding space (attack row 13), and for digits finer than the scale: amounts are never rounded.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError("write a plain decimal such as 12.5: no sign, exponent, space or leading zero")
    whole, fraction = match.group(1), match.group(2) or ""
    digits = len(str(scale)) - 1
    if fraction[digits:].strip("0"):
        raise ValueError(f"at most {digits} digits after the point")
    value = int(whole) * scale + int(fraction[:digits].ljust(digits, "0") or "0")
    if value > LONG_MAX:
        raise ValueError("too large")
    return value


def written(value: int, scale: int) -> str:
    """Write an integer number of 1/`scale` as the shortest decimal string; the inverse of `scaled`."""
    digits = len(str(scale)) - 1
    sign = "-" if value < 0 else ""
    whole, fraction = divmod(abs(value), scale)
    tail = str(fraction).rjust(digits, "0").rstrip("0") if fraction else ""
    return f"{sign}{whole}.{tail}" if tail else f"{sign}{whole}"


def notional(quantity: NanoUnits, price: MicroUsd) -> MicroUsd:
    """Quantity times price, rounded up: a limit is never passed by rounding."""
    return MicroUsd(-(-(quantity * price) // NANO))
