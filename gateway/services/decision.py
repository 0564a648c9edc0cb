"""What a decision and a receipt look like in messages."""

from gateway.terms.operations import Operation as StoredOperation
from gateway.terms.operations import Receipt as StoredReceipt
from gateway.terms.operations import Rehearsal
from gateway.terms.verdict import APPROVAL_REQUIRED
from generated.agentic.gateway.v1 import Decision, Receipt, Verdict


def decision(operation: StoredOperation) -> Decision:
    """The permit that an operation was given."""
    return Decision(
        verdict=Verdict.PERMITTED,
        reason="policy.permitted",
        rule_ids=list(operation.rules),
        policy_hash=operation.policy_hash,
    )


def rehearsal_decision(rehearsal: Rehearsal) -> Decision:
    """What a call would be decided, with the grounds that its refusal or its permit would have."""
    refusal = rehearsal.refusal
    if refusal is None:
        return Decision(
            verdict=Verdict.PERMITTED,
            reason="policy.permitted",
            rule_ids=list(rehearsal.rules),
            policy_hash=rehearsal.policy_hash,
        )
    return Decision(
        verdict=Verdict.HELD if refusal.reason == APPROVAL_REQUIRED else Verdict.REFUSED,
        reason=refusal.reason,
        rule_ids=list(refusal.rules),
        policy_hash=refusal.policy_hash,
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
