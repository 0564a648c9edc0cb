"""Operations as rows: the columns in their order, and the value that a row is."""

from typing import Final, cast

import msgspec

from gateway.ledger.entries import Hold, Owner, Stored
from gateway.ledger.tables import Row, storable
from gateway.terms.ids import BootId, IdempotencyKey, InstanceId, OperationId, Principal, RuleId, TenantName
from gateway.terms.money import Unit
from gateway.terms.operations import Aftercare, Failure, Loss, Operation, OperationKey, Receipt, Similar, State
from gateway.terms.overview import Held, Overview

CLAIMED: Final = (
    ("id", "text"), ("tenant", "text"), ("principal", "text"), ("tool", "text"), ("key", "text"), ("kind", "text"),
    ("run", "text"), ("version", "text"), ("fingerprint", "bytea"), ("rules", "text"), ("policy_hash", "text"),
    ("intent_instance", "text"), ("intent_boot", "text"), ("intent_sequence", "bigint"), ("intent_leaf", "bytea"),
    ("created_unix_us", "bigint"), ("loss", "text"), ("memo", "bytea"), ("halts", "text"),
    ("alike", "text"),
)  # fmt: skip
"""The columns that never change, each with its type in PostgreSQL."""

BECOMING: Final = (
    ("state", "text"), ("result", "bytea"), ("failure_reason", "text"), ("failure_message", "text"),
    ("outcome_instance", "text"), ("outcome_boot", "text"), ("outcome_sequence", "bigint"), ("outcome_leaf", "bytea"),
    ("lease_until_unix_us", "bigint"), ("owner_instance", "text"), ("owner_boot", "text"), ("fence", "bigint"),
    ("look_unix_us", "bigint"), ("looks", "bigint"), ("withdraw", "bigint"), ("holds", "text"),
)  # fmt: skip
"""The columns that `Book.change` writes."""

WRITTEN: Final = tuple(name for name, _ in (*CLAIMED, *BECOMING))
COLUMNS: Final = ", ".join((*WRITTEN, "number"))
"""What `stored` reads."""

GOING_ON: Final = (
    "SELECT number FROM operations WHERE state IN ('claimed', 'dispatched', 'reconciling')"
    " UNION SELECT number FROM operations WHERE look_unix_us IS NOT NULL"
)
"""Operations that run, or are to be looked for: in the words of two partial indexes, so that no history is read."""

UNFINISHED: Final = f"{GOING_ON} UNION SELECT number FROM operations WHERE state = 'unknown'"  # noqa: S608 - constants
"""These, and those that wait for a person."""

_RULES: Final = msgspec.json.Decoder(tuple[RuleId, ...])

_HALTS: Final = msgspec.json.Decoder(tuple[str, ...])

_HOLDS: Final = msgspec.json.Decoder(tuple[tuple[str, str, str, int, int, str], ...])
"""Scope, unit, window, amount, charged, state of each."""

_SIMILAR: Final = msgspec.json.Decoder(tuple[tuple[str, str, int], ...])
_NONE_SIMILAR: Final = "[]"
"""Of most operations: not worth decoding."""

_Columns = tuple[
    str, str, str, str, str, str, str, str, bytes, str, str, str, str, int, bytes, int,
    str, bytes, str, str,
    str, bytes, str | None, str | None, str | None, str | None, int | None, bytes | None, int, str, str, int,
    int | None, int, int, str, int,
]  # fmt: skip


