"""The shapes of Alpaca's trading and market data APIs (v2): the venue's values as JSON-ready objects.

Money, prices and quantities are decimal strings in the trading API and JSON numbers in the market data API; times are
RFC 3339 in UTC with microseconds.
"""

import datetime as dt
import uuid
from decimal import Decimal
from typing import Final

from localcloud.exchange.accounts import Account, Position
from localcloud.exchange.book import Side
from localcloud.exchange.instruments import Instrument, decimal_text
from localcloud.exchange.market import Market
from localcloud.exchange.orders import Order, Status, Trade
from localcloud.exchange.venue import Venue

Shape = dict[str, object]

_ASSET_CLASS: Final = "us_equity"
_RATIO_DIGITS: Final = 10**6
_QUOTE_VENUE: Final = "V"


def time_text(micros: int | None) -> str | None:
    """Unix microseconds as RFC 3339."""
    if micros is None:
        return None
    seconds, rest = divmod(micros, 1_000_000)
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"


def order_shape(order: Order, reported_fills: int = 1) -> Shape:
    """An order. `reported_fills` 2 counts every fill twice, which is how a duplicate-fill fault shows itself."""
    terms, instrument = order.terms, order.instrument
    return {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "created_at": time_text(order.submitted_us),
        "updated_at": time_text(order.updated_us),
        "submitted_at": time_text(order.submitted_us),
        "filled_at": _ended_at(order, Status.FILLED),
        "expired_at": _ended_at(order, Status.EXPIRED),
        "expires_at": time_text(order.expires_us),
        "canceled_at": _ended_at(order, Status.CANCELED),
        "failed_at": _ended_at(order, Status.REJECTED),
        "replaced_at": None,
        "replaced_by": None,
        "replaces": None,
        "asset_id": instrument.asset_id,
        "symbol": instrument.symbol,
        "asset_class": _ASSET_CLASS,
        "notional": None,
        "qty": str(instrument.shares(terms.lots)),
        "filled_qty": str(instrument.shares(order.filled_lots) * reported_fills),
        "filled_avg_price": _average_price(order),
        "order_class": "",
        "order_type": str(terms.type),
        "type": str(terms.type),
        "side": str(terms.side),
        "position_intent": "buy_to_open" if terms.side is Side.BUY else "sell_to_close",
        "time_in_force": str(terms.tif),
        "limit_price": None if terms.limit_ticks is None else _price(instrument, terms.limit_ticks),
        "stop_price": None,
        "status": str(order.status),
        "extended_hours": terms.extended_hours,
        "legs": None,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
        "subtag": None,
        "source": None,
    }


def fill_shape(trade: Trade) -> Shape:
    """A fill as an account activity (TradeActivity); its id is the same whenever the same fill is reported."""
    instrument, order = trade.order.instrument, trade.order
    at = time_text(trade.at_us) or ""
    execution = uuid.uuid5(uuid.UUID(order.id), str(trade.number))
    leaves = order.terms.lots - trade.cumulative_lots
    return {
        "id": f"{at[:19].translate(_DIGITS_ONLY)}{trade.at_us // 1000 % 1000:03d}::{execution}",
        "activity_type": "FILL",
        "transaction_time": at,
        "type": "partial_fill" if leaves else "fill",
        "price": _price(instrument, trade.ticks),
        "qty": str(instrument.shares(trade.lots)),
        "side": str(order.terms.side),
        "symbol": instrument.symbol,
        "leaves_qty": str(instrument.shares(leaves)),
        "order_id": order.id,
        "cum_qty": str(instrument.shares(trade.cumulative_lots)),
        "order_status": str(Status.PARTIALLY_FILLED if leaves else Status.FILLED),
    }


