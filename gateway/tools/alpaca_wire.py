"""Alpaca's v2 replies, read strictly: what a venue says is parsed into values, never handed on as it came."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final

import msgspec

from gateway.terms.money import LONG_MAX, MICRO, MicroUsd
from gateway.terms.strict_json import JsonValue

ORDER_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SYMBOL: Final = re.compile(r"[A-Z0-9./]{1,24}")
_WORD: Final = re.compile(r"[A-Za-z_]{1,32}")
_CLIENT_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9:]{5})"
)
EXACT: Final = Context(prec=200, traps=[Inexact, InvalidOperation])
"""Arithmetic without rounding, for products of few values of replies: each has 54 digits at most."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

ENDED: Final = frozenset({"filled", "canceled", "expired", "rejected"})
"""The states in which nothing of an order can trade any more; every other word counts as open."""


class WireError(ValueError):
    """A reply is not in the venue's own form; the message names the member."""


class Members:
    """The members of one object of a reply. Members that nobody asks for are left alone: venues add some."""

    __slots__ = ("_members",)

    def __init__(self, value: JsonValue) -> None:
        if not isinstance(value, dict):
            raise WireError("expected an object")
        self._members = value

    def text(self, name: str, pattern: re.Pattern[str]) -> str:
        """A string that matches as a whole."""
        value = self._members.get(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise WireError(f"{name} is not as documented")
        return value

    def decimal(self, name: str) -> Decimal:
        """A decimal, written as a string or as a number."""
        value = self._members.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise WireError(f"{name} is no decimal")
        text = value if isinstance(value, str) else f"{value:f}" if isinstance(value, Decimal) else str(value)
        if not _DECIMAL.fullmatch(text):
            raise WireError(f"{name} is no decimal")
        return Decimal(text)

    def decimal_or_none(self, name: str) -> Decimal | None:
        """A decimal, or None where the member is null or absent."""
        return None if self._members.get(name) is None else self.decimal(name)

    def time(self, name: str) -> str:
        """A time in RFC 3339, as written."""
        text = self.text(name, _TIME)
        unix_us(text)
        return text

    def flag(self, name: str) -> bool:
        """A boolean."""
        value = self._members.get(name)
        if not isinstance(value, bool):
            raise WireError(f"{name} is no boolean")
        return value

    def inside(self, name: str) -> "Members":
        """A nested object."""
        return Members(self._members.get(name))


class VenueOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the venue tells it."""

    id: str
    client_order_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    status: str
    quantity: Decimal | None
    """None for an order by value, which the gateway never places."""
    filled: Decimal
    average_price: Decimal | None
    limit_price: Decimal | None
    submitted_at: str

    @property
    def ended(self) -> bool:
        """Whether nothing of it can trade any more."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The best bid and ask of a symbol."""

    symbol: str
    bid: Decimal
    ask: Decimal
    bid_size: Decimal
    ask_size: Decimal
    at: str
    at_unix_us: int


def read_order(body: JsonValue) -> VenueOrder:
    """An order. Raises `WireError`, also for one that is filled beyond its quantity or filled for nothing."""
    members = Members(body)
    order = VenueOrder(
        id=members.text("id", ORDER_ID),
        client_order_id=members.text("client_order_id", _CLIENT_ID),
        symbol=members.text("symbol", _SYMBOL),
        side=members.text("side", _WORD),
        type=members.text("type", _WORD),
        time_in_force=members.text("time_in_force", _WORD),
        status=members.text("status", _WORD),
        quantity=members.decimal_or_none("qty"),
        filled=members.decimal("filled_qty"),
        average_price=members.decimal_or_none("filled_avg_price"),
        limit_price=members.decimal_or_none("limit_price"),
        submitted_at=members.time("submitted_at"),
    )
    _refuse_impossible(order)
    return order


def _refuse_impossible(order: VenueOrder) -> None:
    if order.filled < 0 or (order.quantity is not None and not order.filled <= order.quantity):
        raise WireError("filled_qty is not between zero and qty")
    if order.filled and (order.average_price is None or order.average_price <= 0):
        raise WireError("filled_avg_price is not above zero")
    if order.status == "filled" and (not order.filled or order.quantity not in {None, order.filled}):
        raise WireError("status is filled but filled_qty is not qty")


def read_list(body: JsonValue, most: int) -> list[JsonValue]:
    """An array of at most `most` members. Raises `WireError`."""
    if not isinstance(body, list) or len(body) > most:
        raise WireError(f"expected an array of at most {most} members")
    return body


def read_quote(body: JsonValue, symbol: str) -> Quote:
    """The latest quote of this symbol. Raises `WireError`."""
    members = Members(body)
    if members.text("symbol", _SYMBOL) != symbol:
        raise WireError("the quote is of another symbol")
    quote = members.inside("quote")
    at = quote.time("t")
    return Quote(
        symbol=symbol,
        bid=quote.decimal("bp"),
        ask=quote.decimal("ap"),
        bid_size=quote.decimal("bs"),
        ask_size=quote.decimal("as"),
        at=at,
        at_unix_us=unix_us(at),
    )


def read_position(body: JsonValue) -> Mapping[str, str]:
    """A position as members of a result. Raises `WireError`."""
    members = Members(body)
    return {
        "symbol": members.text("symbol", _SYMBOL),
        "side": members.text("side", _WORD),
        "quantity": plain(members.decimal("qty")),
        "average_price": plain(members.decimal("avg_entry_price")),
        "market_value": plain(members.decimal("market_value")),
    }


def read_holding(body: JsonValue, symbol: str) -> Decimal:
    """What is held of this symbol, below zero for a short position. Raises `WireError`.

    Alpaca writes the quantity of a short position with a minus sign; where side and sign contradict each other, nothing
    is known.
    """
    members = Members(body)
    if members.text("symbol", _SYMBOL) != symbol:
        raise WireError("the position is of another symbol")
    quantity, side = members.decimal("qty"), members.text("side", _WORD)
    if side not in {"long", "short"} or (side == "short") != (quantity < 0):
        raise WireError("side and qty contradict each other")
    return quantity


def read_account(body: JsonValue) -> Mapping[str, str | bool]:
    """The account as members of a result. Raises `WireError`."""
    members = Members(body)
    return {
        "status": members.text("status", _WORD),
        "currency": members.text("currency", _WORD),
        "cash": plain(members.decimal("cash")),
        "buying_power": plain(members.decimal("buying_power")),
        "equity": plain(members.decimal("equity")),
        "trading_blocked": members.flag("trading_blocked"),
    }


def read_clock(body: JsonValue) -> Mapping[str, str | bool]:
    """The market clock as members of a result. Raises `WireError`."""
    members = Members(body)
    return {
        "at": members.time("timestamp"),
        "is_open": members.flag("is_open"),
        "next_open": members.time("next_open"),
        "next_close": members.time("next_close"),
    }


def plain(value: Decimal) -> str:
    """The shortest decimal string of a value, without exponent."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def micro_up(value: Decimal) -> MicroUsd:
    """Dollars in millionths, rounded up. Raises `WireError` beyond 64 bits."""
    return within_long(math.ceil(EXACT.multiply(value, MICRO)))


def micro_down(value: Decimal) -> MicroUsd:
    """Dollars in millionths, rounded down. Raises `WireError` beyond 64 bits."""
    return within_long(math.floor(EXACT.multiply(value, MICRO)))


def within_long(value: int) -> MicroUsd:
    """Millionths of a dollar. Raises `WireError` beyond 64 bits."""
    if abs(value) > LONG_MAX:
        raise WireError("an amount is beyond 64 bits")
    return MicroUsd(value)


def unix_us(text: str) -> int:
    """Microseconds of Unix time of a time in RFC 3339; finer digits are cut. Raises `WireError`."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise WireError("not a time in RFC 3339")
    whole, fraction, zone = match.groups()
    try:
        instant = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
        return (instant - _EPOCH) // timedelta(microseconds=1) + int((fraction or "0").ljust(6, "0")[:6])
    except (ValueError, OverflowError):
        raise WireError("not a time that exists") from None
