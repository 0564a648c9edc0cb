"""Errors as Connect says them: an object of JSON with the code, the sentence and the details of google.rpc."""

from base64 import b64encode
from typing import Final

import msgspec

from gateway.terms.ids import RequestId
from gateway.wire.asgi import Pairs
from gateway.wire.errors import Ending, status_details
from generated.agentic.wire.v1 import BadRequest, Detail, ErrorInfo
from generated.agentic.wire.v1.codec import (
    decode_BadRequest,
    decode_ErrorInfo,
    decode_RetryInfo,
    decode_Status,
)

_TYPE_PREFIX: Final = "type.googleapis.com/"

CONTENT_TYPE: Final = (b"content-type", b"application/json")

ErrorObject = dict[str, object]


def error_object(end: Ending, request: RequestId) -> ErrorObject:
    """An Error of the Connect protocol, with what google.rpc.Status says over gRPC."""
    status = decode_Status(status_details(end, request))
    error: ErrorObject = {"code": end.outcome.connect}
    if status.message:
        error["message"] = status.message
    if status.details:
        error["details"] = [_detail(detail) for detail in status.details]
    return error


def error_body(end: Ending, request: RequestId) -> bytes:
    """The same as the body of an answer."""
    return msgspec.json.encode(error_object(end, request))


def hints(end: Ending) -> Pairs:
    """What HTTP itself can say of an error: when to come back, and that a token is missing (RFC 9110, 10.2.3, 11.6)."""
    pairs = []
    if end.refusal.retry_after_ms is not None:
        # Whole seconds, rounded up, and at least one.
        pairs.append((b"retry-after", b"%d" % max(1, -(-end.refusal.retry_after_ms // 1_000))))
    if end.outcome.http == 401:
        pairs.append((b"www-authenticate", b"Bearer"))
    return pairs


def _detail(detail: Detail) -> ErrorObject:
    name = detail.type_url.removeprefix(_TYPE_PREFIX)
    said: ErrorObject = {"type": name, "value": b64encode(detail.value).rstrip(b"=").decode("ascii")}
    debug = _debug(name, detail.value)
    if debug is not None:
        said["debug"] = debug
    return said


def _debug(name: str, value: bytes) -> ErrorObject | None:
    """A detail for people who read JSON; None for what is not ours."""
    match name:
        case "google.rpc.ErrorInfo":
            return _error_info(decode_ErrorInfo(value))
        case "google.rpc.BadRequest":
            return _bad_request(decode_BadRequest(value))
        case "google.rpc.RetryInfo":
            delay = decode_RetryInfo(value).retry_delay
            return {} if delay is None else {"retryDelay": f"{delay.seconds}.{delay.nanos // 1_000_000:03}s"}
    return None


def _error_info(info: ErrorInfo) -> ErrorObject:
    facts: ErrorObject = {"reason": info.reason, "domain": info.domain}
    if info.metadata:
        facts["metadata"] = info.metadata
    return facts


def _bad_request(found: BadRequest) -> ErrorObject:
    return {
        "fieldViolations": [
            {"field": violation.field, "description": violation.description} for violation in found.field_violations
        ]
    }
