"""What an order must hold, and what counts it: claims in three scopes, and the guards over time.

Requirements: SEC Rule 15c3-5 (c)(1) and RTS 6 Art. 15 as read in the governance study, table 5.3: exposure and position
of agent, account and firm with every open and unknown order, a window for duplicates, a rate of messages, and a latch
on repeated executions. All of it is checked in the one transaction that reserves.
"""

import hashlib
from collections.abc import Iterator

import msgspec

from gateway.terms.caller import Caller
from gateway.terms.gcra import Pace
from gateway.terms.ids import ToolName
from gateway.terms.limits import LimitProfile
from gateway.terms.money import BOUGHT, LONG_MAX, SOLD, MicroUsd, Unit
from gateway.terms.operations import Claim, Demand, Guard, Latch, Rate, Similar
from gateway.tools.cover import Cover, Places, sided
from gateway.tools.pretrade import Order, Side


class Trading(msgspec.Struct, frozen=True, kw_only=True):
    """Who trades where, within which limits."""

    caller: Caller
    limits: LimitProfile
    venue: str
    account: str

    def places(self, symbol: str) -> Places:
        """Where the ledger counts what is traded of a symbol."""
        return Places.of(self._scopes(), symbol)

    def order(self, tool: ToolName, order: Order, cover: Cover | None, *, shorts: bool) -> Demand:
        """What an order within the limits of one order must still hold.

        `shorts`: the venue lets an account owe what it sells. Where it does not, nobody can be short.
        """
        places = self.places(order.symbol)
        exposure = order.adds_exposure(self.limits.collar_bps)
        traded = self._traded(order, cover, places) if shorts else ()
        return Demand(
            amounts={Unit.CALLS: 1, Unit.NOTIONAL: order.notional},
            claims=(
                *self._exposures(exposure),
                *self._lots(order, exposure, places),
                *self._positions(order, places),
                *traded,
            ),
            guards=tuple(self._order_guards(tool, order)),
        )

    def cancel(self) -> Demand:
        """What a cancel must hold: no budget, for an empty one must not keep an order open; it is one message."""
        messages = self.limits.messages
        return Demand(amounts={}, guards=() if messages is None else (self._message(messages.cancel_reserve),))

    def _exposures(self, amount: MicroUsd) -> Iterator[Claim]:
        """The widest scope first, as budgets are held."""
        limits = self.limits
        most = limits.exposure_max
        firm = most if limits.firm_exposure_max is None else limits.firm_exposure_max
        agent = most if limits.agent_exposure_max is None else limits.agent_exposure_max
        for scope, limit in zip(self._scopes(), (firm, most, agent), strict=True):
            yield Claim(
                scope=scope,
                unit=Unit.EXPOSURE,
                window="total",
                limit=limit,
                amount=amount,
                barrier=limits.barrier,
                steps_ms=limits.shared.barriers_ms,
            )

    def _lots(self, order: Order, exposure: MicroUsd, places: Places) -> Iterator[Claim]:
        """What tells the ledger what an order adds to exposure or gives back (see `gateway.ledger.lots`)."""
        window, way = f"{self.venue}/{self.account}", BOUGHT if order.side is Side.BUY else SOLD
        for scope in (places.account, places.agent):
            for unit in (Unit.POSITION, Unit.BOOK):
                yield Claim(scope=scope, unit=unit, window=window, limit=LONG_MAX, amount=0)
        for unit, amount in ((Unit.FILLED, order.quantity), (Unit.PAID, exposure), (Unit.OPEN, 0)):
            yield Claim(scope=places.account, unit=unit, window=way, limit=LONG_MAX, amount=amount, passes=True)

    def _positions(self, order: Order, places: Places) -> Iterator[Claim]:
        most = self.limits.position_max
        limits = ((places.firm, most.firm), (places.account, most.account), (places.agent, most.agent))
        for place, limit in limits:
            if limit is not None:
                yield Claim(
                    scope=place,
                    unit=Unit.POSITION,
                    window="total",
                    limit=limit,
                    amount=order.adds_position,
                    passes=order.reduces,
                )

    def _traded(self, order: Order, cover: Cover | None, places: Places) -> Iterator[Claim]:
        """What bounds a short position, and what makes racing orders that close one stand in line (see `cover`)."""
        most, own = self.limits.position_max, order.side
        if cover is not None:
            beyond = None if order.reduces else most.account
            limit = cover.limit + (beyond or 0)
            free = not order.reduces and (own is Side.BUY or beyond is None)
            yield Claim(
                scope=sided(places.account, own),
                unit=Unit.TRADED,
                window="total",
                limit=limit,
                amount=order.quantity,
                passes=free,
                reason="limit.uncovered" if order.reduces else "limit.position",
            )
            yield _counted(Unit.FILLED, sided(places.account, own), order)
        offsets = (0, 0) if cover is None else (cover.firm_offset, cover.agent_offset)
        for place, limit_max, offset in zip((places.firm, places.agent), (most.firm, most.agent), offsets, strict=True):
            if limit_max is None:
                continue
            if own is Side.BUY:
                yield _counted(Unit.FILLED, sided(place, own), order)
            else:
                limit = limit_max + offset
                yield _counted(Unit.TRADED, sided(place, own), order, limit=limit, passes=order.reduces)

    def _order_guards(self, tool: ToolName, order: Order) -> Iterator[Guard]:
        limits = self.limits
        if limits.messages is not None:
            yield self._message(0)
        kept_ms = max(limits.duplicate_window_ms, limits.shared.duplicates_ms)
        if kept_ms:
            alike = _digest(order.symbol, order.side, str(order.limit_price), str(order.quantity))
            window_ms = limits.duplicate_window_ms
            yield Similar(scope=self._account, digest=alike, window_ms=window_ms, kept_ms=kept_ms)
        if limits.repeats is not None:
            yield Latch(
                scope=f"agent:{self.caller.agent}/{tool}",
                digest=strategy(tool, order),
                executions=limits.repeats.executions,
                window_ms=limits.repeats.window_ms,
            )

    def _message(self, reserve: int) -> Rate:
        """One bucket for every message to the venue, whose last part only those with a reserve may take."""
        messages = self.limits.messages
        if messages is None:
            raise ValueError("without a message rate there is nothing to count")
        return Rate(
            scope=f"agent:{self.caller.agent}@{self.venue}",
            pace=Pace.per_minute(messages.per_minute, messages.burst + reserve),
            burst_max=messages.burst + messages.cancel_reserve,
        )

    def _scopes(self) -> tuple[str, str, str]:
        return f"tenant:{self.caller.tenant}", self._account, f"agent:{self.caller.agent}"

    @property
    def _account(self) -> str:
        return f"account:{self.venue}/{self.account}"


def _counted(unit: Unit, scope: str, order: Order, *, limit: int = LONG_MAX, passes: bool = True) -> Claim:
    return Claim(scope=scope, unit=unit, window="total", limit=limit, amount=order.quantity, passes=passes)


def strategy(tool: ToolName, order: Order) -> bytes:
    """What two executions of one strategy share: tool, symbol, side, and whether there is a price; not how much."""
    return _digest(tool, order.symbol, order.side, "limit" if order.limit_price else "market")


def _digest(*parts: str) -> bytes:
    return hashlib.sha256(b"".join([len(part).to_bytes(4, "big") + part for part in map(str.encode, parts)])).digest()
