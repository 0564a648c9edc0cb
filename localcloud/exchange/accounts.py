"""Accounts at the paper exchange: cash, positions, and what of both is held back for open orders."""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Position:
    """Lots of one instrument held long, how many of them open sell orders hold, and their cost in micro-dollars."""

    lots: int = 0
    held_lots: int = 0
    cost_micros: int = 0

    @property
    def available_lots(self) -> int:
        """Lots that a new sell order may promise."""
        return self.lots - self.held_lots


@dataclass(slots=True, kw_only=True, eq=False)
class Account:
    """A customer's or the market maker's account. Money in micro-dollars; never negative, never short."""

    id: str
    number: str
    key_id: str
    cash_micros: int
    held_micros: int = 0
    opened_us: int = 0
    positions: dict[str, Position] = field(default_factory=dict)

    @property
    def buying_power_micros(self) -> int:
        """Cash that no open order has a claim on (a cash account: multiplier 1)."""
        return self.cash_micros - self.held_micros

    def position(self, symbol: str) -> Position:
        """The position in a symbol, which is a new empty one (not entered in the account) when there is none."""
        return self.positions.get(symbol) or Position()

    def bought(self, symbol: str, lots: int, value_micros: int, fee_micros: int) -> None:
        """Book a purchase: cash goes out, lots and their cost come in; the fee is no part of the cost."""
        position = self.positions.setdefault(symbol, Position())
        position.lots += lots
        position.cost_micros += value_micros
        self.cash_micros -= value_micros + fee_micros

    def sold(self, symbol: str, lots: int, value_micros: int, fee_micros: int) -> None:
        """Book a sale of held lots at their average cost; an emptied position disappears."""
        position = self.positions[symbol]
        position.cost_micros -= position.cost_micros * lots // position.lots
        position.lots -= lots
        position.held_lots -= lots
        self.cash_micros += value_micros - fee_micros
        if not position.lots:
            del self.positions[symbol]
