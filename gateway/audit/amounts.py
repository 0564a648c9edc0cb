"""What records say of amounts: what an operation holds in each scope and window, and what was charged in its place.

An intent tells every amount that is held (`claims`); an ending tells charges by unit, and each of them takes the place
of what is held of its unit in every scope and window. A unit without a charge is charged as held where the effect
happened, or where nobody is left to say what it cost, and not at all where it did not. What an order did to the lots of
its scopes depends on what they were then, so the ledger tells it for each of these holds (`booked`). So the records
alone say what every row of the ledger's `holds` and `balances` must be.
"""

from typing import Final, NamedTuple

import msgspec

from gateway.audit.contents import Contents
from gateway.terms.money import LONG_MAX

Place = tuple[str, str, str]
"""Scope, unit and window of a balance."""


class Sum(NamedTuple):
    """What a balance is."""

    held: int
    spent: int


class Hold(NamedTuple):
    """What an operation holds of one balance, or what was charged for it."""

    state: str
    """held: it runs. kept: it is unknown. settled: `charged` took the place of the amount. released: nothing did."""
    amount: int
    charged: int

    @property
    def adds(self) -> Sum:
        """What it adds to its balance."""
        return Sum(self.amount, 0) if self.state in {"held", "kept"} else Sum(0, self.charged)


class Told(NamedTuple):
    """The amounts of one operation, in the words of its records; None for what they do not tell."""

    state: str
    claims: bytes | None
    charges: bytes | None
    booked: bytes | None
    as_held: bool
    """A unit without a charge is charged as held."""


class _Claim(msgspec.Struct):
    scope: str
    unit: str
    window: str
    amount: int


class _Booked(msgspec.Struct):
    scope: str
    unit: str
    window: str
    charged: int


_CLAIMS: Final = msgspec.json.Decoder(list[_Claim])
_CHARGES: Final = msgspec.json.Decoder(dict[str, int])
_BOOKED: Final = msgspec.json.Decoder(list[_Booked])

_RUNNING: Final = {"dispatched": "held", "unknown": "kept"}


def held_in(intent: Contents) -> bytes | None:
    """What an intent says of amounts."""
    return bytes(intent.claims) or None


def charged_in(ending: Contents) -> tuple[bytes | None, bytes | None, bool]:
    """What an ending says of them, of units and of single holds, and whether what it does not say is charged as held.

    The record of a loss has no charges: with nobody left to say what was used, everything held is charged.
    """
    if ending.kind == "lost":
        return b"{}", None, True
    # What was followed to a failure stays a success to its caller; it is charged as the failure that it was.
    happened = ending.state == "succeeded" and not ending.failure
    return bytes(ending.charges) or None, bytes(ending.booked) or None, happened


def holds_of(told: Told) -> dict[Place, Hold] | None:
    """The rows of `holds` that the records of an operation call for; None where they do not tell them."""
    if told.claims is None:
        return None
    try:
        claims = _CLAIMS.decode(told.claims)
        running = _RUNNING.get(told.state)
        if running is not None:
            holds = {_place(claim): Hold(running, claim.amount, 0) for claim in claims}
        elif told.charges is not None:
            charges, booked = _CHARGES.decode(told.charges), _booked(told.booked)
            if not booked.keys() <= set(map(_place, claims)):
                return None
            holds = {_place(claim): _charged(claim, charges, booked, as_held=told.as_held) for claim in claims}
        else:
            return None
    except ValueError:
        return None
    return holds if len(holds) == len(claims) and all(map(_possible, holds.values())) else None


def _place(claim: _Claim) -> Place:
    return claim.scope, claim.unit, claim.window


def _booked(told: bytes | None) -> dict[Place, int]:
    return {} if told is None else {(one.scope, one.unit, one.window): one.charged for one in _BOOKED.decode(told)}


def _charged(claim: _Claim, charges: dict[str, int], booked: dict[Place, int], *, as_held: bool) -> Hold:
    charged = booked.get(_place(claim), charges.get(claim.unit, claim.amount if as_held else 0))
    return Hold("settled" if charged else "released", claim.amount, charged)


def _possible(hold: Hold) -> bool:
    return 0 <= hold.amount <= LONG_MAX and abs(hold.charged) <= LONG_MAX
