"""Guards: rates, duplicates and repeated executions, checked and counted in the transaction that admits.

First everything is looked at, then everything is counted, and only for a call that is admitted: a refused one changes
nothing, here as in the balances. A refusal sends no message to a venue and places no order, so it takes nothing of a
rate; what refusals themselves may cost is bounded elsewhere (`gateway.call.denials`).
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.ledger import sightings
from gateway.ledger.book import Book
from gateway.ledger.entries import KeyedRow, Reads
from gateway.ledger.journal import Diary
from gateway.ledger.sightings import Sighting
from gateway.ledger.tables import LATCHES, RATES, SIGHTINGS, Row
from gateway.terms.clock import CLOCKS_APART_US
from gateway.terms.ids import OperationId, RuleId
from gateway.terms.operations import Guard, Latch, Rate, Similar
from gateway.terms.verdict import Kind, Refusal

_NEVER: Final[Row] = (0, "", 0, "", "", 0)
"""A latch that nothing ever engaged: engaged, operation, when; reset by, why, when."""


class Guarding(msgspec.Struct, frozen=True):
    """The guards of one admission at one moment."""

    guards: tuple[Guard, ...]
    operation: OperationId
    now_unix_us: int

    def rows(self) -> tuple[KeyedRow, ...]:
        """The rows that they look at and change."""
        return tuple(row for guard in self.guards for row in _rows(guard))

    def refused(self, book: Book) -> Refusal | None:
        """The first guard that does not let it pass."""
        for guard in self.guards:
            refusal = self._refused(book, guard)
            if refusal is not None:
                return refusal
        return None

    def count(self, book: Book, diary: Diary) -> None:
        """Count an admission that every guard lets pass; the last one that a latch allows engages it, on record."""
        for guard in self.guards:
            if isinstance(guard, Rate):
                self.count_rate(book, guard)
                continue
            now = sightings.seen(guard.digest, self.operation, self.now_unix_us, _kept_ms(guard))
            kept = [*self._kept(book, guard), now]
            book.put(SIGHTINGS, _place(guard), (sightings.written(kept),))
            if isinstance(guard, Latch):
                self._engage(book, guard, kept, diary)

    def _engage(self, book: Book, guard: Latch, kept: list[Sighting], diary: Diary) -> None:
        """Latch with the last execution that is allowed in the window and since the latch was last reset."""
        if len(kept) < guard.executions:
            return
        *_, by, why, reset_us = _latch(book, guard)
        since_us = _whole(reset_us)
        if since_us > self.now_unix_us + CLOCKS_APART_US:
            # Reset by a clock that was far ahead: nothing would count until then.
            since_us = 0
        if sum(one.at_unix_us > since_us for one in self._alike(kept, guard)) >= guard.executions:
            book.put(LATCHES, (guard.scope,), (1, self.operation, self.now_unix_us, by, why, since_us))
            book.append(diary.latched(guard.scope, self.operation))

    def count_rate(self, book: Book, rate: Rate) -> None:
        """Count one event of a rate."""
        book.put(RATES, (rate.scope,), (rate.pace.after(self._due_us(book, rate), self.now_unix_us),))

    def _refused(self, book: Book, guard: Guard) -> Refusal | None:
        match guard:
            case Rate():
                return _too_fast(guard, guard.pace.wait_us(self._due_us(book, guard), self.now_unix_us))
            case Similar():
                kept = self._kept(book, guard)
                return self._duplicate(kept, guard) or self._crowded(kept, guard)
            case Latch():
                standing = _latch(book, guard)[0] != 0
                return _latched(guard) if standing else self._crowded(self._kept(book, guard), guard)

    def _duplicate(self, kept: list[Sighting], guard: Similar) -> Refusal | None:
        alike = self._alike(kept, guard)
        if not alike:
            return None
        ago_ms = max(0, self.now_unix_us - max(one.at_unix_us for one in alike)) // 1_000
        return _no(
            "limit.duplicate",
            f"An order like this one was admitted for {guard.scope} {ago_ms} ms ago under another key, and"
            f" {guard.window_ms} ms must lie between two. Repeat an order with its own key; if you want a second one,"
            " place it later.",
        )

    def _crowded(self, kept: list[Sighting], guard: Similar | Latch) -> Refusal | None:
        if len(kept) < sightings.ENTRIES_MAX:
            return None
        wait_us = min(_until_us(one, guard) for one in kept) - self.now_unix_us
        sentence = f"So much was executed for {guard.scope} that no more can be compared; place this order later."
        return _no("limit.crowded", sentence, kind=Kind.EXHAUSTED, retry_after_ms=-(-wait_us // 1_000))

    def _alike(self, kept: list[Sighting], guard: Similar | Latch) -> list[Sighting]:
        """Those of the guard's kind that its own window still has."""
        if guard.window_ms == 0:
            return []  # also of a gateway whose clock is ahead
        kind, oldest_us = guard.digest[:16], self.now_unix_us - guard.window_ms * 1_000
        return [one for one in kept if one.kind == kind and one.at_unix_us > oldest_us]

    def _kept(self, book: Book, guard: Similar | Latch) -> list[Sighting]:
        """The executions of the guard's row that anyone's window may still have: it is not this guard's alone.

        A clock that goes back makes no duplicate: what is ahead of it by up to a window counts. What is further ahead
        was seen by a clock that was wrong, and would count until then.
        """
        row = book.get(SIGHTINGS, _place(guard))
        read = () if row is None else sightings.read(_bytes(row[0]))
        return [one for one in read if _until_us(one, guard) > self.now_unix_us and self._credible(one, guard)]

    def _credible(self, one: Sighting, guard: Similar | Latch) -> bool:
        window_us = _until_us(one, guard) - one.at_unix_us
        return one.at_unix_us <= self.now_unix_us + window_us + CLOCKS_APART_US

    def _due_us(self, book: Book, rate: Rate) -> int:
        row = book.get(RATES, (rate.scope,))
        if row is None:
            return 0
        return rate.pace.credible(_whole(row[0]), self.now_unix_us, max(rate.burst_max, rate.pace.burst))


