"""The paper venue: accounts, markets, order ids and the trading day, joined; pure, synchronous and deterministic.

Everything that happens, happens inside a call: the venue moves its quotes and expires day orders when it is next asked
something, by the clock that it was given.
"""

import hashlib
import hmac
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from localcloud.exchange.accounts import Account, Position
from localcloud.exchange.book import Side, TimeInForce
from localcloud.exchange.instruments import US_EQUITIES, Instrument, decimal_text
from localcloud.exchange.liquidity import Liquidity
from localcloud.exchange.maker import MarketMaker
from localcloud.exchange.market import Market
from localcloud.exchange.orders import Order, OrderRefusedError, OrderTerms, Reason, Status, Trade

Clock = Callable[[], int]
"""A clock answers unix time in microseconds."""

_DAY_US: Final = 86_400_000_000
_FILLS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A key pair, and what its account begins with: cash (micro-dollars), and lots of each share."""

    key_id: str
    secret: str = field(repr=False)
    cash_micros: int
    lots: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueConfig:
    """What a venue is made of.

    `liquidity` None means no market maker; `fee_ppm` is the fee in parts per million of the traded value. Past
    `max_orders` the venue refuses new orders: it never forgets one, because forgetting would let a client order id
    be used twice. `max_open_orders` is per account.
    """

    credentials: tuple[Credential, ...]
    instruments: tuple[Instrument, ...] = US_EQUITIES
    liquidity: Liquidity | None = field(default_factory=Liquidity)
    fee_ppm: int = 0
    seed: int = 0
    is_open: bool = True
    max_orders: int = 200_000
    max_open_orders: int = 1_000

    def __post_init__(self) -> None:
        """Refuse a venue that could not tell its customers or instruments apart, or that pays negative fees."""
        keys = [credential.key_id for credential in self.credentials]
        if not keys or len(set(keys)) < len(keys) or not all(c.key_id and c.secret for c in self.credentials):
            raise ValueError("a venue needs at least one key pair, each with its own key id and a secret")
        if len({instrument.symbol for instrument in self.instruments}) < len(self.instruments):
            raise ValueError("each symbol may be listed once")
        if not 0 <= self.fee_ppm <= 1_000_000 or any(c.cash_micros < 0 for c in self.credentials):
            raise ValueError("fees lie between 0 and 1,000,000 parts per million, and cash is not negative")


class Venue:
    """The exchange as a value in memory: everything the HTTP faces show is a question to this object."""

    def __init__(self, config: VenueConfig, clock: Clock) -> None:
        """Open the accounts and markets, and let the maker quote."""
        self.config: Final = config
        self.clock: Final = clock
        self.opened_us: Final = clock()
        self.closes_us = _next_midnight(self.opened_us)
        self.accounts: Final = [self._account(c.key_id, c.cash_micros, c.lots) for c in config.credentials]
        self._secrets = {c.key_id: (c.secret, a) for c, a in zip(config.credentials, self.accounts, strict=True)}
        self.markets: Final = {i.symbol: self._market(i) for i in config.instruments}
        self.orders: Final[dict[str, Order]] = {}
        self._by_client_id: dict[tuple[str, str], Order] = {}
        self._of_account: dict[str, list[Order]] = {account.id: [] for account in self.accounts}
        self._open: dict[str, dict[str, Order]] = {account.id: {} for account in self.accounts}
        self._fills = {account.id: deque[Trade](maxlen=_FILLS_KEPT) for account in self.accounts}
        self._numbers = count(1)
        self.maker: Final = self._maker()
        self.advance()

    def authenticate(self, key_id: str, secret: str) -> Account | None:
        """The account of a key pair, or None; compares in constant time."""
        expected, account = self._secrets.get(key_id, ("", None))
        matches = hmac.compare_digest(expected.encode(), secret.encode("utf-8", "surrogateescape"))
        return account if matches else None

    def advance(self) -> int:
        """Bring the venue up to the present, and return the present in unix microseconds."""
        now = self.clock()
        if now >= self.closes_us:
            self._expire_day_orders(now)
            self.closes_us = _next_midnight(now)
        if self.maker is not None:
            step = max(0, now - self.opened_us) // self.maker.liquidity.interval_us
            for market in self.markets.values():
                self.maker.requote(market, step, now)
        return now

    def submit(self, account: Account, terms: OrderTerms) -> Order:
        """Accept and match an order. Raises OrderRefusedError, and then nothing has happened."""
        now = self.advance()
        market = self.markets.get(terms.symbol)
        if market is None:
            raise OrderRefusedError(Reason.INVALID, f'asset "{terms.symbol}" not found')
        self._check(account, terms, market.instrument)
        order = self._new_order(account, terms, market.instrument, now)
        market.place(order, now)
        self._enter(order)
        if order.filled_lots and self.maker is not None:
            self.maker.replenish(market, now)
        return order

    def cancel(self, account: Account, order_id: str) -> Order:
        """Cancel an open order. Raises OrderRefusedError when there is none or it has ended."""
        order = self.order(account, order_id)
        if not order.is_open:
            raise OrderRefusedError(Reason.NOT_CANCELABLE, f'order is already in "{order.status}" state')
        self._withdraw(order, Status.CANCELED, self.clock())
        return order

    def cancel_all(self, account: Account) -> list[Order]:
        """Cancel every open order of an account and return them."""
        now = self.advance()
        orders = self.open_orders(account)
        for order in orders:
            self._withdraw(order, Status.CANCELED, now)
        return orders

    def order(self, account: Account, order_id: str) -> Order:
        """An account's order by id. Raises OrderRefusedError when the account has no such order."""
        self.advance()
        order = self.orders.get(order_id)
        if order is None or order.account is not account:
            raise OrderRefusedError(Reason.NOT_FOUND, f"order not found for {order_id}")
        return order

    def order_by_client_id(self, account: Account, client_order_id: str) -> Order:
        """An account's order by its client order id. Raises OrderRefusedError when there is none."""
        self.advance()
        order = self._by_client_id.get((account.id, client_order_id))
        if order is None:
            raise OrderRefusedError(Reason.NOT_FOUND, f"order not found for {client_order_id}")
        return order

    def open_orders(self, account: Account) -> list[Order]:
        """An account's open orders, the oldest first."""
        self.advance()
        return list(self._open[account.id].values())

    def orders_of(self, account: Account, *, newest_first: bool) -> Iterator[Order]:
        """All orders of an account by the time of their submission."""
        self.advance()
        orders = self._of_account[account.id]
        return reversed(orders) if newest_first else iter(orders)

    def fills_of(self, account: Account) -> Iterator[Trade]:
        """The newest fills of an account, the newest first."""
        self.advance()
        return reversed(self._fills[account.id])

    def _check(self, account: Account, terms: OrderTerms, instrument: Instrument) -> None:
        if not self.config.is_open:
            raise OrderRefusedError(Reason.MARKET_CLOSED, "the market is closed and this venue queues no orders")
        if terms.client_order_id is not None and (account.id, terms.client_order_id) in self._by_client_id:
            raise OrderRefusedError(Reason.DUPLICATE_CLIENT_ORDER_ID, "client_order_id must be unique")
        ticks = terms.limit_ticks or self.markets[terms.symbol].mark_ticks
        if instrument.value(ticks * terms.lots) < instrument.min_notional_micros:
            smallest = decimal_text(instrument.min_notional_micros)
            raise OrderRefusedError(Reason.INVALID, f"cost basis must be >= minimal amount of order {smallest}")
        if len(self.orders) >= self.config.max_orders:
            raise OrderRefusedError(Reason.CAPACITY, f"the venue holds its maximum of {self.config.max_orders} orders")
        if len(self._open[account.id]) >= self.config.max_open_orders:
            raise OrderRefusedError(
                Reason.CAPACITY, f"the account has its maximum of {self.config.max_open_orders} open orders"
            )
        self._check_wash(account, terms)

    def _check_wash(self, account: Account, terms: OrderTerms) -> None:
        """Refuse an order that could trade with the same account's resting order, as Alpaca does."""
        for other in self._open[account.id].values():
            if other.terms.symbol == terms.symbol and _could_trade(terms, other.terms):
                raise OrderRefusedError(
                    Reason.WASH_TRADE,
                    "potential wash trade detected. use complex orders",
                    existing_order_id=other.id,
                    reject_reason="opposite side limit order exists",
                )

    def _new_order(self, account: Account, terms: OrderTerms, instrument: Instrument, now: int) -> Order:
        number = next(self._numbers)
        return Order(
            id=self._uuid("order", number),
            number=number,
            client_order_id=terms.client_order_id or self._uuid("client", number),
            account=account,
            instrument=instrument,
            terms=terms,
            submitted_us=now,
            updated_us=now,
            expires_us=self.closes_us if terms.tif is TimeInForce.DAY else None,
        )

    def _enter(self, order: Order) -> None:
        self.orders[order.id] = order
        self._by_client_id[order.key] = order
        self._of_account[order.account.id].append(order)
        if order.is_open:
            self._open[order.account.id][order.id] = order

    def _withdraw(self, order: Order, status: Status, now: int) -> None:
        self.markets[order.terms.symbol].withdraw(order, status, now)
        del self._open[order.account.id][order.id]

    def _expire_day_orders(self, now: int) -> None:
        for account in self.accounts:
            for order in list(self._open[account.id].values()):
                if order.terms.tif is TimeInForce.DAY:
                    self._withdraw(order, Status.EXPIRED, now)

    def _record_trade(self, trade: Trade) -> None:
        account_id, order = trade.order.account.id, trade.order
        if account_id in self._fills:  # The maker's own fills are nobody's report.
            self._fills[account_id].append(trade)
            if not order.open_lots:
                self._open[account_id].pop(order.id, None)

    def _account(self, name: str, cash_micros: int, lots: int = 0) -> Account:
        account_id = self._uuid("account", name)
        number = f"PA{uuid.UUID(account_id).int % 10**10:010d}"
        account = Account(id=account_id, number=number, key_id=name, cash_micros=cash_micros, opened_us=self.opened_us)
        for instrument in self.config.instruments if lots else ():
            cost = instrument.value(instrument.reference_ticks * lots)
            account.positions[instrument.symbol] = Position(lots=lots, cost_micros=cost)
        return account

    def _market(self, instrument: Instrument) -> Market:
        return Market(instrument, self.config.fee_ppm, self._record_trade, self.opened_us)

    def _maker(self) -> MarketMaker | None:
        liquidity = self.config.liquidity
        if liquidity is None:
            return None
        account = self._account("market-maker", liquidity.cash_micros)
        account.positions = {symbol: Position(lots=liquidity.inventory_lots) for symbol in self.markets}
        return MarketMaker(account, liquidity, self.config.seed, lambda: next(self._numbers))

    def _uuid(self, *labels: int | str) -> str:
        """An id that depends on the seed and on when the venue opened, so that no two runs share one by accident."""
        text = f"{self.config.seed}/{self.opened_us}/{labels}"
        return str(uuid.UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest(), version=4))


def _next_midnight(now: int) -> int:
    return (now // _DAY_US + 1) * _DAY_US


def _could_trade(terms: OrderTerms, resting: OrderTerms) -> bool:
    if terms.side is resting.side:
        return False
    if terms.limit_ticks is None or resting.limit_ticks is None:
        return True
    buy, sell = (terms, resting) if terms.side is Side.BUY else (resting, terms)
    return (buy.limit_ticks or 0) >= (sell.limit_ticks or 0)
