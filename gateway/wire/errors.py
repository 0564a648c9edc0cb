"""The one translation of refusals: from the words of the terms to status, public sentence and details on the wire."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from grpclib.const import Status

from gateway.terms.ids import RequestId
from gateway.terms.verdict import Kind, Refusal
from generated.agentic.wire.v1 import BadRequest, Delay, Detail, ErrorInfo, FieldViolation, RetryInfo
from generated.agentic.wire.v1 import Status as StatusMessage
from generated.agentic.wire.v1.codec import (
    encode_BadRequest,
    encode_ErrorInfo,
    encode_RetryInfo,
    encode_Status,
)

DOMAIN: Final = "agentic.gateway"
"""Of every ErrorInfo."""

TRAILERS_BYTES_MAX: Final = 8 * 1024
"""What clients take of trailers in all: gRPC's usual default. The bounds below keep every refusal under it."""

MESSAGE_BYTES_MAX: Final = 1_024
"""The percent-encoded `grpc-message`."""
SENTENCE_BYTES_MAX: Final = 768
FACT_BYTES_MAX: Final = 1_024
"""One fact of the ErrorInfo; only the list of rules comes near it."""
VIOLATIONS_MAX: Final = 8
VIOLATION_FIELD_BYTES_MAX: Final = 96
VIOLATION_BYTES_MAX: Final = 256

_TYPE_PREFIX: Final = "type.googleapis.com/google.rpc."
_ELLIPSIS: Final = "\u2026"
_UNQUOTED: Final = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))
"""What `grpc-message` carries as it is (gRPC over HTTP/2, "Percent-Encoded")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one kind of refusal is said in each protocol."""

    grpc: Status
    connect: str
    http: int


OUTCOMES: Final[Mapping[Kind, Outcome]] = {
    Kind.MALFORMED: Outcome(grpc=Status.INVALID_ARGUMENT, connect="invalid_argument", http=400),
    Kind.UNAUTHENTICATED: Outcome(grpc=Status.UNAUTHENTICATED, connect="unauthenticated", http=401),
    Kind.FORBIDDEN: Outcome(grpc=Status.PERMISSION_DENIED, connect="permission_denied", http=403),
    Kind.NOT_FOUND: Outcome(grpc=Status.NOT_FOUND, connect="not_found", http=404),
    Kind.KEY_REUSED: Outcome(grpc=Status.ALREADY_EXISTS, connect="already_exists", http=409),
    Kind.IN_PROGRESS: Outcome(grpc=Status.ABORTED, connect="aborted", http=409),
    Kind.EXHAUSTED: Outcome(grpc=Status.RESOURCE_EXHAUSTED, connect="resource_exhausted", http=429),
    # Not UNIMPLEMENTED: the method exists and works, only not for this model or request.
    Kind.UNSUPPORTED: Outcome(grpc=Status.FAILED_PRECONDITION, connect="failed_precondition", http=400),
    Kind.UNAVAILABLE: Outcome(grpc=Status.UNAVAILABLE, connect="unavailable", http=503),
    Kind.LATE: Outcome(grpc=Status.DEADLINE_EXCEEDED, connect="deadline_exceeded", http=504),
    Kind.INTERNAL: Outcome(grpc=Status.INTERNAL, connect="internal", http=500),
}

UNIMPLEMENTED: Final = Outcome(grpc=Status.UNIMPLEMENTED, connect="unimplemented", http=501)
"""What only the wire says: no such method, an unknown compression, more or fewer messages than the method takes."""


CANCELLED: Final = Outcome(grpc=Status.CANCELLED, connect="canceled", http=499)
"""For the log: the caller is not there to hear it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a call ends that does not end well."""

    outcome: Outcome
    refusal: Refusal
    details: tuple[Detail, ...] | None = None
    """What a service of another table says beside its sentence: exactly these, and the sentence exactly as it is.

    None, the gateway's own way: a sentence that is safe to show anywhere, and details that are made of the refusal.
    """


