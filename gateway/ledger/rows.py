"""Operations as rows: the columns in their order, and the value that a row is."""

from typing import Final, cast

import msgspec

from gateway.ledger.book import Row
from gateway.terms.ids import BootId, IdempotencyKey, InstanceId, OperationId, Principal, RuleId, TenantName
from gateway.terms.operations import Failure, Operation, OperationKey, Receipt, State

COLUMNS: Final = (
    "id, tenant, principal, tool, key, version, fingerprint, state, result, failure_reason, failure_message,"
    " rules, policy_hash, intent_instance, intent_boot, intent_sequence, intent_leaf,"
    " outcome_instance, outcome_boot, outcome_sequence, outcome_leaf, created_unix_us, lease_until_unix_us"
)
"""What `operation` reads, for SELECT and RETURNING."""

BY_KEY: Final = f"SELECT {COLUMNS} FROM operations WHERE tenant = ? AND principal = ? AND tool = ? AND key = ?"  # noqa: S608 - constants
BY_ID: Final = f"SELECT {COLUMNS} FROM operations WHERE id = ? AND tenant = ? AND principal = ?"  # noqa: S608 - constants

_RULES: Final = msgspec.json.Decoder(tuple[RuleId, ...])

_Stored = tuple[
    str, str, str, str, str, str, bytes, str, bytes, str | None, str | None,
    str, str, str, str, int, bytes,
    str | None, str | None, int | None, bytes | None, int, int,
]  # fmt: skip


def operation(row: Row) -> Operation:
    """The operation that a row of `COLUMNS` is."""
    (
        name, tenant, principal, tool, key, version, fingerprint, state, result, reason, message,
        rules, policy_hash, intent_instance, intent_boot, intent_sequence, intent_leaf,
        instance, boot, sequence, leaf, created, lease_until,
    ) = cast("_Stored", row)  # fmt: skip
    outcome = None
    if instance is not None and boot is not None and sequence is not None and leaf is not None:
        outcome = _receipt(instance, boot, sequence, leaf)
    return Operation(
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


def rules_text(rules: tuple[RuleId, ...]) -> str:
    """The column `rules`."""
    return msgspec.json.encode(rules).decode()


def key_row(key: OperationKey) -> Row:
    """The values of `BY_KEY`."""
    return key.tenant, key.principal, key.tool, key.key


def receipt_row(receipt: Receipt) -> Row:
    """Instance, boot, sequence, leaf."""
    return receipt.instance, receipt.boot, receipt.sequence, receipt.leaf_hash


def _receipt(instance: str, boot: str, sequence: int, leaf: bytes) -> Receipt:
    return Receipt(instance=InstanceId(instance), boot=BootId(boot), sequence=sequence, leaf_hash=leaf)
