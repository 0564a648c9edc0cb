"""The second commit of an operation: outcome, charges and record become durable together."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from gateway.ledger import lots
from gateway.ledger.barrier import place
from gateway.ledger.book import Book
from gateway.ledger.entries import HOLDING, Balance, Hold, Reads, Stored
from gateway.ledger.guards import forget, forgettable
from gateway.ledger.states import ImpossibleTransitionError, event_of, following
from gateway.ledger.tables import BALANCES, Value
from gateway.terms.faults import AlreadySettledError, LedgerUnavailableError, SettlementError
from gateway.terms.money import LONG_MAX, OWN, SIGNED
from gateway.terms.operations import (
    Failed,
    Loss,
    Operation,
    Outcome,
    Receipt,
    Reservation,
    Settlement,
    State,
    Succeeded,
    Unknown,
)

AT_ONCE: Final = 0
"""Before every moment."""


class Settling(msgspec.Struct, frozen=True):
    """The unit of work that settles."""

    settlement: Settlement

    def reads(self) -> Reads:
        """The operation, the balances that its claims are held in, and what a failure takes back of its guards."""
        reservation = self.settlement.reservation
        balances = tuple((BALANCES, place(claim)) for claim in reservation.claims if claim.window not in OWN)
        failed = isinstance(self.settlement.outcome, Failed)
        forgotten = forgettable(reservation.guards) if failed else ()
        return Reads(operations=(reservation.operation,), rows=(*balances, *forgotten))

    def __call__(self, book: Book) -> Operation:
        """See `Ledger.settle`."""
        reservation, outcome = self.settlement.reservation, self.settlement.outcome
        before, state = _standing(book, reservation, outcome)
        held, record = before.held, self.settlement.record
        if isinstance(outcome, Succeeded | Failed):
            changed, record = charging(book, held, outcome, record)
            move(book, held, changed)
        else:
            changed = kept(held)
        operation = ended(before.operation, state, outcome, book.append(record))
        if isinstance(outcome, Failed):
            forget(book, reservation.guards, reservation.operation)
        look_us = look(before, outcome, self.settlement.look_unix_us)
        book.change(before, before._replace(operation=operation, look_unix_us=look_us), changed)
        return operation


def look(before: Stored, outcome: Outcome, planned_unix_us: int | None) -> int | None:
    """When to look what became of it: as planned, where somebody can be asked; at once for what is to be withdrawn."""
    if isinstance(outcome, Unknown):
        goes_on = before.care.loss is Loss.ASK
    else:
        goes_on = isinstance(outcome, Succeeded) and outcome.live
    if planned_unix_us is None or not goes_on:
        return None
    return AT_ONCE if before.withdraw else planned_unix_us


def ended(operation: Operation, state: State, outcome: Outcome, receipt: Receipt) -> Operation:
    """What an operation is after an outcome."""
    if isinstance(outcome, Succeeded):
        return replace(operation, state=state, result=outcome.result, failure=None, outcome=receipt)
    return replace(operation, state=state, result=b"", failure=outcome.failure, outcome=receipt)


def kept(held: Sequence[Hold]) -> tuple[Hold, ...]:
    """Nobody knows whether the effect happened, so everything stays held."""
    return tuple(replace(hold, state="kept") for hold in held if hold.state != "kept")


def _standing(book: Book, reservation: Reservation, outcome: Outcome) -> tuple[Stored, State]:
    """The operation as it stands now, and its state after the outcome."""
    before = book.stored(reservation.operation)
    if before is None:
        raise SettlementError(f"there is no operation {reservation.operation}: only an admitted call can be settled")
    if before.fence != reservation.fence:
        raise AlreadySettledError(f"the operation {reservation.operation} has another owner now; this one lost it")
    try:
        return before, following(before.operation.state, event_of(outcome))
    except ImpossibleTransitionError as error:
        raise AlreadySettledError(f"the operation {reservation.operation} is settled: {error}") from error


def charges_of(outcome: Outcome) -> dict[Value, int]:
    """The charges by unit. Only what is signed can be charged negatively: a sale gives back what a purchase took."""
    charges: dict[Value, int] = {}
    if isinstance(outcome, Succeeded | Failed):
        for unit, amount in outcome.charges:
            if unit in charges:
                raise SettlementError(f"two charges of {unit}: add them up")
            if abs(amount) > LONG_MAX or (amount < 0 and unit not in SIGNED):
                raise SettlementError(f"{amount} {unit} cannot be charged: only exposure and position are given back")
            charges[unit] = amount
    return charges


class _Booked(msgspec.Struct, frozen=True):
    """What a record says of a hold that is not charged as its unit alone would be."""

    scope: Value
    unit: Value
    window: Value
    charged: int


class Charged(NamedTuple):
    """Holds as they were charged, and the record that says so."""

    holds: tuple[Hold, ...]
    record: bytes


def charging(book: Book, held: Sequence[Hold], outcome: Succeeded | Failed, record: bytes) -> Charged:
    """What an outcome charges in the place of each hold; the record then tells all that its charges alone do not."""
    plain = by_unit(held, charges_of(outcome), as_held=isinstance(outcome, Succeeded))
    told = lots.settled(book, held, plain, live=isinstance(outcome, Succeeded) and outcome.live)
    holds = charged(held, told)
    booked = [
        _Booked(hold.place[0], hold.place[1], hold.place[2], charge)
        for hold, charge, plainly in zip(held, told, plain, strict=True)
        if charge != plainly
    ]
    if not booked:
        return Charged(holds, record)
    # A record is one JSON object; what is found in here is its last member (see `gateway.audit.amounts`).
    return Charged(holds, record[:-1] + b',"booked":' + msgspec.json.encode(booked) + b"}")


def by_unit(held: Sequence[Hold], charges: Mapping[Value, int], *, as_held: bool) -> list[int]:
    """What each unit is charged; without a charge, the held amount (`as_held`) or nothing."""
    return [charges.get(hold.place[1], hold.amount if as_held else 0) for hold in held]


def charged(held: Sequence[Hold], charges: Sequence[int]) -> tuple[Hold, ...]:
    """The charges in the place of what was held."""
    return tuple(
        [
            Hold(hold.place, hold.amount, charge, "settled" if charge else "released")
            for hold, charge in zip(held, charges, strict=True)
        ]
    )


def move(book: Book, held: Sequence[Hold], changed: tuple[Hold, ...]) -> None:
    """Move the balances from what was held to what is charged."""
    for hold, after in zip(held, changed, strict=True):
        at = hold.place
        if at[2] in OWN:
            continue
        was_held, was_spent = book.balance(at)
        # What was charged before, of an effect that went on, is charged anew.
        still_held = was_held - hold.amount if hold.state in HOLDING else was_held
        spent = was_spent - hold.charged + after.charged
        if still_held < 0 or (spent < 0 and at[1] not in SIGNED):
            raise LedgerUnavailableError(f"the balance {at} is wrong: run `gateway ledger check`")
        if abs(spent) > LONG_MAX:
            raise LedgerUnavailableError(f"the balance {at} would pass 64 bits: nothing was charged")
        if still_held != was_held or spent != was_spent:
            book.put(BALANCES, at, Balance(still_held, spent))
