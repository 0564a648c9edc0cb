"""The market maker: one account that keeps seeded quotes in every market, so that orders really trade."""

from collections.abc import Callable
from typing import Final

from localcloud.exchange.accounts import Account
from localcloud.exchange.book import Side, TimeInForce
from localcloud.exchange.liquidity import Level, Liquidity, ladder
from localcloud.exchange.market import Market
from localcloud.exchange.orders import Order, OrderRefusedError, OrderTerms, OrderType, Status


class MarketMaker:
    """Keeps a ladder of orders in each market. Its orders hold cash and shares like anybody's."""

    def __init__(self, account: Account, liquidity: Liquidity, seed: int, number: Callable[[], int]) -> None:
        """Quote from `account`; `number` gives every order a number that no other order of the exchange has."""
        self.account: Final = account
        self.liquidity: Final = liquidity
        self._seed = seed
        self._number = number
        self._steps: dict[str, int] = {}
        self._quotes: dict[str, dict[Level, Order]] = {}

    def requote(self, market: Market, step: int, now: int) -> None:
        """Move to the ladder of a step; does nothing when it stands there already."""
        symbol = market.instrument.symbol
        if self._steps.get(symbol) == step:
            return
        for old in self._quotes.get(symbol, {}).values():
            if old.is_open:
                market.withdraw(old, Status.CANCELED, now)
        self._steps[symbol] = step
        levels = ladder(market.instrument, self.liquidity, self._seed, step)
        self._quotes[symbol] = {level: order for level in levels if (order := self._quote(market, level, now))}

    def replenish(self, market: Market, now: int) -> None:
        """Put back the levels that were traded away, where they would rest and not trade at once."""
        if not self.liquidity.replenish:
            return
        quotes = self._quotes.get(market.instrument.symbol, {})
        for level, order in list(quotes.items()):
            if order.is_open or _would_trade(market, level):
                continue
            replacement = self._quote(market, level, now)
            if replacement is not None:
                quotes[level] = replacement

    def _quote(self, market: Market, level: Level, now: int) -> Order | None:
        number = self._number()
        order = Order(
            id=f"quote-{number}",
            number=number,
            client_order_id="",
            account=self.account,
            instrument=market.instrument,
            terms=OrderTerms(
                symbol=market.instrument.symbol,
                side=level.side,
                type=OrderType.LIMIT,
                tif=TimeInForce.GTC,
                lots=level.lots,
                limit_ticks=level.ticks,
            ),
            submitted_us=now,
            updated_us=now,
        )
        try:
            market.place(order, now)
        except OrderRefusedError:
            return None  # Out of cash or shares: the maker shows fewer levels, as a real one would.
        return order


def _would_trade(market: Market, level: Level) -> bool:
    facing = market.book.best(level.side.opposite)
    if facing is None:
        return False
    return facing[0] <= level.ticks if level.side is Side.BUY else facing[0] >= level.ticks
