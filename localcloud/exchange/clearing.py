"""Clearing holds cash and shares for open orders and moves them when orders trade; it never lets an account overspend.

Fees are parts per million of an order's whole filled value, rounded up once per order, so that many small fills cost
the same as a large one and the hold of a limit order always covers them.
"""

from localcloud.exchange.accounts import Position
from localcloud.exchange.book import Side
from localcloud.exchange.instruments import MICROS, decimal_text
from localcloud.exchange.orders import Order, OrderRefusedError, Reason


def fee(value_micros: int, fee_ppm: int) -> int:
    """The fee on a traded value in micro-dollars, rounded up."""
    return -(-value_micros * fee_ppm // MICROS)


def reserve(order: Order, market_cost_micros: int, fee_ppm: int) -> None:
    """Hold what the order may need, or refuse it.

    A limit buy holds its limit value with fee, a sell its lots. A market buy trades at once or never, so it is only
    checked against what it is about to cost (`market_cost_micros`, the value of a sweep of the book).
    """
    if order.terms.side is Side.SELL:
        _hold_lots(order)
        return
    account = order.account
    needed = _limit_hold(order, fee_ppm)
    cost = needed or market_cost_micros + fee(market_cost_micros, fee_ppm)
    if cost > account.buying_power_micros:
        raise OrderRefusedError(
            Reason.INSUFFICIENT_BUYING_POWER,
            "insufficient buying power",
            buying_power=decimal_text(account.buying_power_micros),
            cost_basis=decimal_text(cost),
        )
    order.held_micros = needed
    account.held_micros += needed


def settle(order: Order, ticks: int, lots: int, fee_ppm: int) -> int:
    """Book one fill of an order to its account and return the fee that this fill adds, in micro-dollars."""
    value = order.instrument.value(ticks * lots)
    order.filled_lots += lots
    order.filled_micros += value
    charged = fee(order.filled_micros, fee_ppm) - order.fee_micros
    order.fee_micros += charged
    if order.terms.side is Side.BUY:
        order.account.bought(order.instrument.symbol, lots, value, charged)
        _hold_exactly(order, _limit_hold(order, fee_ppm))
    else:
        order.held_lots -= lots
        order.account.sold(order.instrument.symbol, lots, value, charged)
    return charged


def release(order: Order) -> None:
    """Give back whatever an ending order still holds."""
    _hold_exactly(order, 0)
    if order.held_lots:
        order.account.positions[order.instrument.symbol].held_lots -= order.held_lots
        order.held_lots = 0


def _limit_hold(order: Order, fee_ppm: int) -> int:
    if order.terms.limit_ticks is None:
        return 0
    rest = order.instrument.value(order.terms.limit_ticks * order.open_lots)
    return rest + fee(order.filled_micros + rest, fee_ppm) - order.fee_micros


def _hold_exactly(order: Order, micros: int) -> None:
    order.account.held_micros += micros - order.held_micros
    order.held_micros = micros


def _hold_lots(order: Order) -> None:
    instrument, wanted = order.instrument, order.terms.lots
    position = order.account.positions.get(instrument.symbol) or Position()
    if wanted > position.available_lots:
        available = str(instrument.shares(position.available_lots))
        raise OrderRefusedError(
            Reason.INSUFFICIENT_QUANTITY,
            f"insufficient qty available for order (requested: {instrument.shares(wanted)}, available: {available})",
            available=available,
            existing_qty=str(instrument.shares(position.lots)),
            held_for_orders=str(instrument.shares(position.held_lots)),
            symbol=instrument.symbol,
        )
    position.held_lots += wanted
    order.held_lots = wanted
