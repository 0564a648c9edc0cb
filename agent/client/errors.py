"""What a caller of the gateway is told when a call does not end well."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from agent.client.codec import Details

EDGE_HINTS: Final = {
    Status.UNAUTHENTICATED: "Cloud Run's edge did not accept the token: its audience must be the gateway's URL.",
    Status.PERMISSION_DENIED: "Cloud Run's edge let no call through: grant roles/run.invoker on the gateway to this "
    "service account.",
    Status.UNIMPLEMENTED: "Cloud Run's edge knows no such service: check the URL, and the gateway's ingress setting.",
    Status.UNAVAILABLE: "The gateway could not be reached or has no free instance; try again later.",
}
"""What an answer means that the gateway itself did not give (study of Cloud Run, section 1.5)."""


@dataclass(frozen=True, kw_only=True)
class GatewayError(Exception):
    """A refused or failed call. `reason` is stable; `str()` is a sentence for a person."""

    status: Status
    reason: str
    sentence: str
    rules: tuple[str, ...] = ()
    policy_hash: str = ""
    request_id: str = ""
    operation_id: str = ""
    retry_after_s: float | None = None
    violations: tuple[tuple[str, str], ...] = ()
    timing: str = ""
    """`gateway-timing`, in the syntax of Server-Timing."""
    from_edge: bool = field(default=False)
    """The gateway never saw the call."""

    def __str__(self) -> str:
        """The sentence, with its code."""
        rules = f" [{', '.join(self.rules)}]" if self.rules else ""
        return f"{self.reason}: {self.sentence}{rules}"

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed later."""
        return self.status in (Status.UNAVAILABLE, Status.ABORTED)


def gateway_error(error: GRPCError, seen: Mapping[str, str]) -> GatewayError:
    """The error that a gRPC status and the metadata around it mean."""
    details = error.details if isinstance(error.details, Details) else Details()
    info = details.info
    if info is None and "gateway-request" not in seen:
        return _edge_error(error)
    metadata = info.metadata if info else {}
    retry = details.retry.retry_delay if details.retry else None
    violations = details.bad_request.field_violations if details.bad_request else []
    return GatewayError(
        status=error.status,
        reason=info.reason if info else f"status.{error.status.name.lower()}",
        sentence=error.message or error.status.name,
        rules=tuple(rule for rule in metadata.get("rules", "").split(",") if rule),
        policy_hash=metadata.get("policy_hash", ""),
        request_id=metadata.get("request", "") or seen.get("gateway-request", ""),
        operation_id=metadata.get("operation", "") or seen.get("gateway-operation", ""),
        retry_after_s=retry.seconds + retry.nanos / 1e9 if retry else None,
        violations=tuple((violation.field, violation.description) for violation in violations),
        timing=seen.get("gateway-timing", ""),
    )


def unreachable(error: Exception) -> GatewayError:
    """The connection failed or was cut."""
    return GatewayError(
        status=Status.UNAVAILABLE,
        reason="gateway.unreachable",
        sentence=f"{EDGE_HINTS[Status.UNAVAILABLE]} ({error!r})",
        from_edge=True,
    )


def too_late() -> GatewayError:
    """The caller's own deadline passed."""
    return GatewayError(
        status=Status.DEADLINE_EXCEEDED,
        reason="deadline.exceeded",
        sentence="The call did not end in the time it was given. A tool call may have happened: repeat it with the "
        "same idempotency key, or ask for its operation.",
    )


def _edge_error(error: GRPCError) -> GatewayError:
    return GatewayError(
        status=error.status,
        reason=f"edge.{error.status.name.lower()}",
        sentence=f"{EDGE_HINTS.get(error.status, 'An edge before the gateway answered.')} ({error.message})",
        from_edge=True,
    )
