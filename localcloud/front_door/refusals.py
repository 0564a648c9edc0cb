"""The answers that the edge gives itself, in plain HTTP: a gRPC client only gets to see the status (study, 1.5)."""

import html
from dataclasses import dataclass

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One answer of the edge: HTTP status, a reason code for the access log, and the sentence on the page."""

    status: int
    reason: str
    text: str


class Refused(Exception):  # noqa: N818  # the word of the domain; nothing went wrong inside the door
    """A request ends with this refusal; `caller` is whose valid token it showed, if it did."""

    def __init__(self, refusal: Refusal, *, caller: str = "") -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.caller = caller


_IDENTITY = "Your client does not have permission to the requested URL: its ID token was not accepted."

TOKEN_MALFORMED = Refusal(status=401, reason="token-malformed", text=_IDENTITY)
TOKEN_DUPLICATE = Refusal(status=401, reason="token-duplicate", text=_IDENTITY)
TOKEN_IS_ACCESS_TOKEN = Refusal(status=401, reason="token-is-access-token", text=_IDENTITY)
TOKEN_UNKNOWN_KEY = Refusal(status=401, reason="token-unknown-key", text=_IDENTITY)
TOKEN_SIGNATURE = Refusal(status=401, reason="token-signature", text=_IDENTITY)
TOKEN_ISSUER = Refusal(status=401, reason="token-issuer", text=_IDENTITY)
TOKEN_AUDIENCE = Refusal(status=401, reason="token-audience", text=_IDENTITY)
TOKEN_EXPIRED = Refusal(status=401, reason="token-expired", text=_IDENTITY)
TOKEN_MISSING = Refusal(
    status=403, reason="token-missing", text="Your client does not have permission to get this URL: send an ID token."
)
NOT_INVOKER = Refusal(
    status=403,
    reason="not-invoker",
    text="Your client does not have permission to get this URL: it needs roles/run.invoker on this service.",
)
INGRESS_CLOSED = Refusal(status=404, reason="ingress-closed", text="The requested URL was not found on this server.")
NO_INSTANCE = Refusal(
    status=429, reason="no-instance", text="The request was aborted because there was no available instance."
)
START_FAILED = Refusal(status=500, reason="start-failed", text="The container failed to start and listen on its port.")
CONNECTION_ERROR = Refusal(
    status=503, reason="connection-error", text="The request failed: connection error or malformed response."
)
KEYS_UNAVAILABLE = Refusal(
    status=503, reason="keys-unavailable", text="The request could not be authenticated at present. Try again."
)
TIMED_OUT = Refusal(status=504, reason="timeout", text="The request has exceeded the service's request timeout.")

_TITLES = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Rate exceeded",
    500: "Server Error",
    503: "Service Unavailable",
    504: "Upstream request timeout",
}


def page(refusal: Refusal) -> tuple[Headers, bytes]:
    """Return the reply's head and body. There is no grpc-status in it: the container has not spoken."""
    title = f"{refusal.status} {_TITLES[refusal.status]}"
    body = (
        f"<html><head><title>{title}</title></head>\n"
        f"<body><h1>Error: {_TITLES[refusal.status]}</h1>\n<h2>{html.escape(refusal.text)}</h2></body></html>\n"
    ).encode()
    head = [
        (b":status", b"%d" % refusal.status),
        (b"content-type", b"text/html; charset=UTF-8"),
        (b"content-length", b"%d" % len(body)),
        (b"server", b"Google Frontend"),
    ]
    if refusal.status == 401:
        head.append((b"www-authenticate", b'Bearer error="invalid_token"'))
    return head, body
