"""Order requests off the wire: Alpaca's POST /v2/orders members to order terms in whole lots and ticks, or a refusal.

Members that Alpaca knows and this exchange does not do (stop prices, brackets, notional) are refused: an order without
the stop loss that was asked for is another order. Members that nobody knows are ignored, as Alpaca does.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeVar

from localcloud.exchange.book import Side, TimeInForce
from localcloud.exchange.instruments import MICROS, Instrument, decimal_text
from localcloud.exchange.orders import OrderRefusedError, OrderTerms, OrderType, Reason
from localcloud.exchange.strict_json import Number

CLIENT_ORDER_ID_LIMIT: Final = 128
_LARGEST_QUANTITY: Final = 10**9
_LARGEST_PRICE: Final = 10**6
_DECIMAL: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_UNSUPPORTED: Final = (
    "stop_price",
    "trail_price",
    "trail_percent",
    "take_profit",
    "stop_loss",
    "legs",
    "advanced_instructions",
)
_INTENTS: Final = {Side.BUY: "buy_to_open", Side.SELL: "sell_to_close"}

_Word = TypeVar("_Word", bound=StrEnum)


def order_terms(members: Mapping[str, object], instruments: Mapping[str, Instrument]) -> OrderTerms:
    """The terms that a request's members ask for. Raises OrderRefusedError with reason INVALID and a sentence."""
    _refuse_unsupported(members)
    symbol = _text(members, "symbol")
    if symbol is None:
        raise _invalid("symbol is required")
    instrument = instruments.get(symbol)
    if instrument is None:
        raise _invalid(f'asset "{symbol}" not found')
    side = _word(members, "side", Side)
    order_type = _word(members, "type", OrderType)
    if members.get("position_intent") not in (None, _INTENTS[side]):
        raise _invalid(f"position_intent of a {side} order must be {_INTENTS[side]}: this exchange is long-only")
    return OrderTerms(
        symbol=symbol,
        side=side,
        type=order_type,
        tif=_word(members, "time_in_force", TimeInForce),
        lots=_lots(members, instrument),
        limit_ticks=_limit_ticks(members, instrument, order_type),
        client_order_id=_client_order_id(members),
        extended_hours=_extended_hours(members, order_type),
    )


def _invalid(message: str) -> OrderRefusedError:
    return OrderRefusedError(Reason.INVALID, message)


def _refuse_unsupported(members: Mapping[str, object]) -> None:
    for name in _UNSUPPORTED:
        if members.get(name) is not None:
            raise _invalid(f"{name} is not supported: this exchange takes plain market and limit orders")
    if members.get("order_class") not in (None, "", "simple"):
        raise _invalid("order_class must be simple")
    if members.get("notional") is not None:
        raise _invalid("notional orders are not supported: no asset here is fractionable, send qty in whole shares")


def _text(members: Mapping[str, object], name: str) -> str | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or isinstance(value, Number) or not value.isprintable():
        raise _invalid(f"{name} must be a string of printable characters")
    return value


def _word(members: Mapping[str, object], name: str, words: type[_Word]) -> _Word:
    text = _text(members, name)
    if text is None:
        raise _invalid(f"{name} is required")
    try:
        return words(text)
    except ValueError:
        raise _invalid(f"invalid {name}: it must be one of {', '.join(words)}") from None


def _decimal(members: Mapping[str, object], name: str) -> Decimal | None:
    """A plain decimal, sent as a string or as a number; at most 12 digits before and 9 after the point."""
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise _invalid(f"{name} must be a positive decimal without sign or exponent")
    return Decimal(value)


def _lots(members: Mapping[str, object], instrument: Instrument) -> int:
    qty = _decimal(members, "qty")
    if qty is None:
        raise _invalid("qty is required")
    if not 0 < qty <= _LARGEST_QUANTITY:
        raise _invalid(f"qty must be > 0 and <= {_LARGEST_QUANTITY}")
    if qty % instrument.lot_shares:
        raise _invalid(
            f"qty must be a multiple of {instrument.lot_shares}: asset {instrument.symbol} is not fractionable"
        )
    return int(qty) // instrument.lot_shares


def _limit_ticks(members: Mapping[str, object], instrument: Instrument, order_type: OrderType) -> int | None:
    price = _decimal(members, "limit_price")
    if order_type is OrderType.MARKET:
        if price is not None:
            raise _invalid("market orders require no limit_price")
        return None
    if price is None:
        raise _invalid("limit orders require limit_price")
    if not 0 < price <= _LARGEST_PRICE:
        raise _invalid(f"limit_price must be > 0 and <= {_LARGEST_PRICE}")
    if price * MICROS % instrument.tick_micros:
        raise _invalid(
            f"invalid limit_price {price}. sub-penny increment does not fulfill minimum pricing criteria: "
            f"it must be a multiple of {decimal_text(instrument.tick_micros)}"
        )
    return int(price * MICROS) // instrument.tick_micros


def _client_order_id(members: Mapping[str, object]) -> str | None:
    text = _text(members, "client_order_id")
    if text is not None and len(text) > CLIENT_ORDER_ID_LIMIT:
        raise _invalid(f"client_order_id must be no more than {CLIENT_ORDER_ID_LIMIT} characters")
    return text or None


def _extended_hours(members: Mapping[str, object], order_type: OrderType) -> bool:
    value = members.get("extended_hours")
    if value not in (None, False, True):
        raise _invalid("extended_hours must be true or false")
    if value and order_type is not OrderType.LIMIT:
        raise _invalid("extended hours order must be DAY limit orders")
    return bool(value)
