"""The first commit of an operation: key, halts, holds and intent become true together, or nothing does.

Every check is made inside the writer's transaction, so there is no moment between looking and taking. Read-then-write
budgets limit nothing: 2,400 of 2,400 were granted against a limit of 1,000 (governance study, section 0).
"""

from dataclasses import dataclass
from typing import Final

from gateway.ledger.book import Book
from gateway.ledger.entries import Balance, Hold, Owner, Reads, Stored
from gateway.ledger.halts import engaged, halt_refusal
from gateway.ledger.repeats import repeat_of
from gateway.ledger.states import Event, following
from gateway.ledger.tables import BALANCES, HALTS, Row
from gateway.terms.asks import Ask, ChatAsk, CountAsk, ToolAsk
from gateway.terms.money import LONG_MAX, Unit
from gateway.terms.operations import Admission, Claim, Operation, OperationKey, Receipt, Replay, Reservation, State
from gateway.terms.verdict import Kind, Refusal

FIRST_FENCE: Final = 1


class AdmissionError(Exception):
    """An admission that the call must never make; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Admitting:
    """The unit of work that admits."""

    admission: Admission
    now_unix_us: int

    def reads(self) -> Reads:
        """The key, the switches of all its scopes, and the balances of its claims."""
        admission = self.admission
        return Reads(
            keys=(admission.key,),
            watched=tuple((HALTS, (scope,)) for scope in admission.care.halts),
            rows=tuple((BALANCES, _place(claim)) for claim in admission.claims),
        )

    def __call__(self, book: Book) -> Reservation | Replay | Refusal:
        """See `Ledger.admit`. Nothing is taken before all is found to fit."""
        admission = self.admission
        described = _described(admission.permit.ask)
        _refuse_defects(admission)
        verdict = (
            _halted(book, admission) or _repeated(book, admission.key, described.digest) or _exhausted(book, admission)
        )
        if verdict is not None:
            return verdict
        holds = tuple(Hold(_place(claim), claim.amount) for claim in admission.claims)
        for hold in holds:
            held, spent = book.balance(hold.place)
            book.put(BALANCES, hold.place, Balance(held + hold.amount, spent))
        intent = book.append(admission.record)
        book.add(_stored(self, described, intent), holds)
        return Reservation(
            operation=admission.operation,
            permit=admission.permit,
            key=admission.key,
            claims=admission.claims,
            fence=FIRST_FENCE,
            intent=intent,
        )


def _halted(book: Book, admission: Admission) -> Refusal | None:
    halted = engaged(book, admission.care.halts)
    return None if halted is None else halt_refusal(*halted, admission.permit.policy_hash)


def _repeated(book: Book, key: OperationKey, digest: bytes) -> Replay | Refusal | None:
    earlier = book.keyed(key)
    return None if earlier is None else repeat_of(earlier.operation, digest)


def _refuse_defects(admission: Admission) -> None:
    """Raise `AdmissionError` for what would make balances wrong; only a defect or a wrong configuration asks for it."""
    if admission.lease_ms <= 0:
        raise AdmissionError("a lease must last: give a positive number of milliseconds")
    places = {(claim.scope, claim.unit, claim.window) for claim in admission.claims}
    if len(places) != len(admission.claims):
        raise AdmissionError("two claims name the same scope, unit and window: give each budget once")
    for claim in admission.claims:
        if claim.amount < 0:
            raise AdmissionError(f"a claim of {claim.amount} {claim.unit} is negative: charge it when it settles")


def _exhausted(book: Book, admission: Admission) -> Refusal | None:
    """The first claim, in the given order, that does not fit."""
    for claim in admission.claims:
        held, spent = book.balance(_place(claim))
        left = claim.limit - held - spent
        # What has no 64 bits fits nowhere: neither a limit nor an amount may wrap on its way.
        if not (claim.amount <= claim.limit <= LONG_MAX and claim.amount <= left and held + claim.amount <= LONG_MAX):
            return _over(claim, max(0, left), admission.permit.policy_hash)
    return None


def _over(claim: Claim, left: int, policy_hash: str) -> Refusal:
    if claim.unit is Unit.EXPOSURE:
        return Refusal(
            kind=Kind.FORBIDDEN,
            reason="limit.exposure",
            sentence=f"The exposure of {claim.scope} may be {claim.limit} {claim.unit}; {left} are left and this order"
            f" needs {claim.amount}. Order less, reduce the exposure first, or ask the operator.",
            policy_hash=policy_hash,
        )
    when = "" if claim.window == "total" else " wait for the next window,"
    return Refusal(
        kind=Kind.EXHAUSTED,
        reason=f"budget.{claim.unit}",
        sentence=f"The budget of {claim.scope} in {claim.window} is {claim.limit} {claim.unit}; {left} are left and"
        f" this call needs {claim.amount}. Ask for less,{when} or ask the operator to raise it.",
        policy_hash=policy_hash,
    )


def _place(claim: Claim) -> Row:
    return claim.scope, claim.unit.value, claim.window


def _stored(admitting: Admitting, described: "_Described", intent: Receipt) -> Stored:
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
    )


@dataclass(frozen=True, slots=True)
class _Described:
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
