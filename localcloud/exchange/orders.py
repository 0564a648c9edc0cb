"""Orders at the paper exchange: what a customer asks for, what became of it, and why it may be refused."""

from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

from localcloud.exchange.accounts import Account
from localcloud.exchange.book import Side, TimeInForce
from localcloud.exchange.instruments import Instrument


class OrderType(StrEnum):
    """Market orders take any price; limit orders never trade worse than their price."""

    MARKET = "market"
    LIMIT = "limit"


class Status(StrEnum):
    """The states of an order in Alpaca's words; the last four are final."""

    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"


class Reason(Enum):
    """Why the exchange refuses a request; the HTTP face gives each its status and code."""

    INVALID = auto()
    DUPLICATE_CLIENT_ORDER_ID = auto()
    INSUFFICIENT_BUYING_POWER = auto()
    INSUFFICIENT_QUANTITY = auto()
    WASH_TRADE = auto()
    MARKET_CLOSED = auto()
    CAPACITY = auto()
    NOT_FOUND = auto()
    NOT_CANCELABLE = auto()


class OrderRefusedError(Exception):
    """The exchange does not do what was asked: a reason, a sentence, and members that the answer carries besides."""

    def __init__(self, reason: Reason, message: str, **details: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.details = details


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTerms:
    """What a customer asks for: whole lots, a limit in ticks exactly if the type is limit."""

    symbol: str
    side: Side
    type: OrderType
    tif: TimeInForce
    lots: int
    limit_ticks: int | None = None
    client_order_id: str | None = None
    extended_hours: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Order:
    """An accepted order and everything that has happened to it. Times are unix microseconds, money micro-dollars."""

    id: str
    number: int
    client_order_id: str
    account: Account = field(repr=False)
    instrument: Instrument = field(repr=False)
    terms: OrderTerms
    submitted_us: int
    updated_us: int
    expires_us: int | None = None
    ended_us: int | None = None
    status: Status = Status.NEW
    filled_lots: int = 0
    filled_micros: int = 0
    fee_micros: int = 0
    held_micros: int = 0
    held_lots: int = 0

    @property
    def open_lots(self) -> int:
        """Lots not filled yet (whether or not the order still works)."""
        return self.terms.lots - self.filled_lots

    @property
    def is_open(self) -> bool:
        """Whether the order still works."""
        return self.ended_us is None

    @property
    def key(self) -> tuple[str, str]:
        """What must be unique: a client order id within an account."""
        return self.account.id, self.client_order_id

    def end(self, status: Status, now: int) -> None:
        """Enter a final state."""
        self.status = status
        self.ended_us = self.updated_us = now


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One fill as one side sees it. `number` is unique per instrument; `cumulative_lots` is after this fill."""

    number: int
    order: Order
    ticks: int
    lots: int
    cumulative_lots: int
    at_us: int
