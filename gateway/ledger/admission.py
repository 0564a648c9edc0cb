"""The first commit of an operation: key, halts, holds and intent become true together, or nothing does.

Every check is made inside the writer's transaction, so there is no moment between looking and taking. Read-then-write
budgets limit nothing: 2,400 of 2,400 were granted against a limit of 1,000 (governance study, section 0).
"""

from dataclasses import dataclass
from typing import Final

from gateway.ledger import rows
from gateway.ledger.book import Book, Row, texts
from gateway.ledger.repeats import repeat_of
from gateway.ledger.states import Event, following
from gateway.terms.asks import Ask, ChatAsk, CountAsk, ToolAsk
from gateway.terms.money import LONG_MAX, Unit
from gateway.terms.operations import Admission, Claim, OperationKey, Receipt, Replay, Reservation, State
from gateway.terms.verdict import Kind, Refusal

FIRST_FENCE: Final = 1

_HALTED: Final = "SELECT scope, reason FROM halts WHERE engaged = 1 AND scope IN (?, ?, ?, ?, ?) LIMIT 1"

_CLAIM: Final = (
    "INSERT INTO balances (scope, unit, time_window, held, spent) VALUES (?1, ?2, ?3, ?4, 0)"
    " ON CONFLICT DO UPDATE SET held = held + ?4 WHERE ?4 <= ?5 - held - spent"
)
"""A balance that would pass its limit is not changed, and then no row is."""

_LEFT: Final = "SELECT held, spent FROM balances WHERE scope = ? AND unit = ? AND time_window = ?"

_OPERATION: Final = (
    "INSERT INTO operations (id, tenant, principal, tool, key, kind, run, version, fingerprint, state, result, rules,"
    " policy_hash, intent_instance, intent_boot, intent_sequence, intent_leaf, created_unix_us, lease_until_unix_us,"
    " owner_instance, owner_boot, fence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_HOLD: Final = (
    "INSERT INTO holds (operation, scope, unit, time_window, amount, charged, state) VALUES (?, ?, ?, ?, ?, 0, 'held')"
)


class AdmissionError(Exception):
    """An admission that the call must never make; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Admitting:
    """The unit of work that admits."""

    admission: Admission
    now_unix_us: int

    def __call__(self, book: Book) -> Reservation | Replay | Refusal:
        """See `Ledger.admit`."""
        admission = self.admission
        described = _described(admission.permit.ask)
        _refuse_defects(admission)
        verdict = (
            _halted(book, admission, described)
            or _repeated(book, admission.key, described.digest)
            or _exhausted(book, admission)
        )
        if verdict is not None:
            book.undo()
            return verdict
        intent = book.append(admission.record)
        number = book.insert(_OPERATION, _operation_row(self, described, intent))
        book.change_each(_HOLD, (_hold_row(number, claim) for claim in admission.claims))
        return Reservation(
            operation=admission.operation,
            permit=admission.permit,
            key=admission.key,
            claims=admission.claims,
            fence=FIRST_FENCE,
            intent=intent,
        )


def _halted(book: Book, admission: Admission, described: "_Described") -> Refusal | None:
    caller = admission.permit.caller
    scopes = ("all", f"tenant:{caller.tenant}", f"team:{caller.team}", f"agent:{caller.agent}", described.halted_by)
    for scope, reason in map(texts, book.all(_HALTED, scopes)):
        return Refusal(
            kind=Kind.FORBIDDEN,
            reason="halt.engaged",
            sentence=f"The operator has halted {scope}: {reason}. Wait until the operator releases it.",
            policy_hash=admission.permit.policy_hash,
        )
    return None


def _repeated(book: Book, key: OperationKey, digest: bytes) -> Replay | Refusal | None:
    for row in book.all(rows.BY_KEY, rows.key_row(key)):
        return repeat_of(rows.operation(row), digest)
    return None


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
    """Take every claim in the given order; the first that does not fit ends it."""
    for claim in admission.claims:
        # What has no 64 bits fits nowhere: neither a limit nor an amount may wrap or become a float on its way.
        fits = claim.amount <= claim.limit <= LONG_MAX
        place = (claim.scope, claim.unit, claim.window)
        if not fits or not book.change(_CLAIM, (*place, claim.amount, claim.limit)):
            return _over(book, claim, admission.permit.policy_hash)
    return None


def _over(book: Book, claim: Claim, policy_hash: str) -> Refusal:
    taken = sum(held + spent for held, spent in _balance(book, claim))
    left = max(0, claim.limit - taken)
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


def _balance(book: Book, claim: Claim) -> list[tuple[int, int]]:
    return [
        (int(held or 0), int(spent or 0)) for held, spent in book.all(_LEFT, (claim.scope, claim.unit, claim.window))
    ]


def _operation_row(admitting: Admitting, described: "_Described", intent: Receipt) -> Row:
    admission, permit = admitting.admission, admitting.admission.permit
    return (
        admission.operation,
        *rows.key_row(admission.key),
        described.kind,
        described.run,
        described.version,
        described.digest,
        following(State.CLAIMED, Event.DISPATCH),
        b"",
        rows.rules_text(permit.rules),
        permit.policy_hash,
        *rows.receipt_row(intent),
        admitting.now_unix_us,
        admitting.now_unix_us + admission.lease_ms * 1_000,
        intent.instance,
        intent.boot,
        FIRST_FENCE,
    )


def _hold_row(number: int, claim: Claim) -> Row:
    return number, claim.scope, claim.unit, claim.window, claim.amount


@dataclass(frozen=True, slots=True)
class _Described:
    """What an ask is to the ledger."""

    kind: str
    halted_by: str
    """The halt scope of the tool or model."""
    version: str
    run: str
    digest: bytes


def _described(ask: Ask) -> _Described:
    match ask:
        case ToolAsk():
            return _Described("tool", f"tool:{ask.tool.name}", ask.tool.version, ask.run, ask.digest)
        case ChatAsk():
            return _Described("chat", f"model:{ask.model}", "", ask.run, ask.digest)
        case CountAsk():
            return _Described("count", f"model:{ask.model}", "", "", ask.digest)
        case _:
            raise AdmissionError(f"{ask.name} only reads the gateway itself: it needs no reservation")