@dataclass(frozen=True, slots=True)
class Metering:
    """The unit of work that counts one event of a rate by itself."""

    rate: Rate
    now_unix_us: int

    def reads(self) -> Reads:
        """The rate's row."""
        return Reads(rows=_rows(self.rate))

    def __call__(self, book: Book) -> Refusal | None:
        """See `Ledger.meter`."""
        guarding = Guarding((self.rate,), OperationId(""), self.now_unix_us)
        refusal = guarding.refused(book)
        if refusal is None:
            guarding.count_rate(book, self.rate)
        return refusal


def forgettable(guards: tuple[Guard, ...]) -> tuple[KeyedRow, ...]:
    """The rows that `forget` changes."""
    return tuple((SIGHTINGS, _place(guard)) for guard in guards if isinstance(guard, Similar))


def forget(book: Book, guards: tuple[Guard, ...], operation: OperationId) -> None:
    """Nothing came of the operation: what is like it may be placed at once."""
    for guard in guards:
        row = book.get(SIGHTINGS, _place(guard)) if isinstance(guard, Similar) else None
        if row is not None and isinstance(guard, Similar):
            gone = sightings.seen(guard.digest, operation, 0)
            left = [one for one in sightings.read(_bytes(row[0])) if one.operation != gone.operation]
            book.put(SIGHTINGS, _place(guard), (sightings.written(left),))


def _rows(guard: Guard) -> tuple[KeyedRow, ...]:
    match guard:
        case Rate():
            return ((RATES, (guard.scope,)),)
        case Similar():
            return ((SIGHTINGS, _place(guard)),)
        case Latch():
            return (LATCHES, (guard.scope,)), (SIGHTINGS, _place(guard))


def _place(guard: Similar | Latch) -> Row:
    return guard.scope, sightings.bucket(guard.digest)


def _latch(book: Book, guard: Latch) -> Row:
    return book.get(LATCHES, (guard.scope,)) or _NEVER


def _kept_ms(guard: Similar | Latch) -> int:
    return max(guard.window_ms, guard.kept_ms) if isinstance(guard, Similar) else guard.window_ms


def _until_us(sighting: Sighting, guard: Similar | Latch) -> int:
    """When nobody looks back for it any more: neither for whom it was written, nor who asks now."""
    return sighting.at_unix_us + max(sighting.kept_ms, _kept_ms(guard)) * 1_000


def _too_fast(rate: Rate, wait_us: int) -> Refusal | None:
    if wait_us == 0:
        return None
    wait_ms = -(-wait_us // 1_000)
    pace = rate.pace
    sentence = (
        f"{rate.scope} has sent its {pace.burst} at once and may send one more each {-(-pace.interval_us // 1_000)} ms;"
        f" nothing was sent. Wait {wait_ms} ms."
    )
    return _no(rate.reason, sentence, kind=Kind.EXHAUSTED, retry_after_ms=wait_ms)


def _latched(latch: Latch) -> Refusal:
    return _no(
        "limit.latched",
        f"{latch.scope} is latched: {latch.executions} executions of one kind came within {latch.window_ms} ms."
        " A person must look at it and reset it; ask the operator.",
    )


def _no(reason: str, sentence: str, *, kind: Kind = Kind.FORBIDDEN, retry_after_ms: int | None = None) -> Refusal:
    rules = (RuleId(reason),)
    return Refusal(kind=kind, reason=reason, sentence=sentence, rules=rules, retry_after_ms=retry_after_ms)


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a guard's row has no integer where one must be")
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a guard's row has no bytes where they must be")
    return value
