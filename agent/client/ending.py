"""How a call ended, read from its headers and trailers: well, refused by the gateway, or answered by an edge."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar
from urllib.parse import unquote

from grpclib.const import Status

from agent.client.errors import PASSING, WITHOUT_EFFECT, GatewayError
from generated.agentic.wire.v1 import BadRequest, ErrorInfo, RetryInfo
from generated.agentic.wire.v1 import Status as WireStatus
from generated.agentic.wire.v1.codec import CODECS

Fields = Iterable[tuple[bytes, bytes]]
Kind = TypeVar("Kind")

_TYPES: Final = "type.googleapis.com/google.rpc."
_STATUSES: Final = {status.value: status for status in Status}
_GRPC: Final = "application/grpc"
_OWN: Final = "gateway-request"
"""The header on everything that the gateway itself answers."""

HTTP: Final[Mapping[int, tuple[Status, str]]] = {
    400: (Status.INTERNAL, "An edge before the gateway could not read the request."),
    401: (
        Status.UNAUTHENTICATED,
        "Cloud Run's edge did not accept the ID token: its audience must be the gateway's own URL (GATEWAY_AUDIENCE).",
    ),
    403: (
        Status.PERMISSION_DENIED,
        "Cloud Run's edge let the call not through: grant roles/run.invoker on the gateway to this service account.",
    ),
    404: (
        Status.UNIMPLEMENTED,
        "Cloud Run's edge knows no such service: check the URL, and the gateway's ingress setting.",
    ),
    429: (Status.UNAVAILABLE, "The gateway has no free instance; try again later, or raise its maximum of instances."),
    500: (Status.UNKNOWN, "No instance of the gateway could be started; see its log."),
    502: (Status.UNAVAILABLE, "The gateway's instance could not be reached; try again later."),
    503: (Status.UNAVAILABLE, "The gateway's instance could not be reached, or broke off; try again later."),
    504: (
        Status.UNAVAILABLE,
        "The call took longer than the gateway's service may take for one (its request timeout).",
    ),
}
"""What an edge's own answers mean (study of Cloud Run, section 1.5; gRPC's http-grpc-status-mapping)."""

EDGE_PASSING: Final = frozenset({429, 500, 502, 503})
"""Not 504: who took too long once will do so again, and the call may still be running."""

EDGE_WITHOUT_EFFECT: Final = frozenset({400, 401, 403, 404, 429})


def read_fields(fields: Fields) -> dict[str, str]:
    """Header fields by name; of one that comes twice, the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}


def metadata(fields: Mapping[str, str]) -> dict[str, str]:
    """What the gateway says beside the answer: neither HTTP's fields nor gRPC's own."""
    return {name: value for name, value in fields.items() if not name.startswith((":", "grpc-", "content-"))}


def foreign(headers: Mapping[str, str]) -> GatewayError | None:
    """The error that an answer means which is no gRPC at all; what its body says is for browsers."""
    http = headers.get(":status", "")
    if "grpc-status" in headers or (http == "200" and headers.get("content-type", "").lower().startswith(_GRPC)):
        return None
    return _edge(http, headers)


def ending(headers: Mapping[str, str], trailers: Mapping[str, str], *, answered: bool = False) -> GatewayError | None:
    """The error that a gRPC call ended with; None if it ended well. Trailers are empty if all came in the headers.

    `answered`: a message came, and the headers before it cannot say how the call ended.
    """
    if answered or trailers:
        headers = {name: value for name, value in headers.items() if not name.startswith("grpc-")}
    told = {**headers, **trailers}
    status = _status(told.get("grpc-status", ""))
    if status is Status.OK:
        return None
    return _refused(status, told)


def _status(value: str) -> Status:
    """A missing or unknown status is UNKNOWN (gRPC over HTTP/2, "Responses")."""
    if value.isascii() and value.isdigit() and len(value) <= 2:
        return _STATUSES.get(int(value), Status.UNKNOWN)
    return Status.UNKNOWN


def _refused(status: Status, told: Mapping[str, str]) -> GatewayError:
    details = _details(told.get("grpc-status-details-bin", ""))
    info = _first(details, ErrorInfo)
    facts = info.metadata if info else {}
    own = info is not None or _OWN in told
    message = unquote(told.get("grpc-message", ""), errors="replace")
    if not message:
        message = "The call ended without a status." if "grpc-status" not in told else f"The call ended {status.name}."
    return GatewayError(
        status=status,
        reason=info.reason if info else f"{'status' if own else 'edge'}.{status.name.lower()}",
        sentence=message if own else f"What answered is not the gateway; check the URL. It said: {message}",
        rules=tuple(rule for rule in facts.get("rules", "").split(",") if rule),
        policy_hash=facts.get("policy_hash", ""),
        request_id=facts.get("request", "") or told.get(_OWN, ""),
        operation_id=facts.get("operation", "") or told.get("gateway-operation", ""),
        retry_after_s=_retry_after_s(_first(details, RetryInfo)),
        violations=_violations(_first(details, BadRequest)),
        timing=told.get("gateway-timing", ""),
        from_edge=not own,
        effect_unknown=status not in WITHOUT_EFFECT,
        passing=status in PASSING,
    )


def _edge(http: str, headers: Mapping[str, str]) -> GatewayError:
    """An answer in plain HTTP: of the edge, or of the gateway for what is no gRPC at all."""
    number = int(http) if http.isascii() and http.isdigit() else 0
    unknown = (Status.UNKNOWN, "What answered is no gRPC service; check the URL.")
    status, sentence = HTTP.get(number, unknown)
    own = _OWN in headers
    return GatewayError(
        status=status,
        reason=f"{'status' if own else 'edge'}.{status.name.lower()}",
        sentence=f"{sentence} (HTTP {http or 'without status'})",
        request_id=headers.get(_OWN, ""),
        from_edge=not own,
        effect_unknown=number not in EDGE_WITHOUT_EFFECT,
        passing=number in EDGE_PASSING,
    )


def _details(value: str) -> list[object]:
    """The details that we know; what cannot be read is as good as absent."""
    try:
        status = CODECS[WireStatus].decode(base64.b64decode(value + "=" * (-len(value) % 4)))
    except (binascii.Error, ValueError):
        return []
    found: list[object] = []
    for detail in status.details if isinstance(status, WireStatus) else []:
        for kind in (ErrorInfo, RetryInfo, BadRequest):
            if detail.type_url == _TYPES + kind.__name__:
                try:
                    found.append(CODECS[kind].decode(detail.value))
                except ValueError:
                    continue
    return found


def _first(details: list[object], kind: type[Kind]) -> Kind | None:
    return next((detail for detail in details if isinstance(detail, kind)), None)


def _retry_after_s(told: RetryInfo | None) -> float | None:
    if told is None or told.retry_delay is None:
        return None
    return max(0.0, told.retry_delay.seconds + told.retry_delay.nanos / 1e9)


def _violations(told: BadRequest | None) -> tuple[tuple[str, str], ...]:
    if told is None:
        return ()
    return tuple((violation.field, violation.description) for violation in told.field_violations)
