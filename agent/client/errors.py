"""What a caller of the gateway is told when a call does not end well."""

from dataclasses import dataclass
from typing import Final

from grpclib.const import Status

PASSING: Final = frozenset({Status.UNAVAILABLE, Status.ABORTED})
"""Statuses after which the same call may succeed."""

WITHOUT_EFFECT: Final = frozenset(
    {
        Status.INVALID_ARGUMENT,
        Status.NOT_FOUND,
        Status.ALREADY_EXISTS,
        Status.PERMISSION_DENIED,
        Status.RESOURCE_EXHAUSTED,
        Status.FAILED_PRECONDITION,
        Status.OUT_OF_RANGE,
        Status.UNIMPLEMENTED,
        Status.UNAUTHENTICATED,
    }
)
"""Statuses that are only given before a tool is called. With every other one, nobody knows here whether it was."""


@dataclass(eq=False, kw_only=True)
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
    """Fields of the request and what is wrong with them."""
    timing: str = ""
    """`gateway-timing`, in the syntax of Server-Timing."""
    from_edge: bool = False
    """The answer is not the gateway's own: it never saw the call, or its answer was lost on the way."""
    effect_unknown: bool = False
    """If this was a tool call, it may have happened: repeat it with the same key, or look, but order nothing anew."""
    passing: bool = False
    """Whether the same call may succeed later."""

    def __str__(self) -> str:
        """The sentence, with its code."""
        rules = f" [{', '.join(self.rules)}]" if self.rules else ""
        return f"{self.reason}: {self.sentence}{rules}"


class UnreachableError(Exception):
    """No connection can be made; says why. With `lasting`, trying again is no use."""

    def __init__(self, sentence: str, *, lasting: bool = False) -> None:
        super().__init__(sentence)
        self.lasting = lasting


def unreachable(error: UnreachableError) -> GatewayError:
    """There is no connection, and nothing was sent."""
    return GatewayError(
        status=Status.UNAVAILABLE,
        reason="gateway.unreachable",
        sentence=str(error),
        from_edge=True,
        passing=not error.lasting,
    )


def lost(why: str) -> GatewayError:
    """The answer broke off."""
    return GatewayError(
        status=Status.UNAVAILABLE,
        reason="gateway.connection_lost",
        sentence=f"The answer broke off before its end: {why}. What was received until then is not a whole answer.",
        from_edge=True,
        effect_unknown=True,
        passing=True,
    )


def unprocessed(why: str) -> GatewayError:
    """The peer says that it did not look at the request (RFC 9113, 6.8 and 8.7)."""
    return GatewayError(
        status=Status.UNAVAILABLE,
        reason="gateway.unprocessed",
        sentence=f"The request was not looked at: {why}.",
        from_edge=True,
        passing=True,
    )


def too_late(*, sent: bool) -> GatewayError:
    """The caller's own deadline passed."""
    after = " A tool call may have happened: repeat it with the same idempotency key, or ask for its operation."
    before = " It was not sent."
    return GatewayError(
        status=Status.DEADLINE_EXCEEDED,
        reason="deadline.exceeded",
        sentence="The call did not end in the time it was given." + (after if sent else before),
        effect_unknown=sent,
    )


def unreadable(what: str) -> GatewayError:
    """What came back breaks the contract."""
    return GatewayError(
        status=Status.INTERNAL,
        reason="gateway.answer_unreadable",
        sentence=f"The gateway's answer cannot be read: {what}.",
        effect_unknown=True,
    )


def miscounted(what: str) -> GatewayError:
    """More or fewer messages than the method gives: gRPC calls it UNIMPLEMENTED (doc/statuscodes.md)."""
    return GatewayError(
        status=Status.UNIMPLEMENTED,
        reason="gateway.answer_miscounted",
        sentence=f"The gateway's answer cannot be read: {what}.",
        effect_unknown=True,
    )


def incomplete(what: str) -> GatewayError:
    """The answer ended well and yet is not whole."""
    return GatewayError(
        status=Status.DATA_LOSS,
        reason="gateway.answer_incomplete",
        sentence=f"The gateway's answer is not whole: {what}.",
        effect_unknown=True,
    )


def unwritable(why: ValueError) -> GatewayError:
    """The request cannot be sent as it is."""
    return GatewayError(status=Status.INVALID_ARGUMENT, reason="request.invalid", sentence=str(why))
