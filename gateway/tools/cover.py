"""What covers an order: the account's position at the venue, and what of ours may still change it.

A venue that permits short sales refuses none, so whether a sale closes a position or opens a short is decided here, and
kept true in the ledger (governance study, table 5.3: every sent order counts at once). For each symbol and side the
ledger counts all that was traded with what is open (`TRADED`), and what is known to be filled (`FILLED`). `FILLED` is
read before the venue is asked for the position: what was filled before is in the position, what is filled later is in
`TRADED` until the commit. So a claim of `TRADED` up to position plus `FILLED` lets pass exactly what is covered,
whatever races with it, ends meanwhile, or is unknown.

So many sales may share one request for the position, if it is sent after each of them has read the ledger: a request
that was under way by then may tell of a position before fills that `FILLED` already counts.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec

from gateway.terms.evidence import Facts
from gateway.terms.limits import LimitProfile
from gateway.terms.money import LONG_MAX, NANO, Unit
from gateway.terms.operations import Counted, Tally
from gateway.terms.verdict import Refusal
from gateway.tools import pretrade
from gateway.tools.pretrade import Side

_PREFIX: Final = "cover."
"""Facts for the limits and the record; the rules see `reduces_exposure`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPosition:
    """Nobody knows the position, and why, in words that end a sentence."""

    why: str


Position = Callable[[str], Awaitable[Decimal | NoPosition]]
"""What the venue says, asked after the call, that the account's position in a symbol is: below zero for one that is
short, 0 for none."""


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where the ledger counts what is traded of one symbol."""

    agent: str
    account: str
    firm: str

    @classmethod
    def of(cls, scopes: tuple[str, str, str], symbol: str) -> "Places":
        """The places of a symbol in the scopes of firm, account and agent."""
        firm, account, agent = (f"{scope}/{symbol}" for scope in scopes)
        return cls(agent=agent, account=account, firm=firm)


class Cover(msgspec.Struct, frozen=True, kw_only=True):
    """What an order of one side can close, in billionths; as facts, so that it is on record with the order."""

    position: int
    """Of the account at the venue, counted the way that this side closes: what is long for a sale, short for a
    purchase; below zero where the order could only enlarge it."""
    traded: int
    """Of this side by the account, as the ledger knew it before the venue was asked."""
    filled: int
    """The same of what is filled."""
    agent_offset: int
    """What this agent is known to have filled of the other side."""
    firm_offset: int

    @property
    def free(self) -> int:
        """What an order can close beside all that is open or unknown."""
        return self.position - (self.traded - self.filled)

    @property
    def limit(self) -> int:
        """Of `TRADED`, with what closes; opening may go beyond it."""
        return self.position + self.filled

    def facts(self) -> Facts:
        """As facts."""
        return {
            f"{_PREFIX}position_nano": self.position,
            f"{_PREFIX}traded_nano": self.traded,
            f"{_PREFIX}filled_nano": self.filled,
            f"{_PREFIX}agent_offset_nano": self.agent_offset,
            f"{_PREFIX}firm_offset_nano": self.firm_offset,
        }

    @classmethod
    def of(cls, facts: Facts) -> "Cover | None":
        """The cover that is in these facts; None where none is."""
        names = ("position", "traded", "filled", "agent_offset", "firm_offset")
        found = {name: facts.get(f"{_PREFIX}{name}_nano") for name in names}
        told = {name: value for name, value in found.items() if type(value) is int}
        return cls(**told) if len(told) == len(names) else None


def needed(limits: LimitProfile, side: Side) -> bool:
    """Whether what covers an order must be known: without short sales there is nothing that a purchase could close."""
    return side is Side.SELL or limits.short_sales


class Covering(msgspec.Struct, frozen=True, kw_only=True):
    """How the cover of one order is found: first what the ledger counts, then what the venue says."""

    places: Places
    symbol: str
    side: Side
    tally: Tally
    position: Position

    async def counted(self) -> tuple[Counted, ...]:
        """What the ledger counts now. Raises `LedgerUnavailableError`."""
        other = opposite(self.side)
        return await self.tally(
            (
                (sided(self.places.account, self.side), Unit.TRADED),
                (sided(self.places.account, self.side), Unit.FILLED),
                (sided(self.places.agent, other), Unit.FILLED),
                (sided(self.places.firm, other), Unit.FILLED),
            )
        )

    async def cover(self, counted: tuple[Counted, ...]) -> Cover | Refusal:
        """Ask the venue, after the ledger was asked: the order of the two is what makes it right, see above."""
        told = await self.position(self.symbol)
        if isinstance(told, NoPosition):
            return pretrade.no_position(told.why)
        closing = math.floor((told if self.side is Side.SELL else -told) * NANO)
        if abs(closing) > LONG_MAX:
            return pretrade.no_position("it is beyond 64 bits")
        traded, filled, agent, firm = counted
        return Cover(
            position=closing,
            traded=traded.held + traded.spent,
            filled=filled.spent,
            agent_offset=agent.spent,
            firm_offset=firm.spent,
        )


def opposite(side: Side) -> Side:
    """The other side."""
    return Side.BUY if side is Side.SELL else Side.SELL


def sided(place: str, side: Side) -> str:
    """The scope of what is counted of one side."""
    return f"{place}/{side.value}"
