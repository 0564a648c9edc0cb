"""What a decision and a receipt look like in messages."""

from gateway.terms.operations import Operation as StoredOperation
from gateway.terms.operations import Receipt as StoredReceipt
from generated.agentic.gateway.v1 import Decision, Receipt, Verdict


def decision(operation: StoredOperation) -> Decision:
    """The permit that an operation was given."""
    return Decision(
        verdict=Verdict.PERMITTED,
        reason="policy.permitted",
        rule_ids=list(operation.rules),
        policy_hash=operation.policy_hash,
    )


def receipt(stored: StoredReceipt | None) -> Receipt | None:
    """Where a record stands."""
    if stored is None:
        return None
    return Receipt(
        instance_id=stored.instance,
        boot_id=stored.boot,
        sequence=stored.sequence,
        leaf_hash=stored.leaf_hash,
    )
