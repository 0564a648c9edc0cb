"""What is said to requests that are no call, and what to do: where nothing is, by a wrong method, in a wrong form."""

from collections.abc import Mapping
from typing import Final

from grpclib.const import Status

from gateway.terms.verdict import Kind, Refusal
from gateway.wire.errors import Ending, Outcome, plain, unimplemented
from gateway.wire.web.endpoint import Endpoint

PATH_BYTES_MAX: Final = 128

_BY_GET: Final = "GET with ?encoding=json&message=%7B%7D in the query"


def nowhere(path: str, endpoints: Mapping[str, Endpoint]) -> Ending:
    """Nothing is at a path. Connect says so with HTTP's 404 and the code `unimplemented`."""
    shown = plain(path, PATH_BYTES_MAX)
    service = path[1:].rpartition("/")[0]
    methods = [endpoint.route.method for endpoint in endpoints.values()]
    own = sorted(method.name for method in methods if method.service == service)
    if own:
        sentence = f"there is no method {shown}; {service} has {', '.join(own)}"
    else:
        services = ", ".join(sorted({method.service for method in methods}))
        sentence = (
            f"nothing is at {shown}; call a method with POST /<service>/<Method>, of {services}; "
            "GET /healthz and /readyz tell health"
        )
    refusal = unimplemented("wire.method_unknown", sentence).refusal
    return Ending(outcome=Outcome(grpc=Status.UNIMPLEMENTED, connect="unimplemented", http=404), refusal=refusal)


def wrong_method(method: str, endpoint: Endpoint | None) -> Ending:
    """Another HTTP method than the path takes."""
    if endpoint is None:
        sentence = "ask for health with GET"
    elif endpoint.by_codec:
        sentence = f"call this method with POST, or with {_BY_GET}"
    elif method == "GET":
        sentence = "call this method with POST; GET is for methods without side effects"
    else:
        sentence = "call this method with POST"
    return _unknown("wire.http_method", sentence, 405)


def wrong_form(content_type: bytes, endpoint: Endpoint) -> Ending:
    """A content type that this method is not called with."""
    shown = plain(content_type.decode("latin-1"), PATH_BYTES_MAX) or "none"
    # The one that a person can write by hand, where there is one.
    first = min(endpoint.by_content_type, key=lambda name: (b"grpc" in name, b"json" not in name)).decode()
    if content_type.startswith(b"application/grpc") and not content_type.startswith(b"application/grpc-web"):
        sentence = f"gRPC needs HTTP/2 from end to end; or send content-type: {first}"
    else:
        sentence = f"the content-type is {shown}; send content-type: {first}, or another that accept-post lists"
    return _unknown("wire.content_type", sentence, 415)


def wrong_query() -> Ending:
    """A GET that does not say how its message is written, or has a body."""
    return _unknown("wire.content_type", f"call this method by {_BY_GET} and without a body", 415)


def no_origin() -> Ending:
    """A preflight of an origin that may not call."""
    return _unknown("wire.origin", "this origin may not call from a browser; the operator lists those that may", 403)


def _unknown(reason: str, sentence: str, http: int) -> Ending:
    """What HTTP refuses before it is a call: `unknown` is what clients make of these statuses by themselves."""
    refusal = Refusal(kind=Kind.MALFORMED, reason=reason, sentence=sentence)
    return Ending(outcome=Outcome(grpc=Status.UNKNOWN, connect="unknown", http=http), refusal=refusal)
