"""The first commit of an operation: key, halts, holds and intent become true together, or nothing does.

Every check is made inside the writer's transaction, so there is no moment between looking and taking. Read-then-write
budgets limit nothing: 2,400 of 2,400 were granted against a limit of 1,000 (governance study, section 0).
"""

from dataclasses import dataclass, replace
from typing import Final

import msgspec

from gateway.ledger.barrier import begin, most, place, steps
from gateway.ledger.book import Book
from gateway.ledger.entries import NOTHING, Balance, Hold, Owner, Reads, Stored
from gateway.ledger.guards import Guarding
from gateway.ledger.halts import engaged, halt_refusal
from gateway.ledger.journal import Diary
from gateway.ledger.repeats import repeat_of
from gateway.ledger.states import Event, following
from gateway.ledger.tables import BALANCES, BARRIERS, HALTS
from gateway.terms.asks import Ask, ChatAsk, CountAsk, ToolAsk
from gateway.terms.ids import RuleId
from gateway.terms.money import LONG_MAX, OWN, SIGNED, Unit
from gateway.terms.operations import Admission, Claim, Operation, OperationKey, Receipt, Replay, Reservation, State
from gateway.terms.verdict import Kind, Refusal

FIRST_FENCE: Final = 1

_SIGNED_NAMES: Final = {Unit.EXPOSURE: "exposure", Unit.POSITION: "position"}
_COUNTED: Final = frozenset({Unit.TRADED, Unit.FILLED})


class AdmissionError(Exception):
    """An admission that the call must never make; nothing was changed."""


class Admitting:
    """The unit of work that admits."""

    __slots__ = ("_described", "_guarding", "_places", "_steps", "admission", "diary", "now_unix_us")

    def __init__(self, admission: Admission, now_unix_us: int, diary: Diary) -> None:
        """Raises `AdmissionError` for an ask that needs no reservation."""
        self.admission = admission
        self.now_unix_us = now_unix_us
        self.diary = diary
        self._described = _described(admission.permit.ask)
        self._guarding = Guarding(admission.guards, admission.operation, now_unix_us)
        self._places = tuple(map(place, admission.claims))
        self._steps = tuple(map(steps, admission.claims))

    def reads(self) -> Reads:
        """The key, the switches of all its scopes, the balances and barriers of its claims, and its guards."""
        admission = self.admission
        return Reads(
            keys=(admission.key,),
            watched=tuple((HALTS, (scope,)) for scope in admission.care.halts),
            rows=(
                *((BALANCES, at) for at in self._places if at[2] not in OWN),
                *((BARRIERS, step.key) for of_claim in self._steps for step in of_claim),
                *self._guarding.rows(),
            ),
        )

    def __call__(self, book: Book) -> Reservation | Replay | Refusal:
        """See `Ledger.admit`. Nothing is taken before all is found to fit."""
        balances = self._balances(book)
        verdict = self._verdict(book, balances)
        if verdict is not None:
            return verdict
        admission = self.admission
        holds = []
        for claim, at, steps_, balance in zip(admission.claims, self._places, self._steps, balances, strict=True):
            amount = claim.amount
            holds.append(Hold(at, amount))
            if at[2] in OWN:
                continue
            held, spent = balance
            if steps_:
                begin(book, steps_, _taken(claim.unit, held, spent), self.now_unix_us)
            if amount or balance is NOTHING:  # every hold has a row, also one of nothing
                book.put(BALANCES, at, Balance(held + amount, spent))
        intent = book.append(admission.record)
        book.add(_stored(self, self._described, intent, tuple(holds)))
        self._guarding.count(book, self.diary)
        return Reservation(
            operation=admission.operation,
            permit=admission.permit,
            key=admission.key,
            claims=admission.claims,
            fence=FIRST_FENCE,
            intent=intent,
            guards=admission.guards,
        )

    def verdict(self, book: Book) -> Replay | Refusal | None:
        """Everything that can stand against it; nothing is changed."""
        return self._verdict(book, self._balances(book))

    def _balances(self, book: Book) -> list[Balance]:
        """As they are before it, in the order of the claims."""
        return [NOTHING if at[2] in OWN else book.balance(at) for at in self._places]

    def _verdict(self, book: Book, balances: list[Balance]) -> Replay | Refusal | None:
        admission = self.admission
        self._refuse_defects()
        found = (
            _halted(book, admission)
            or _repeated(book, admission.key, self._described.digest)
            or self._exhausted(book, balances)
            or self._guarding.refused(book)
        )
        return replace(found, policy_hash=admission.permit.policy_hash) if isinstance(found, Refusal) else found

    def _exhausted(self, book: Book, balances: list[Balance]) -> Refusal | None:
        """The first claim, in the given order, that does not fit."""
        for claim, (held, spent) in zip(self.admission.claims, balances, strict=True):
            amount = claim.amount
            if amount == 0 and claim.unit in SIGNED:
                continue
            taken = _taken(claim.unit, held, spent)
            limit = LONG_MAX if claim.passes else claim.limit
            left = limit - taken
            # What has no 64 bits fits nowhere: neither a limit nor an amount may wrap on its way.
            if not (amount <= limit <= LONG_MAX and amount <= left) or held + amount > LONG_MAX:
                return _over(claim, min(limit, max(0, left)))
            step = most(book, claim, taken, self.now_unix_us)
            if step is not None and amount > step:
                return _too_far(claim, step)
        return None

    def _refuse_defects(self) -> None:
        """Raise `AdmissionError` for what would make balances wrong; only a defect or a wrong setting asks for it."""
        if self.admission.lease_ms <= 0:
            raise AdmissionError("a lease must last: give a positive number of milliseconds")
        if len(set(self._places)) != len(self._places):
            raise AdmissionError("two claims name the same scope, unit and window: give each budget once")
        for claim in self.admission.claims:
            if claim.amount < 0:
                raise AdmissionError(f"a claim of {claim.amount} {claim.unit} is negative: charge it when it settles")


