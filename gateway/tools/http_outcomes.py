"""What an HTTP answer says about an effect: happened, did not happen, or nobody knows.

A definite no is one that the service gives before it does anything: a 4xx. A 5xx, a lost reply, an answer that cannot
be read or a redirect may each stand for an effect that happened, so for anything but a read they are Unknown, and what
was held stays held (attack rows 28 and 35).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.terms.asks import Effect, Idempotency, ToolDeclaration
from gateway.terms.limits import RESULT_BYTES_MAX
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Failure, Outcome, Succeeded, Unknown
from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_value
from gateway.tools.openapi_request import written
from gateway.tools.roundtrip import NoAnswer, Received
from gateway.tools.words import harmless, scrubbed

_REASONS: Final[Mapping[int, str]] = {
    400: "service.invalid",
    401: "service.unauthorized",
    403: "service.forbidden",
    404: "service.not_found",
    409: "service.conflict",
    410: "service.not_found",
    412: "service.precondition",
    422: "service.unprocessable",
    429: "service.rate_limited",
}
TOLD_BYTES_MAX: Final = 2 * RESULT_BYTES_MAX
"""Of a result in our own writing: half of what one message to a caller may have."""

_INDEFINITE: Final = frozenset({408, 425, 499})
"""4xx that stand for a time that ran out, or a repeat that came too early: the first may be at work."""
_NOT_DONE: Final = frozenset({307, 308})
"""Redirects that say: do it elsewhere. The others may be the answer to something that was done."""
_WORDS: Final = ("detail", "message", "title", "error_description", "error")

UNREACHABLE: Final = Failed(
    failure=Failure(
        reason="upstream.unreachable", message="The service cannot be reached; nothing was sent. Try again later."
    )
)
GUARDED: Final = Failed(
    failure=Failure(
        reason="egress.refused",
        message="The service's name leads to an address that the gateway does not connect to; nothing was sent.",
    )
)
REPLY_LOST: Final = Unknown(
    failure=Failure(
        reason="upstream.reply_lost",
        message="The service gave no definite answer; nobody knows yet whether it happened.",
    )
)
UNREADABLE: Final = Unknown(
    failure=Failure(
        reason="upstream.reply_unreadable",
        message="The service answered in a form that cannot be read; nobody knows yet whether it happened.",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Reads the answers of one service."""

    service: str
    secrets: tuple[str, ...]
    """What no answer may tell: services echo what they were sent (attack row 33)."""

    def outcome(self, tool: ToolDeclaration, cost: int, reply: Received | NoAnswer) -> Outcome:
        """What a reply to a call of this tool says about its effect."""
        charges = charges_of(cost)
        if isinstance(reply, NoAnswer):
            return not_sent(reply) or indefinite(tool, charges, REPLY_LOST)
        if 200 <= reply.status < 300:
            return self._succeeded(tool, charges, reply)
        if 400 <= reply.status < 500 and not _may_be_at_work(tool, reply.status):
            return self._refused(reply, charges)
        if reply.status in _NOT_DONE:
            message = f"The service redirects ({reply.status}), which is not followed; nothing happened."
            return Failed(failure=Failure(reason="service.redirected", message=message), charges=charges)
        return indefinite(tool, charges, REPLY_LOST)

    def _succeeded(self, tool: ToolDeclaration, charges: tuple[tuple[Unit, int], ...], reply: Received) -> Outcome:
        try:
            body = body_of(reply)
        except JsonRefusedError:
            return indefinite(tool, charges, UNREADABLE)
        told: JsonValue = {"service": self.service, "status": reply.status, "body": scrubbed(body, self.secrets)}
        return succeeded(tool, charges, told)

    def _refused(self, reply: Received, charges: tuple[tuple[Unit, int], ...]) -> Failed:
        words = self._words(reply)
        reason = _REASONS.get(reply.status, "service.refused")
        message = (
            f"The service refused ({reply.status}): {words}" if words else f"The service refused ({reply.status})."
        )
        return Failed(failure=Failure(reason=reason, message=message), charges=charges)

    def _words(self, reply: Received) -> str:
        try:
            body = body_of(reply)
        except JsonRefusedError:
            return ""
        if not isinstance(body, dict):
            return ""
        told = next((text for name in _WORDS if isinstance(text := body.get(name), str)), "")
        return harmless(told, self.secrets)


def charges_of(cost: int) -> tuple[tuple[Unit, int], ...]:
    """One call, and what the operator says that it costs."""
    return ((Unit.CALLS, 1), (Unit.COST, cost)) if cost else ((Unit.CALLS, 1),)


def succeeded(tool: ToolDeclaration, charges: tuple[tuple[Unit, int], ...], told: JsonValue) -> Outcome:
    """A result; one that grew beyond its bound when it was written anew, with all its escapes, counts as unreadable."""
    result = written(told)
    if len(result) > TOLD_BYTES_MAX:
        return indefinite(tool, charges, UNREADABLE)
    return Succeeded(result=result, charges=charges)


def not_sent(reply: NoAnswer) -> Failed | None:
    """The failure of a call of which no byte left; None if one may have."""
    if reply.sent:
        return None
    return GUARDED if reply.guarded else UNREACHABLE


def indefinite(tool: ToolDeclaration, charges: tuple[tuple[Unit, int], ...], unknown: Unknown) -> Outcome:
    """Nobody knows; but a read that got no answer has simply failed."""
    if tool.effect is not Effect.READ:
        return unknown
    failure = Failure(reason=unknown.failure.reason, message="The service gave no answer that can be used; ask again.")
    return Failed(failure=failure, charges=charges)


def body_of(reply: Received) -> JsonValue:
    """The body in the strict reading: JSON, a text as a JSON string, nothing as null. Raises `JsonRefusedError`."""
    if reply.body is None:
        raise JsonRefusedError("compressed or too large")
    if not reply.body:
        return None
    if reply.media_type == "application/json" or reply.media_type.endswith("+json"):
        return strict_value(reply.body, size_max=RESULT_BYTES_MAX)
    if reply.media_type.startswith("text/"):
        try:
            return reply.body.decode("utf-8")
        except UnicodeDecodeError:
            raise JsonRefusedError("a text that is not UTF-8") from None
    raise JsonRefusedError("neither JSON nor text")


def _may_be_at_work(tool: ToolDeclaration, status: int) -> bool:
    """With a key of ours, a conflict may be with our own first sending."""
    return status in _INDEFINITE or (status == 409 and tool.idempotency is Idempotency.NATIVE_KEY)
