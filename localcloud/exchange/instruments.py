"""What is traded at the paper exchange: instruments with their tick, their lot and their smallest order."""

import uuid
from dataclasses import dataclass
from typing import Final

MICROS: Final = 1_000_000
"""Money is counted in micro-dollars: 1,000,000 to the dollar."""

_ASSET_NAMESPACE: Final = uuid.UUID("8d7f5f5e-6f2b-5a53-9c0e-2d9a0c3f7b11")


def decimal_text(value: int, scale: int = MICROS) -> str:
    """An integer of 1/scale units as plain decimal text without trailing zeros; scale is a power of ten."""
    whole, fraction = divmod(abs(value), scale)
    digits = f"{fraction:0{len(str(scale)) - 1}d}".rstrip("0")
    return ("-" if value < 0 else "") + (f"{whole}.{digits}" if digits else str(whole))


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A share: prices are whole ticks of `tick_micros` micro-dollars, quantities whole lots of `lot_shares` shares."""

    symbol: str
    name: str
    reference_ticks: int
    exchange: str = "NASDAQ"
    tick_micros: int = 10_000
    lot_shares: int = 1
    min_notional_micros: int = MICROS

    def __post_init__(self) -> None:
        """Refuse an instrument that cannot be priced."""
        if min(self.reference_ticks, self.tick_micros, self.lot_shares) < 1 or self.min_notional_micros < 0:
            raise ValueError(f"instrument {self.symbol!r} needs a positive reference price, tick and lot")

    @property
    def asset_id(self) -> str:
        """The asset's UUID, which depends on nothing but the symbol."""
        return str(uuid.uuid5(_ASSET_NAMESPACE, self.symbol))

    def value(self, tick_lots: int) -> int:
        """Micro-dollars of a sum over trades of price (ticks) times lots."""
        return tick_lots * self.tick_micros * self.lot_shares

    def shares(self, lots: int) -> int:
        """Shares in so many lots."""
        return lots * self.lot_shares


US_EQUITIES: Final = (
    Instrument(symbol="AAPL", name="Apple Inc. Common Stock", reference_ticks=18_950),
    Instrument(symbol="AMZN", name="Amazon.com, Inc. Common Stock", reference_ticks=18_520),
    Instrument(symbol="GOOG", name="Alphabet Inc. Class C Capital Stock", reference_ticks=17_235),
    Instrument(symbol="MSFT", name="Microsoft Corporation Common Stock", reference_ticks=41_520),
    Instrument(symbol="NVDA", name="NVIDIA Corporation Common Stock", reference_ticks=12_740),
)
"""The shares that the paper exchange trades unless told otherwise."""
