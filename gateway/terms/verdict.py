"""What a station says of a call: a value with a reason and the rules that decided, never an exception or a boolean."""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from gateway.terms.ids import RuleId

if TYPE_CHECKING:
    from gateway.terms.asks import Ask
    from gateway.terms.caller import Caller


APPROVAL_REQUIRED: Final = "approval.required"
"""The reason of a refusal that a person could lift."""


class Kind(Enum):
    """What a refused caller can do about it. The wire translates it, once, to gRPC, Connect and HTTP."""

    MALFORMED = "malformed"
    """Change the request."""
    UNAUTHENTICATED = "unauthenticated"
    """Send a valid token."""
    FORBIDDEN = "forbidden"
    """Ask the operator; repeating does not help."""
    NOT_FOUND = "not_found"
    """It does not exist, or not for this caller."""
    KEY_REUSED = "key_reused"
    """Choose another idempotency key for another request."""
    IN_PROGRESS = "in_progress"
    """The same call is running; ask again later."""
    EXHAUSTED = "exhausted"
    """A budget or quota is used up; wait for its next window or ask the operator."""
    UNSUPPORTED = "unsupported"
    """This gateway or this model cannot do that."""
    UNAVAILABLE = "unavailable"
    """Try again later."""
    LATE = "late"
    """Give the call more time."""
    INTERNAL = "internal"
    """The gateway's fault; the request id finds it in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing wrong with one field of a request."""

    field: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No. `reason` is a stable code such as `limit.notional`; `sentence` tells a person what to do."""

    kind: Kind
    reason: str
    sentence: str
    rules: tuple[RuleId, ...] = ()
    policy_hash: str = ""
    violations: tuple[Violation, ...] = ()
    retry_after_ms: int | None = None
    operation_id: str = ""
    """The operation that stands in the way, if the caller may know it."""


def malformed(field: str, description: str) -> Refusal:
    """The refusal of one field of a request; what the description repeats of it must be escaped."""
    return Refusal(
        kind=Kind.MALFORMED,
        reason="request.malformed",
        sentence=f"{field}: {description}",
        violations=(Violation(field=field, description=description),),
    )


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """Yes, from the policy: the proof that a reservation needs. Only `policy` makes one."""

    caller: "Caller"
    ask: "Ask"
    rules: tuple[RuleId, ...]
    policy_hash: str
    reason: str = "policy.permitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A person must agree first, for these rules."""

    caller: "Caller"
    ask: "Ask"
    rules: tuple[RuleId, ...]
    policy_hash: str


class RefusedError(Exception):
    """Carries a refusal from the call to the edge that answers it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


Value = TypeVar("Value")


def granted(verdict: "Value | Refusal") -> "Value":
    """The value, or raise what was refused."""
    if isinstance(verdict, Refusal):
        raise RefusedError(verdict)
    return verdict
