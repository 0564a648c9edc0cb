"""The latest quotes: fetched once for everybody who asks at the same time, and kept for half a second."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gateway.terms.clock import Clock
from gateway.tools.alpaca_wire import Quote
from gateway.tools.flights import Flights

SYMBOLS_MAX: Final = 1_024
"""Quotes that are kept; the one that was fetched longest ago leaves first."""

FUTURE_MS_MAX: Final = 2_000
"""How far ahead of ours the clock of a venue may go; from further ahead, a quote has no known age."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoQuote:
    """There is none, and why, in words that end a sentence."""

    why: str


Fetch = Callable[[str], Awaitable[Quote | NoQuote]]


class QuoteBoard:
    """Quotes by symbol. An age counts from the venue's own time of the quote, not from when it was fetched."""

    def __init__(self, fetch: Fetch, clock: Clock, kept_ms: int) -> None:
        self._fetch = fetch
        self._clock = clock
        self._kept_ns = kept_ms * 1_000_000
        self._kept: OrderedDict[str, tuple[int, Quote]] = OrderedDict()
        self._flights = Flights(self._fetched)

    async def latest(self, symbol: str, age_ms_max: int | None = None) -> Quote | NoQuote:
        """The latest quote; one that is kept but older than `age_ms_max` is asked for again."""
        kept = self.kept(symbol, age_ms_max)
        return await self._flights.any(symbol) if kept is None else kept

    def kept(self, symbol: str, age_ms_max: int | None = None) -> Quote | None:
        """What `latest` gives without asking anybody, if there is that."""
        fetched_ns, quote = self._kept.get(symbol, (0, None))
        if quote is None or self._clock.monotonic_ns() - fetched_ns >= self._kept_ns:
            return None
        return quote if age_ms_max is None or 0 <= self.age_ms(quote) <= age_ms_max else None

    def age_ms(self, quote: Quote) -> int:
        """How old a quote is now, in milliseconds rounded up; -1 if it is from too far in the future."""
        age_us = self._clock.unix_us() - quote.at_unix_us
        if age_us < -FUTURE_MS_MAX * 1000:
            return -1
        return -(-max(0, age_us) // 1000)

    async def _fetched(self, symbol: str) -> Quote | NoQuote:
        found = await self._fetch(symbol)
        if isinstance(found, Quote):
            self._keep(found)
        return found

    def _keep(self, quote: Quote) -> None:
        self._kept[quote.symbol] = (self._clock.monotonic_ns(), quote)
        self._kept.move_to_end(quote.symbol)
        if len(self._kept) > SYMBOLS_MAX:
            self._kept.popitem(last=False)
