"""Cross-origin calls from browsers: configured origins, nobody else (https://fetch.spec.whatwg.org, "CORS protocol").

Tokens travel in headers, never in cookies: `access-control-allow-credentials` is not said, and `*` never either.
"""

from collections.abc import Iterable
from typing import Final

from gateway.wire.asgi import Pairs
from gateway.wire.web.fields import WebFields

_ALLOWED: Final = (
    "accept-encoding",
    "authorization",
    "connect-accept-encoding",
    "connect-content-encoding",
    "connect-protocol-version",
    "connect-timeout-ms",
    "content-encoding",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "x-grpc-web",
    "x-serverless-authorization",
    "x-user-agent",
)
_EXPOSED: Final = (
    "connect-accept-encoding",
    "connect-content-encoding",
    "gateway-operation",
    "gateway-request",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "retry-after",
    "trailer-gateway-timing",
)


class Cors:
    """What is said to which origin."""

    __slots__ = ("_preflight", "_replies", "_vary")

    def __init__(self, origins: Iterable[str], preflight_s: int) -> None:
        allowed = [origin.encode() for origin in origins]
        self._vary: Pairs = [(b"vary", b"origin")] if allowed else []
        exposed = ", ".join(_EXPOSED).encode()
        self._replies: dict[bytes, Pairs] = {
            origin: [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", exposed),
                *self._vary,
            ]
            for origin in allowed
        }
        self._preflight: Pairs = [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", ", ".join(_ALLOWED).encode()),
            (b"access-control-max-age", b"%d" % preflight_s),
        ]

    def replies(self, fields: WebFields) -> Pairs:
        """What every answer to this request says; a caller that is no browser, or not allowed, is told nothing."""
        return self._replies.get(fields.one(b"origin"), self._vary)

    def preflight(self, fields: WebFields) -> Pairs | None:
        """What the answer to a preflight says; None when the origin may not call, or asks nothing."""
        replies = self._replies.get(fields.one(b"origin"))
        if replies is None or not fields.one(b"access-control-request-method"):
            return None
        return [replies[0], *self._preflight, *self._vary]
