"""Looking after effects: an operation is taken by one owner, and concluded or given back by no other."""

from dataclasses import dataclass

from msgspec.structs import replace

from gateway.ledger.book import Book
from gateway.ledger.entries import Hold, Owner, Reads, Search, Stored
from gateway.ledger.guards import forget, forgettable
from gateway.ledger.settlement import AT_ONCE, Charged, charging, ended, move
from gateway.ledger.states import Event, event_of, following
from gateway.ledger.tables import BALANCES
from gateway.terms.aftercare import Room, Watched
from gateway.terms.faults import AlreadySettledError
from gateway.terms.money import OWN, Unit
from gateway.terms.operations import Failed, Operation, Similar, State, Succeeded
from gateway.terms.overview import Overview


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """The unit of work that gives operations which are due to be looked for to one owner, until a lease ends."""

    now_unix_us: int
    lease_ms: int
    rooms: tuple[Room, ...]

    def reads(self) -> Reads:
        """What is due, for each room a search of its own: what fills one leaves the others as they are."""
        return Reads(searches=tuple(map(self._due, self.rooms)))

    def __call__(self, book: Book) -> tuple[Watched, ...]:
        """They are this owner's now. Of an effect that goes on, another may take over when the lease ends."""
        return tuple(self._take(book, before) for room in self.rooms for before in book.found(self._due(room)))

    def _due(self, room: Room) -> Search:
        return Search(
            states=(State.UNKNOWN, State.SUCCEEDED),
            due_unix_us=self.now_unix_us,
            marked=room.withdraw,
            tools=room.tools,
            other_tools=room.other_tools,
            limit=room.most,
        )

    def _take(self, book: Book, before: Stored) -> Watched:
        lease_us = self.now_unix_us + self.lease_ms * 1_000
        operation = before.operation
        look_us: int | None = lease_us
        if operation.state is State.UNKNOWN:
            state = following(State.UNKNOWN, Event.ASK)
            operation, look_us = replace(operation, state=state, lease_until_unix_us=lease_us), None
        after = before._replace(
            operation=operation,
            look_unix_us=look_us,
            fence=before.fence + 1,
            owner=Owner(book.chain.instance, book.chain.boot),
        )
        book.change(before, after)
        return Watched(
            operation=operation,
            memo=before.care.memo,
            held=_greatest(before.holds),
            looks=before.looks,
            withdraw=before.withdraw,
            fence=after.fence,
            similar=before.care.similar,
        )