class EndedError(Exception):
    """The wire itself refuses a call."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.refusal.reason)
        self.ending = ending


def ending(refusal: Refusal) -> Ending:
    """What a refusal of the terms is on the wire."""
    return Ending(outcome=OUTCOMES[refusal.kind], refusal=refusal)


def refused(kind: Kind, reason: str, sentence: str, *, retry_after_ms: int | None = None) -> Ending:
    """A refusal that the wire itself speaks."""
    return ending(Refusal(kind=kind, reason=reason, sentence=sentence, retry_after_ms=retry_after_ms))


def unimplemented(reason: str, sentence: str) -> Ending:
    """See `UNIMPLEMENTED`."""
    return Ending(outcome=UNIMPLEMENTED, refusal=Refusal(kind=Kind.UNSUPPORTED, reason=reason, sentence=sentence))


LEFT: Final = Ending(
    outcome=CANCELLED,
    refusal=Refusal(kind=Kind.UNAVAILABLE, reason="wire.caller_left", sentence="the caller left"),
)


def internal(request: RequestId) -> Ending:
    """All that a caller learns of an unexpected failure: how to ask about it."""
    return refused(
        Kind.INTERNAL, "internal", f"internal error; quote request id {request} to the operator of this gateway"
    )


def status_trailers(end: Ending, request: RequestId) -> list[tuple[str, str]]:
    """`grpc-status`, `grpc-message` and `grpc-status-details-bin` of a call that did not end well."""
    details = b64encode(status_details(end, request)).rstrip(b"=")
    return [
        ("grpc-status", str(end.outcome.grpc.value)),
        ("grpc-message", percent_encoded(_sentence(end))),
        ("grpc-status-details-bin", details.decode("ascii")),
    ]


def status_details(end: Ending, request: RequestId) -> bytes:
    """A google.rpc.Status with ErrorInfo, and RetryInfo and BadRequest where they have something to say."""
    details = _own_details(end.refusal, request) if end.details is None else [*end.details]
    return encode_Status(StatusMessage(code=end.outcome.grpc.value, message=_sentence(end), details=details))


def _own_details(refusal: Refusal, request: RequestId) -> list[Detail]:
    details = [_detail("ErrorInfo", encode_ErrorInfo(_error_info(refusal, request)))]
    if refusal.retry_after_ms is not None:
        seconds, milliseconds = divmod(refusal.retry_after_ms, 1_000)
        delay = Delay(seconds=seconds, nanos=milliseconds * 1_000_000)
        details.append(_detail("RetryInfo", encode_RetryInfo(RetryInfo(retry_delay=delay))))
    if refusal.violations:
        details.append(_detail("BadRequest", encode_BadRequest(_bad_request(refusal))))
    return details


def _sentence(end: Ending) -> str:
    shown = plain if end.details is None else _cut
    return shown(end.refusal.sentence, SENTENCE_BYTES_MAX)


def plain(text: str, bytes_max: int) -> str:
    """Text that is safe to show anywhere: no control, bidi or surrogate characters, cut to a length in UTF-8."""
    # A character has at least one byte: no need to look at more than these.
    text = text[: bytes_max + 1]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return _cut(text, bytes_max)


def _cut(text: str, bytes_max: int) -> str:
    """Text of at most so many bytes in UTF-8, cut between characters; what no UTF-8 has is replaced."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[: bytes_max - len(_ELLIPSIS.encode())].decode(errors="ignore") + _ELLIPSIS


def percent_encoded(text: str) -> str:
    """Text as the value of `grpc-message`: percent-encoded UTF-8 of bounded length, every character as it is."""
    encoded = quote(text, safe=_UNQUOTED, errors="replace")
    if len(encoded) > MESSAGE_BYTES_MAX:
        # Three for each byte in the worst case.
        encoded = quote(_cut(text, MESSAGE_BYTES_MAX // 3), safe=_UNQUOTED)
    return encoded


def _error_info(refusal: Refusal, request: RequestId) -> ErrorInfo:
    facts = {
        "request": request,
        "rules": ",".join(refusal.rules),
        "policy_hash": refusal.policy_hash,
        "operation": refusal.operation_id,
    }
    return ErrorInfo(
        reason=plain(refusal.reason, FACT_BYTES_MAX),
        domain=DOMAIN,
        metadata={name: plain(fact, FACT_BYTES_MAX) for name, fact in facts.items() if fact},
    )


def _bad_request(refusal: Refusal) -> BadRequest:
    return BadRequest(
        field_violations=[
            FieldViolation(
                field=plain(violation.field, VIOLATION_FIELD_BYTES_MAX),
                description=plain(violation.description, VIOLATION_BYTES_MAX),
            )
            for violation in refusal.violations[:VIOLATIONS_MAX]
        ]
    )


def _detail(name: str, value: bytes) -> Detail:
    return Detail(type_url=_TYPE_PREFIX + name, value=value)