@dataclass(frozen=True, slots=True)
class Weighing:
    """The unit of work that says what admitting would say, by the same rules, and changes nothing."""

    admitting: Admitting

    def reads(self) -> Reads:
        """What admitting reads; it is only looked at."""
        reads = self.admitting.reads()
        return Reads(keys=reads.keys, watched=(*reads.watched, *reads.rows))

    def __call__(self, book: Book) -> Refusal | None:
        """See `Ledger.weigh`."""
        verdict = self.admitting.verdict(book)
        if isinstance(verdict, Replay):
            raise AdmissionError("what is weighed has a key of its own: it cannot be a repeat")
        return verdict


def _halted(book: Book, admission: Admission) -> Refusal | None:
    halted = engaged(book, admission.care.halts)
    return None if halted is None else halt_refusal(*halted, admission.permit.policy_hash)


def _repeated(book: Book, key: OperationKey, digest: bytes) -> Replay | Refusal | None:
    earlier = book.keyed(key)
    return None if earlier is None else repeat_of(earlier.operation, digest)


def _taken(unit: Unit, held: int, spent: int) -> int:
    """What is held and spent of a claim's balance.

    Nobody has room for more than a limit: an exposure below zero, as older gateways left, is one of zero.
    """
    return held + (max(0, spent) if unit is Unit.EXPOSURE else spent)


def _over(claim: Claim, left: int) -> Refusal:
    if claim.unit in _COUNTED:
        return _limit(
            claim.reason or "limit.position",
            f"Of {claim.scope} {left} billionths more may be traded now, with every open and unknown order, and this"
            f" order needs {claim.amount}. Order less, cancel what is open first, or ask the operator.",
        )
    if claim.unit in SIGNED:
        what = _SIGNED_NAMES[claim.unit]
        return _limit(
            f"limit.{what}",
            f"The {what} of {claim.scope} may be {claim.limit} {claim.unit}; {left} are left and this order"
            f" needs {claim.amount}. Order less, reduce the {what} first, or ask the operator.",
        )
    when = "" if claim.window == "total" else " wait for the next window,"
    return Refusal(
        kind=Kind.EXHAUSTED,
        reason=f"budget.{claim.unit}",
        sentence=f"The budget of {claim.scope} in {claim.window} is {claim.limit} {claim.unit}; {left} are left and"
        f" this call needs {claim.amount}. Ask for less,{when} or ask the operator to raise it.",
    )


def _too_far(claim: Claim, step: int) -> Refusal:
    what = _SIGNED_NAMES.get(claim.unit, claim.unit.value)
    return _limit(
        "limit.barrier",
        f"The {what} of {claim.scope} may grow by {step} {claim.unit} more in this window, and this order needs"
        f" {claim.amount}: one window takes only a part of what was left at its beginning. Order less, or later.",
    )


def _limit(reason: str, sentence: str) -> Refusal:
    return Refusal(kind=Kind.FORBIDDEN, reason=reason, sentence=sentence, rules=(RuleId(reason),))


def _stored(admitting: Admitting, described: "_Described", intent: Receipt, holds: tuple[Hold, ...]) -> Stored:
    admission, permit = admitting.admission, admitting.admission.permit
    operation = Operation(
        id=admission.operation,
        key=admission.key,
        version=described.version,
        fingerprint=described.digest,
        state=following(State.CLAIMED, Event.DISPATCH),
        result=b"",
        failure=None,
        rules=permit.rules,
        policy_hash=permit.policy_hash,
        intent=intent,
        outcome=None,
        created_unix_us=admitting.now_unix_us,
        lease_until_unix_us=admitting.now_unix_us + admission.lease_ms * 1_000,
    )
    owner = Owner(intent.instance, intent.boot)
    return Stored(
        operation=operation,
        kind=described.kind,
        run=described.run,
        owner=owner,
        fence=FIRST_FENCE,
        care=admission.care,
        holds=holds,
    )


class _Described(msgspec.Struct, frozen=True):
    """What an ask is to the ledger."""

    kind: str
    version: str
    run: str
    digest: bytes


def _described(ask: Ask) -> _Described:
    match ask:
        case ToolAsk():
            return _Described("tool", ask.tool.version, ask.run, ask.digest)
        case ChatAsk():
            return _Described("chat", "", ask.run, ask.digest)
        case CountAsk():
            return _Described("count", "", "", ask.digest)
        case _:
            raise AdmissionError(f"{ask.name} only reads the gateway itself: it needs no reservation")
