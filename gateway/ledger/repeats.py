"""What an earlier call means for one with the same idempotency key (governance study, section 3.2)."""

from typing import Final

from gateway.ledger.entries import Stored
from gateway.ledger.states import RUNNING
from gateway.terms.caller import Caller
from gateway.terms.operations import Operation, Replay, Reservation, State
from gateway.terms.verdict import Kind, Refusal

RETRY_AFTER_MS: Final = 500
"""When to ask again for an operation that runs: about as long as an order takes."""


def repeat_of(earlier: Operation, digest: bytes) -> Replay | Refusal:
    """The stored answer for the same request, also where nobody knows it; a refusal while it runs, or for another."""
    if earlier.fingerprint != digest:
        return Refusal(
            kind=Kind.KEY_REUSED,
            reason="operation.key_reused",
            sentence="This idempotency key was used for another request. Choose a new key for a new request.",
            operation_id=earlier.id,
        )
    if earlier.state in RUNNING:
        return Refusal(
            kind=Kind.IN_PROGRESS,
            reason="operation.in_progress",
            sentence="The same call is running. Ask for its operation, or send the call again a little later.",
            retry_after_ms=RETRY_AFTER_MS,
            operation_id=earlier.id,
        )
    return Replay(operation=earlier)


def shown(stored: Stored | None, caller: Caller) -> Operation | None:
    """An operation to its caller; to any other it is as absent as none (attack row 2)."""
    if stored is None or (stored.operation.key.tenant, stored.operation.key.principal) != (
        caller.tenant,
        caller.principal,
    ):
        return None
    return stored.operation


def not_owned(reservation: Reservation, standing: tuple[State, int] | None) -> Refusal | None:
    """An effect that must not leave, because its call was paused until it counted as lost.

    `standing` is the operation's state and fence now.
    """
    if standing == (State.DISPATCHED, reservation.fence):
        return None
    return Refusal(
        kind=Kind.UNAVAILABLE,
        reason="operation.lost",
        sentence="The gateway was paused for longer than this call may take, so it was not sent; call again.",
        policy_hash=reservation.permit.policy_hash,
        operation_id=reservation.operation,
    )
