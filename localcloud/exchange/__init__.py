"""The paper exchange: a price-time order book with accounts that can refuse, behind Alpaca's v2 wire format."""

from localcloud.exchange.instruments import MICROS, US_EQUITIES, Instrument
from localcloud.exchange.liquidity import Liquidity
from localcloud.exchange.server import ExchangeConfig, PaperExchange
from localcloud.exchange.venue import Credential, Venue, VenueConfig

__all__ = [
    "MICROS",
    "US_EQUITIES",
    "Credential",
    "ExchangeConfig",
    "Instrument",
    "Liquidity",
    "PaperExchange",
    "Venue",
    "VenueConfig",
]