def stored(row: Row) -> Stored:
    """The operation that a row of `COLUMNS` is."""
    (
        name, tenant, principal, tool, key, kind, run, version, fingerprint, rules, policy_hash,
        intent_instance, intent_boot, intent_sequence, intent_leaf, created, loss, memo, halts, similar,
        state, result, reason, message, instance, boot, sequence, leaf, lease_until, owner, owner_boot, fence,
        look, looks, withdraw, holds, number,
    ) = cast("_Columns", row)  # fmt: skip
    outcome = None
    if instance is not None and boot is not None and sequence is not None and leaf is not None:
        outcome = _receipt(instance, boot, sequence, leaf)
    operation = Operation(
        id=OperationId(name),
        key=OperationKey(tenant=TenantName(tenant), principal=Principal(principal), tool=tool, key=IdempotencyKey(key)),
        version=version,
        fingerprint=fingerprint,
        state=State(state),
        result=result,
        failure=None if reason is None else Failure(reason=reason, message=message or ""),
        rules=_RULES.decode(rules),
        policy_hash=policy_hash,
        intent=_receipt(intent_instance, intent_boot, intent_sequence, intent_leaf),
        outcome=outcome,
        created_unix_us=created,
        lease_until_unix_us=lease_until,
    )
    owned_by = Owner(InstanceId(owner), BootId(owner_boot))
    return Stored(
        operation=operation,
        number=number,
        kind=kind,
        run=run,
        owner=owned_by,
        fence=fence,
        care=Aftercare(loss=Loss(loss), memo=memo, halts=_HALTS.decode(halts), similar=_similar(similar)),
        looks=looks,
        look_unix_us=look,
        withdraw=bool(withdraw),
        holds=read_holds(holds),
    )


def read_holds(text: str) -> tuple[Hold, ...]:
    """What the column `holds` says."""
    return tuple(
        Hold((scope, unit, window), amount, charged, state)
        for scope, unit, window, amount, charged, state in _HOLDS.decode(text)
    )


def overview(row: Row, *, whole: bool = False) -> Overview:
    """The same for operators; only the whole has what it holds."""
    one = stored(row)
    return Overview(
        operation=one.operation,
        number=one.number,
        kind=one.kind,
        run=one.run,
        owner=one.owner.instance,
        halts=one.care.halts,
        looks=one.looks,
        look_unix_us=one.look_unix_us,
        fence=one.fence,
        held=tuple(map(_held, sorted(one.holds))) if whole else (),
        similar=one.care.similar,
    )


def claimed(told: Stored) -> Row:
    """The values of `CLAIMED`."""
    operation = told.operation
    return (
        operation.id, *key_row(operation.key), told.kind, told.run, operation.version, operation.fingerprint,
        msgspec.json.encode(operation.rules).decode(), operation.policy_hash, *_receipt_row(operation.intent),
        operation.created_unix_us, told.care.loss, told.care.memo, msgspec.json.encode(told.care.halts).decode(),
        _similar_text(told.care.similar),
    )  # fmt: skip


def becoming(told: Stored) -> Row:
    """The values of `BECOMING`."""
    operation, failure, outcome = told.operation, told.operation.failure, told.operation.outcome
    return (
        operation.state, operation.result,
        *((None, None) if failure is None else (failure.reason, storable(failure.message))),
        *((None, None, None, None) if outcome is None else _receipt_row(outcome)),
        operation.lease_until_unix_us, told.owner.instance, told.owner.boot, told.fence,
        told.look_unix_us, told.looks, int(told.withdraw), _holds_text(told.holds),
    )  # fmt: skip


def key_row(key: OperationKey) -> tuple[str, str, str, str]:
    """Tenant, principal, tool, key."""
    return key.tenant, key.principal, key.tool, key.key


def _holds_text(holds: tuple[Hold, ...]) -> str:
    told = [(*hold.place, hold.amount, hold.charged, hold.state) for hold in holds]
    return msgspec.json.encode(told).decode()


def _held(hold: Hold) -> Held:
    scope, unit, window = map(str, hold.place)
    return Held(scope=scope, unit=Unit(unit), window=window, amount=hold.amount, charged=hold.charged, state=hold.state)


def _similar(text: str) -> tuple[Similar, ...]:
    if text == _NONE_SIMILAR:
        return ()
    return tuple(
        Similar(scope=scope, digest=bytes.fromhex(digest), window_ms=window_ms)
        for scope, digest, window_ms in _SIMILAR.decode(text)
    )


def _similar_text(similar: tuple[Similar, ...]) -> str:
    if not similar:
        return _NONE_SIMILAR
    return msgspec.json.encode([(one.scope, one.digest.hex(), one.window_ms) for one in similar]).decode()


def _receipt_row(receipt: Receipt) -> Row:
    return receipt.instance, receipt.boot, receipt.sequence, receipt.leaf_hash


def _receipt(instance: str, boot: str, sequence: int, leaf: bytes) -> Receipt:
    return Receipt(instance=InstanceId(instance), boot=BootId(boot), sequence=sequence, leaf_hash=leaf)
