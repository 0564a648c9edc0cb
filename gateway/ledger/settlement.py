"""The second commit of an operation: outcome, charges and record become durable together."""

from dataclasses import dataclass
from typing import Final

from gateway.ledger import rows
from gateway.ledger.book import Book, Row
from gateway.ledger.states import ImpossibleTransitionError, event_of, following
from gateway.terms.money import LONG_MAX, Unit
from gateway.terms.operations import (
    Failed,
    Operation,
    Outcome,
    Receipt,
    Reservation,
    Settlement,
    State,
    Succeeded,
)

_STANDING: Final = "SELECT number, state, fence FROM operations WHERE id = ?"

_CONCLUDE: Final = (
    "UPDATE operations SET state = ?, result = ?, failure_reason = ?, failure_message = ?,"  # noqa: S608 - constants
    " outcome_instance = ?, outcome_boot = ?, outcome_sequence = ?, outcome_leaf = ?, fence = ?"
    f" WHERE number = ? AND fence = ? AND state = ? RETURNING {rows.COLUMNS}"
)
"""Compare and set: with another state or fence, no row is changed."""

_HOLDS: Final = "SELECT scope, unit, time_window, amount FROM holds WHERE operation = ? AND state IN ('held', 'kept')"
_HOLD: Final = (
    "UPDATE holds SET charged = ?, state = ? WHERE operation = ? AND scope = ? AND unit = ? AND time_window = ?"
)
_KEEP: Final = "UPDATE holds SET state = 'kept' WHERE operation = ? AND state = 'held'"
_BALANCE: Final = (
    "UPDATE balances SET held = held - ?, spent = spent + ? WHERE scope = ? AND unit = ? AND time_window = ?"
)


class SettlementError(Exception):
    """This reservation cannot be settled so: a defect of the caller, and nothing was changed."""


class AlreadySettledError(SettlementError):
    """The operation has its outcome, or another owner: a reservation is settled once."""


@dataclass(frozen=True, slots=True)
class Settling:
    """The unit of work that settles."""

    settlement: Settlement

    def __call__(self, book: Book) -> Operation:
        """See `Ledger.settle`."""
        reservation, outcome = self.settlement.reservation, self.settlement.outcome
        standing, after = _standing(book, reservation, outcome)
        charges = _charges(outcome)
        ending = Ending(state=after, outcome=outcome, receipt=book.append(self.settlement.record))
        operation = conclude(book, standing, ending)
        if isinstance(outcome, Succeeded | Failed):
            _charge(book, standing.number, charges, as_held=isinstance(outcome, Succeeded))
        else:
            keep_holds(book, standing.number)
        return operation


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an operation stands before a change; if it stands elsewhere, nothing is changed."""

    number: int
    state: State
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What an operation comes to."""

    state: State
    outcome: Outcome
    receipt: Receipt
    fences_out: bool = False
    """Take the operation from its owner, who may only be paused."""


def conclude(book: Book, standing: Standing, ending: Ending) -> Operation:
    """Write the ending. Raises `AlreadySettledError` when the operation no longer stands there."""
    result, failure = _parts(ending.outcome)
    changed = book.all(
        _CONCLUDE,
        (
            ending.state,
            result,
            *failure,
            *rows.receipt_row(ending.receipt),
            standing.fence + ending.fences_out,
            standing.number,
            standing.fence,
            standing.state,
        ),
    )
    if not changed:
        raise AlreadySettledError("the operation changed meanwhile: it is not settled twice")
    return rows.operation(changed[0])


def keep_holds(book: Book, number: int) -> None:
    """Nobody knows whether the effect happened, so everything stays held."""
    book.change(_KEEP, (number,))


def _standing(book: Book, reservation: Reservation, outcome: Outcome) -> tuple[Standing, State]:
    """Where the operation stands now, and its state after the outcome."""
    found = book.all(_STANDING, (reservation.operation,))
    if not found:
        raise SettlementError(f"there is no operation {reservation.operation}: only an admitted call can be settled")
    number, state, fence = found[0]
    if fence != reservation.fence:
        raise AlreadySettledError(f"the operation {reservation.operation} has another owner now; this one lost it")
    standing = Standing(int(number or 0), State(str(state)), reservation.fence)
    try:
        return standing, following(standing.state, event_of(outcome))
    except ImpossibleTransitionError as error:
        raise AlreadySettledError(f"the operation {reservation.operation} is settled: {error}") from error


def _parts(outcome: Outcome) -> tuple[bytes, tuple[str | None, str | None]]:
    if isinstance(outcome, Succeeded):
        return outcome.result, (None, None)
    return b"", (outcome.failure.reason, outcome.failure.message)


def _charges(outcome: Outcome) -> dict[Unit, int]:
    """The charges by unit. Only exposure can be charged negatively: a sale gives back what a purchase took."""
    charges: dict[Unit, int] = {}
    if isinstance(outcome, Succeeded | Failed):
        for unit, amount in outcome.charges:
            if unit in charges:
                raise SettlementError(f"two charges of {unit}: add them up")
            if abs(amount) > LONG_MAX or (amount < 0 and unit is not Unit.EXPOSURE):
                raise SettlementError(f"{amount} {unit} cannot be charged: only exposure is given back")
            charges[unit] = amount
    return charges


def _charge(book: Book, number: int, charges: dict[Unit, int], *, as_held: bool) -> None:
    """Put the charges in the place of what was held; without one, the held amount (`as_held`) or nothing."""
    holds: list[Row] = []
    balances: list[Row] = []
    for scope, unit, window, amount in book.all(_HOLDS, (number,)):
        charged = charges.get(Unit(str(unit)), amount if as_held else 0)
        holds.append((charged, "settled" if charged else "released", number, scope, unit, window))
        balances.append((amount, charged, scope, unit, window))
    book.change_each(_HOLD, holds)
    book.change_each(_BALANCE, balances)
