"""The hard limits of one order: pure integer arithmetic that no rounding passes.

Requirements: SEC Rule 15c3-5 (c)(1) and (c)(2) and RTS 6 Art. 15(1) as read in the governance study, table 5.3: the
restricted list, value and volume of each order, and a price collar against a fresh reference. What is counted over many
orders is in `gateway.tools.order_demand`.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.terms.ids import RuleId
from gateway.terms.limits import LimitProfile
from gateway.terms.money import LONG_MAX, MICRO, NANO, MicroUsd, NanoUnits, notional, written
from gateway.terms.verdict import Kind, Refusal


class Side(StrEnum):
    """What an order does to the position."""

    BUY = "buy"
    SELL = "sell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the limits look at."""

    symbol: str
    side: Side
    quantity: NanoUnits
    limit_price: MicroUsd
    """0 for a market order."""
    reference: MicroUsd
    reference_age_ms: int
    reduces: bool
    """Whether what the account holds, or owes, covers all of it: then it opens nothing."""

    @property
    def notional(self) -> MicroUsd:
        """What the order is worth at its limit price or the reference price, whichever is higher; rounded up."""
        return notional(self.quantity, max(self.limit_price, self.reference))

    def adds_exposure(self, collar_bps: int) -> MicroUsd:
        """What must be held of every exposure: nothing for what reduces.

        A short sale has no price that bounds what it may come to cost; it counts at the collar's upper end.
        """
        if self.reduces:
            return MicroUsd(0)
        if self.side is Side.BUY:
            return self.notional
        collar = MicroUsd(-(-self.reference * (10_000 + collar_bps) // 10_000))
        return notional(self.quantity, max(self.limit_price, collar))

    @property
    def adds_position(self) -> NanoUnits:
        """What must be held of every long position in the symbol."""
        return self.quantity if self.side is Side.BUY else NanoUnits(0)


def no_profile() -> Refusal:
    """The refusal of everything but reads for an agent without limits (RTS 6 Art. 8)."""
    return _refusal("limit.no_profile", "This agent has no limit profile, so it only reads; ask the operator for one.")


def no_reference(why: str) -> Refusal:
    """The refusal of an order that cannot be compared with the market."""
    return Refusal(
        kind=Kind.UNAVAILABLE,
        reason="limit.no_reference",
        sentence=f"There is no usable reference price: {why}. Nothing was sent; try again when the market quotes.",
        rules=(RuleId("limit.no_reference"),),
    )


def no_position(why: str) -> Refusal:
    """The refusal of an order that cannot be compared with what the account holds."""
    return Refusal(
        kind=Kind.UNAVAILABLE,
        reason="limit.no_position",
        sentence=f"It is not known what the account holds: {why}. Nothing was sent; try again.",
        rules=(RuleId("limit.no_position"),),
    )


def short_sale(order: Order, held: int, free: int) -> Refusal:
    """The refusal of a sale of more than the account holds, for an agent that may not sell short."""
    asked, has, most = written(order.quantity, NANO), written(held, NANO), written(max(0, free), NANO)
    return _refusal(
        "limit.short_sale",
        f"The order sells {asked} {order.symbol}; the account holds {has}, and with every open and unknown sale {most}"
        " are left to sell. This agent may not sell short: sell at most that, cancel an open sale first, or ask the"
        " operator for short_sales.",
    )


def check(limits: LimitProfile, order: Order) -> Refusal | None:
    """Refuse an order beyond a limit, naming what was asked and what is allowed; None if it is within all of them."""
    return (
        restricted(limits, order.symbol)
        or incomparable(limits, order)
        or _quantity(limits, order)
        or _notional(limits, order, limits.notional_max)
        or _collar(limits, order)
    )


def restricted(limits: LimitProfile, symbol: str) -> Refusal | None:
    """Refuse a symbol of the restricted list, whichever way it is traded.

    Symbols are compared exactly: the tool's schema takes no other way to write one (attack row 15).
    """
    if symbol not in limits.restricted:
        return None
    return _refusal("limit.restricted", f"{symbol} is on the restricted list; it may be neither bought nor sold.")


def incomparable(limits: LimitProfile, order: Order) -> Refusal | None:
    """Refuse an order whose reference price says nothing about the market now, or whose worth is beyond 64 bits."""
    if order.reference <= 0:
        return no_reference("the price is not above zero")
    if order.reference_age_ms < 0:
        return no_reference("the price is from the future")
    if order.reference_age_ms > limits.reference_age_ms_max:
        age, most = order.reference_age_ms, limits.reference_age_ms_max
        return no_reference(f"the price is {age} ms old and at most {most} ms are allowed")
    return _notional(limits, order, MicroUsd(LONG_MAX))


def _quantity(limits: LimitProfile, order: Order) -> Refusal | None:
    if 0 < order.quantity <= limits.quantity_max:
        return None
    asked, most = written(order.quantity, NANO), written(limits.quantity_max, NANO)
    return _refusal(
        "limit.quantity", f"The order is for {asked} units; this agent may order more than 0 and at most {most}."
    )


def _notional(limits: LimitProfile, order: Order, bound: MicroUsd) -> Refusal | None:
    worth = order.notional
    if worth <= bound:
        return None
    asked, most = written(worth, MICRO), written(limits.notional_max, MICRO)
    return _refusal("limit.notional", f"The order is worth {asked} USD; this agent may order at most {most} USD.")


def _collar(limits: LimitProfile, order: Order) -> Refusal | None:
    """Both ways: a price far below the market is as surely a mistake as one far above it."""
    if (
        order.limit_price == 0
        or abs(order.limit_price - order.reference) * 10_000 <= limits.collar_bps * order.reference
    ):
        return None
    price, reference = written(order.limit_price, MICRO), written(order.reference, MICRO)
    return _refusal(
        "limit.collar",
        f"The limit price {price} USD is further from the reference price {reference} USD than the allowed "
        f"{limits.collar_bps} hundredths of a per cent.",
    )


def _refusal(rule: str, sentence: str) -> Refusal:
    return Refusal(kind=Kind.FORBIDDEN, reason=rule, sentence=sentence, rules=(RuleId(rule),))
