"""Seeded liquidity: where a market maker stands at a moment, as a pure function of seed, symbol and time.

The fair price follows straight lines between random points (one every `_STEPS_BETWEEN_POINTS` steps), so that the price
at any step can be computed without having lived through the steps before it: the same seed gives the same market,
whether or not anybody looked in between.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

from localcloud.exchange.book import Side
from localcloud.exchange.instruments import Instrument

_STEPS_BETWEEN_POINTS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Liquidity:
    """How the market maker quotes.

    `levels` price levels a side, the first `half_spread_ticks` from the fair price, each of `lots` lots give or take
    a half; the fair price stays within `drift_ticks` of the reference price and moves once per `interval_us`. With
    `replenish`, a level that was traded away comes back at once; otherwise it comes back with the next move.
    `inventory_lots` of each instrument and `cash_micros` are what the maker begins with.
    """

    levels: int = 5
    lots: int = 500
    half_spread_ticks: int = 1
    drift_ticks: int = 20
    interval_us: int = 1_000_000
    replenish: bool = True
    inventory_lots: int = 100_000_000
    cash_micros: int = 1_000_000_000_000_000_000

    def __post_init__(self) -> None:
        """Refuse numbers under which no ladder can be drawn."""
        if min(self.levels, self.lots, self.half_spread_ticks, self.interval_us) < 1 or self.drift_ticks < 0:
            raise ValueError("liquidity needs at least one level, lot, tick of half spread and microsecond")


class Level(NamedTuple):
    """One price level of a ladder."""

    side: Side
    ticks: int
    lots: int


def fair_ticks(instrument: Instrument, liquidity: Liquidity, seed: int, step: int) -> int:
    """The fair price in ticks at a step; exactly the reference price at step 0."""
    point, within = divmod(step, _STEPS_BETWEEN_POINTS)
    here = _offset(instrument.symbol, liquidity, seed, point)
    there = _offset(instrument.symbol, liquidity, seed, point + 1)
    offset = (here * (_STEPS_BETWEEN_POINTS - within) + there * within) // _STEPS_BETWEEN_POINTS
    lowest = liquidity.levels + liquidity.half_spread_ticks
    return max(instrument.reference_ticks + offset, lowest)


def ladder(instrument: Instrument, liquidity: Liquidity, seed: int, step: int) -> list[Level]:
    """The levels that the maker wants to show at a step, best first on each side."""
    fair = fair_ticks(instrument, liquidity, seed, step)
    levels = []
    for side, sign in ((Side.BUY, -1), (Side.SELL, 1)):
        for depth in range(liquidity.levels):
            ticks = fair + sign * (liquidity.half_spread_ticks + depth)
            spread = _draw(seed, instrument.symbol, side, step, depth) % (liquidity.lots + 1)
            levels.append(Level(side, ticks, max(1, liquidity.lots // 2 + spread)))
    return levels


def _offset(symbol: str, liquidity: Liquidity, seed: int, point: int) -> int:
    if point == 0:
        return 0
    return _draw(seed, symbol, "fair", point) % (2 * liquidity.drift_ticks + 1) - liquidity.drift_ticks


def _draw(*labels: int | str) -> int:
    text = "/".join(str(label) for label in labels)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