def _greatest(holds: tuple[Hold, ...]) -> tuple[tuple[Unit, int], ...]:
    found: dict[Unit, int] = {}
    for hold in holds:
        _, unit, _ = hold.place
        found[Unit(str(unit))] = max(hold.amount, found.get(Unit(str(unit)), 0))
    return tuple(found.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Concluding:
    """The unit of work that makes durable what was found out, once."""

    watched: Watched
    outcome: Succeeded | Failed
    record: bytes
    look_unix_us: int | None

    def reads(self) -> Reads:
        """The operation, as it was taken, and what is forgotten if nothing came of it."""
        return Reads(searches=(_taken(self.watched),), rows=forgettable(self._forgotten))

    @property
    def _forgotten(self) -> tuple[Similar, ...]:
        """Only of what was lost: an order that ended later was there, whatever came of it."""
        return self.watched.similar if self.watched.lost and isinstance(self.outcome, Failed) else ()

    def __call__(self, book: Book) -> Operation:
        """Charge what is true now in the place of what was held or charged before.

        Raises `AlreadySettledError` for one that has another owner by now.
        """
        before = _owned(book, self.watched)
        holds = before.holds
        changed = charging(book, holds, self.outcome, self.record)
        if self.watched.lost:
            return self._ended(book, before, changed)
        return self._followed(book, before, changed)

    def _ended(self, book: Book, before: Stored, changed: Charged) -> Operation:
        state = following(before.operation.state, event_of(self.outcome))
        forget(book, self._forgotten, before.operation.id)
        operation = ended(before.operation, state, self.outcome, book.append(changed.record))
        self._change(book, before, operation, changed.holds)
        return operation

    def _followed(self, book: Book, before: Stored, changed: Charged) -> Operation:
        """The stored answer stays what it was; what it cost may have become less, and the record says so."""
        same = changed.holds == before.holds
        if same and self.look_unix_us is not None:
            look_us = look_now(before, self.watched, self.look_unix_us)
            book.change(before, _given_back(before, before.operation, look_us, looks=before.looks + 1))
            return before.operation
        operation = replace(before.operation, outcome=book.append(changed.record))
        self._change(book, before, operation, changed.holds)
        return operation

    def _change(self, book: Book, before: Stored, operation: Operation, changed: tuple[Hold, ...]) -> None:
        move(book, before.holds, changed)
        look_us = look_now(before, self.watched, self.look_unix_us)
        book.change(before, _given_back(before, operation, look_us, looks=0), changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponing:
    """The unit of work that gives an operation back: nobody knows yet, or nobody but an operator ever will."""

    watched: Watched
    look_unix_us: int | None

    def reads(self) -> Reads:
        """The operation, as it was taken."""
        return Reads(searches=(_taken(self.watched),))

    def __call__(self, book: Book) -> Operation:
        """It is as unknown as before. Raises `AlreadySettledError` for one that has another owner by now."""
        before = _owned(book, self.watched)
        operation = before.operation
        if self.watched.lost:
            operation = replace(operation, state=following(operation.state, Event.DOUBT))
        look_us = look_now(before, self.watched, self.look_unix_us)
        book.change(before, _given_back(before, operation, look_us, looks=before.looks + 1))
        return operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolving:
    """The unit of work by which an operator gives an unknown operation its outcome."""

    seen: Overview
    outcome: Succeeded | Failed
    record: bytes

    def reads(self) -> Reads:
        """The operation, the balances in which it holds something, and what is forgotten if nothing came of it."""
        places = ((held.scope, held.unit, held.window) for held in self.seen.held if held.window not in OWN)
        balances = tuple((BALANCES, at) for at in places)
        return Reads(operations=(self.seen.operation.id,), rows=(*balances, *forgettable(self._forgotten)))

    @property
    def _forgotten(self) -> tuple[Similar, ...]:
        return self.seen.similar if isinstance(self.outcome, Failed) else ()

    def __call__(self, book: Book) -> Operation:
        """Raises `AlreadySettledError` if it no longer stands as the operator saw it."""
        before = book.stored(self.seen.operation.id)
        if before is None or before.fence != self.seen.fence or before.operation.state is not State.UNKNOWN:
            raise AlreadySettledError("the operation changed meanwhile: look at it again")
        event = Event.AFFIRM if isinstance(self.outcome, Succeeded) else Event.DENY
        held = before.held
        changed, record = charging(book, held, self.outcome, self.record)
        move(book, held, changed)
        forget(book, self._forgotten, before.operation.id)
        state = following(before.operation.state, event)
        operation = ended(before.operation, state, self.outcome, book.append(record))
        after = before._replace(operation=operation, look_unix_us=None, fence=before.fence + 1)
        book.change(before, after, changed)
        return operation


def _given_back(before: Stored, operation: Operation, look_unix_us: int | None, *, looks: int) -> Stored:
    """The fence rises: what is given back is not changed again by who had it."""
    return before._replace(operation=operation, look_unix_us=look_unix_us, looks=looks, fence=before.fence + 1)


def look_now(before: Stored, watched: Watched, planned_unix_us: int | None) -> int | None:
    """As planned, or at once where a halt was set while it was looked for."""
    set_meanwhile = before.withdraw and not watched.withdraw
    return AT_ONCE if set_meanwhile and planned_unix_us is not None else planned_unix_us


def _taken(watched: Watched) -> Search:
    """The operation as it stands while it is its owner's. With its balances, which nobody knew beforehand."""
    state = State.RECONCILING if watched.lost else State.SUCCEEDED
    return Search(states=(state,), named=watched.operation.id, limit=1)


def _owned(book: Book, watched: Watched) -> Stored:
    found = [one for one in book.found(_taken(watched)) if one.fence == watched.fence]
    if not found:
        raise AlreadySettledError(f"the operation {watched.operation.id} has another owner now, or its outcome")
    return found[0]
