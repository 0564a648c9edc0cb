"""The library's structures, read strictly into our own values: what an exchange says is never handed on as it came."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from gateway.tools.alpaca_wire import ENDED, Quote, VenueOrder, WireError, plain
from gateway.tools.ccxt_config import CURRENCY, SYMBOL
from gateway.tools.ccxt_wire import listed, members

ORDER_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_CLIENT_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_WORD: Final = re.compile(r"[a-z_]{1,32}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,36})?")
_UNIX_MS_MAX: Final = 253_402_300_799_999

_STATUSES: Final[Mapping[str, str]] = {
    "open": "open",
    "closed": "filled",
    "canceled": "canceled",
    "canceling": "pending_cancel",
    "expired": "expired",
    "rejected": "rejected",
}
"""The library's words in those of our results; any other word counts as open, for it does not say that it ended."""


def read_order(value: object, symbol: str) -> VenueOrder:
    """An order of this symbol. Raises `WireError`, also for one that is filled beyond its quantity or for nothing."""
    told = members(value)
    kind = _text(told, "type", _WORD)
    quantity, filled = _decimal(told, "amount"), _decimal(told, "filled")
    order = VenueOrder(
        id=_text(told, "id", ORDER_ID),
        client_order_id=_text(told, "clientOrderId", _CLIENT_ID),
        symbol=_text(told, "symbol", SYMBOL),
        side=_text(told, "side", _WORD),
        type=kind,
        # The library gives a market order the price that it was filled at, and exchanges give it any time in force.
        time_in_force="ioc" if kind == "market" else _text(told, "timeInForce", re.compile(r"[A-Z]{1,8}")).lower(),
        status=_status(told, quantity, filled),
        quantity=quantity,
        filled=filled,
        average_price=_decimal(told, "average") if filled else None,
        limit_price=None if kind == "market" else _decimal(told, "price"),
        submitted_at=_at(told),
    )
    if order.symbol != symbol:
        raise WireError("the order is of another symbol")
    _refuse_impossible(order)
    return order


def open_under(value: object, client_id: str) -> str:
    """The exchange's id of what is not known to have ended under our id, whatever else is said of it; or nothing."""
    told = members(value)
    order_id, status = told.get("id"), told.get("status")
    ended = isinstance(status, str) and _STATUSES.get(status) in ENDED
    ours = told.get("clientOrderId") == client_id and isinstance(order_id, str) and ORDER_ID.fullmatch(order_id)
    return str(order_id) if ours and not ended else ""


def _status(told: Mapping[str, object], quantity: Decimal, filled: Decimal) -> str:
    status = _STATUSES.get(_text(told, "status", _WORD), "open")
    if status == "filled" and filled < quantity:
        # Closed, and not whole: nothing of the rest can trade any more, which is what a cancel is.
        return "canceled"
    return "partially_filled" if status == "open" and filled else status


def _refuse_impossible(order: VenueOrder) -> None:
    if order.quantity is None or not 0 <= order.filled <= order.quantity or not order.quantity:
        raise WireError("filled is not between zero and the quantity")
    if order.filled and (order.average_price is None or order.average_price <= 0):
        raise WireError("the average price is not above zero")
    if order.filled == order.quantity and order.status not in ENDED:
        raise WireError("all is filled and the order goes on")


def read_orders(value: object, symbol: str, most: int) -> list[VenueOrder]:
    """The newest orders of a list, the newest first. Raises `WireError`."""
    found = [read_order(one, symbol) for one in listed(value)]
    return sorted(found, key=lambda order: order.submitted_at, reverse=True)[:most]


def read_ticker(value: object, symbol: str) -> Quote:
    """The best bid and ask with the exchange's own time of it. Raises `WireError` where one of them is missing."""
    told = members(value)
    if told.get("symbol") != symbol:
        raise WireError("the ticker is of another symbol")
    return Quote(
        symbol=symbol,
        bid=_decimal(told, "bid"),
        ask=_decimal(told, "ask"),
        bid_size=_decimal(told, "bidVolume"),
        ask_size=_decimal(told, "askVolume"),
        at=_at(told),
        at_unix_us=_unix_ms(told) * 1_000,
    )


def read_balances(value: object, most: int) -> list[dict[str, str]]:
    """What the account holds of each currency, as members of a result. Raises `WireError`."""
    totals = members(members(value).get("total"))
    held = sorted(currency for currency, total in totals.items() if _amount(currency, total))
    if len(held) > most:
        raise WireError(f"more than {most} currencies")
    return [_balance(currency, members(members(value).get(currency))) for currency in held]


def _balance(currency: str, told: Mapping[str, object]) -> dict[str, str]:
    if not CURRENCY.fullmatch(currency):
        raise WireError("a currency is not as documented")
    return {
        "currency": currency,
        "quantity": plain(_decimal(told, "total")),
        "free": plain(_decimal(told, "free")),
        "in_orders": plain(_decimal(told, "used")),
    }


def _amount(name: str, value: object) -> Decimal:
    return _decimal({name: value}, name)


def _decimal(told: Mapping[str, object], name: str) -> Decimal:
    """A decimal that is written as a string or as a whole number; a float has lost digits already."""
    value = told.get(name)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not _DECIMAL.fullmatch(text):
        raise WireError(f"{name} is no decimal")
    return Decimal(text)


def _text(told: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise WireError(f"{name} is not as documented")
    return value


def _unix_ms(told: Mapping[str, object]) -> int:
    value = told.get("timestamp")
    if type(value) is not int or not 0 < value <= _UNIX_MS_MAX:
        raise WireError("there is no time")
    return value


def _at(told: Mapping[str, object]) -> str:
    """The time in RFC 3339 with milliseconds."""
    seconds, milliseconds = divmod(_unix_ms(told), 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
