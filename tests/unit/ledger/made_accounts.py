"""An account at a venue that lets it owe what it sells, and orders as the gateway admits them into a ledger."""

from dataclasses import dataclass, field, replace
from decimal import Decimal

from made_calls import CALLER

from gateway.terms.limits import LimitProfile
from gateway.terms.money import MICRO, NANO, Unit
from gateway.terms.operations import Failed, Failure, Reservation, Succeeded, Unknown
from gateway.terms.verdict import Refusal
from gateway.tools import pretrade
from gateway.tools.cover import Covering, needed
from gateway.tools.order_demand import Trading
from gateway.tools.pretrade import Order, Side

BUY, SELL = Side.BUY, Side.SELL
PRICE = 100 * MICRO
LONG_ONLY = LimitProfile(
    name="long",
    quantity_max=1_000 * NANO,
    notional_max=10**6 * MICRO,
    collar_bps=500,
    reference_age_ms_max=5_000,
    exposure_max=10**6 * MICRO,
)
SHORTS = replace(LONG_ONLY, name="shorts", short_sales=True)
NO = Failed(failure=Failure(reason="venue.rejected", message="The venue said no."))
LOST = Unknown(failure=Failure(reason="upstream.reply_lost", message="No reply came."))


@dataclass
class Account:
    """What it holds is changed by fills alone, however it is asked for."""

    held: Decimal = Decimal(0)
    limits: LimitProfile = LONG_ONLY
    agent: str = "trader"
    name: str = "main"
    during: list = field(default_factory=list)
    """What happens while the venue is asked, after it has looked."""

    async def position(self, symbol):
        held = self.held
        for happens in self.during:
            await happens()
        return held

    async def claims(self, desk, side, shares, limits=None):
        """What an order must hold, from facts that are read now; or why it is refused before."""
        limits = limits or self.limits
        caller = replace(CALLER, agent=self.agent)
        trading = Trading(caller=caller, limits=limits, venue="paper", account=self.name)
        cover = None
        if needed(limits, side):
            covering = Covering(
                places=trading.places("AAPL"),
                symbol="AAPL",
                side=side,
                tally=desk.ledger.tally,
                position=self.position,
            )
            cover = await covering.cover(await covering.counted())
        order = Order(
            symbol="AAPL",
            side=side,
            quantity=shares * NANO,
            limit_price=PRICE,
            reference=PRICE,
            reference_age_ms=0,
            reduces=cover is not None and cover.free >= shares * NANO,
        )
        if side is SELL and not (order.reduces or limits.short_sales):
            return pretrade.short_sale(order, cover.position, cover.free)
        return trading.order("place_order", order, cover, shorts=True).claims

    async def order(self, desk, side, shares, limits=None):
        """Admit an order, or say why not."""
        claims = await self.claims(desk, side, shares, limits)
        return claims if isinstance(claims, Refusal) else await desk.admit(claims=claims)

    async def filled(self, desk, reservation, side, shares, price=PRICE):
        """The venue fills all of it, and the gateway is told."""
        self.fill(side, shares)
        await desk.settle(reservation, came_to(reservation, side, shares, shares, price=price))

    def fill(self, side, shares):
        self.held += shares if side is BUY else -shares


def came_to(reservation: Reservation, side, wanted, filled, *, live=False, price=PRICE):
    """What an order is charged as it stands at the venue, filled at this price on average."""
    rest = wanted - filled if live else 0
    reduces = not any(claim.amount for claim in reservation.claims if claim.unit is Unit.EXPOSURE)
    charges = (
        (Unit.EXPOSURE, 0 if reduces else filled * price + rest * PRICE),
        (Unit.POSITION, (filled + rest) * NANO if side is BUY else -filled * NANO),
        (Unit.TRADED, (filled + rest) * NANO),
        (Unit.FILLED, filled * NANO),
        (Unit.PAID, 0 if reduces else filled * price),
    )
    return Succeeded(result=b"{}", charges=charges, live=live)


def reason_of(verdict):
    """Why an order was refused; empty for one that was admitted."""
    return verdict.reason if isinstance(verdict, Refusal) else ""