def position_shape(market: Market, position: Position) -> Shape:
    """A long position, valued at the last traded price."""
    instrument = market.instrument
    value = instrument.value(market.mark_ticks * position.lots)
    reference = instrument.value(instrument.reference_ticks * position.lots)
    profit = value - position.cost_micros
    return {
        "asset_id": instrument.asset_id,
        "symbol": instrument.symbol,
        "exchange": instrument.exchange,
        "asset_class": _ASSET_CLASS,
        "asset_marginable": False,
        "qty": str(instrument.shares(position.lots)),
        "qty_available": str(instrument.shares(position.available_lots)),
        "avg_entry_price": decimal_text(position.cost_micros // instrument.shares(position.lots)),
        "side": "long",
        "market_value": decimal_text(value),
        "cost_basis": decimal_text(position.cost_micros),
        "unrealized_pl": decimal_text(profit),
        "unrealized_plpc": _ratio(profit, position.cost_micros),
        "unrealized_intraday_pl": decimal_text(profit),
        "unrealized_intraday_plpc": _ratio(profit, position.cost_micros),
        "current_price": _price(instrument, market.mark_ticks),
        "lastday_price": _price(instrument, instrument.reference_ticks),
        "change_today": _ratio(value - reference, reference),
    }


def account_shape(venue: Venue, account: Account) -> Shape:
    """A cash account: multiplier 1, no shorting, buying power is the cash that no open order holds."""
    long_value = 0
    for symbol, position in account.positions.items():
        market = venue.markets[symbol]
        long_value += market.instrument.value(market.mark_ticks * position.lots)
    buying_power, equity = decimal_text(account.buying_power_micros), decimal_text(account.cash_micros + long_value)
    return {
        "id": account.id,
        "account_number": account.number,
        "status": "ACTIVE",
        "crypto_status": "INACTIVE",
        "currency": "USD",
        "cash": decimal_text(account.cash_micros),
        "buying_power": buying_power,
        "regt_buying_power": buying_power,
        "daytrading_buying_power": "0",
        "non_marginable_buying_power": buying_power,
        "accrued_fees": "0",
        "pending_transfer_in": "0",
        "portfolio_value": equity,
        "equity": equity,
        "last_equity": equity,
        "long_market_value": decimal_text(long_value),
        "short_market_value": "0",
        "position_market_value": decimal_text(long_value),
        "initial_margin": decimal_text(long_value),
        "maintenance_margin": decimal_text(long_value),
        "last_maintenance_margin": "0",
        "sma": "0",
        "multiplier": "1",
        "shorting_enabled": False,
        "pattern_day_trader": False,
        "daytrade_count": 0,
        "trading_blocked": False,
        "transfers_blocked": False,
        "account_blocked": False,
        "trade_suspended_by_user": False,
        "created_at": time_text(account.opened_us),
    }


def asset_shape(instrument: Instrument, *, tradable: bool) -> Shape:
    """An asset: whole lots only, long only."""
    return {
        "id": instrument.asset_id,
        "class": _ASSET_CLASS,
        "exchange": instrument.exchange,
        "symbol": instrument.symbol,
        "name": instrument.name,
        "status": "active",
        "tradable": tradable,
        "marginable": False,
        "maintenance_margin_requirement": 100,
        "shortable": False,
        "easy_to_borrow": False,
        "fractionable": False,
        "min_order_size": str(instrument.lot_shares),
        "min_trade_increment": str(instrument.lot_shares),
        "price_increment": decimal_text(instrument.tick_micros),
        "attributes": [],
    }


def clock_shape(venue: Venue, now: int, *, is_open: bool) -> Shape:
    """The market clock: a session is one day of UTC."""
    return {
        "timestamp": time_text(now),
        "is_open": is_open,
        "next_open": time_text(venue.closes_us),
        "next_close": time_text(venue.closes_us),
    }


def quote_shape(market: Market, *, age_us: int = 0, empty: bool = False) -> Shape:
    """The best bid and ask with their sizes in shares; zeros stand for a side on which nobody quotes."""
    bid = None if empty else market.book.best(Side.BUY)
    ask = None if empty else market.book.best(Side.SELL)
    bid_ticks, bid_lots = bid or (0, 0)
    ask_ticks, ask_lots = ask or (0, 0)
    instrument = market.instrument
    return {
        "t": time_text(market.quoted_us - age_us),
        "ax": _QUOTE_VENUE,
        "ap": Decimal(_price(instrument, ask_ticks)),
        "as": instrument.shares(ask_lots),
        "bx": _QUOTE_VENUE,
        "bp": Decimal(_price(instrument, bid_ticks)),
        "bs": instrument.shares(bid_lots),
        "c": ["R"],
        "z": "C",
    }


_DIGITS_ONLY: Final = str.maketrans("", "", "-T:")


def _ended_at(order: Order, status: Status) -> str | None:
    return time_text(order.ended_us) if order.status is status else None


def _price(instrument: Instrument, ticks: int) -> str:
    return decimal_text(ticks * instrument.tick_micros)


def _average_price(order: Order) -> str | None:
    if not order.filled_lots:
        return None
    return decimal_text(order.filled_micros // order.instrument.shares(order.filled_lots))


def _ratio(part: int, whole: int) -> str:
    return decimal_text(part * _RATIO_DIGITS // whole, _RATIO_DIGITS) if whole else "0"
