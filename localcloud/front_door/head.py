"""The request head as the container gets it: token without signature, the caller's address, the trace."""

import re
import secrets
from dataclasses import dataclass

from hpack import NeverIndexedHeaderTuple

from localcloud.front_door.edge import Admission
from localcloud.front_door.refusals import Headers
from localcloud.google.jws import SIGNATURE_REMOVED

# HTTP/2 itself forbids the connection headers of RFC 9110 section 7.6.1 (our parser refuses them); these are left,
# or are what the edge sets itself. `te: trailers` passes: gRPC servers ask for it.
_NOT_PASSED = frozenset(
    {
        b"proxy-authorization",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"forwarded",
        b"traceparent",
        b"x-cloud-trace-context",
    }
)
_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request head, the address that it came from, and whether the token's signature is to be taken off."""

    headers: Headers
    address: str
    strip_signature: bool


def for_container(arrival: Arrival, admission: Admission) -> Headers:
    """Return the head to send on. It says https, as behind the real edge, which ends TLS."""
    passed: Headers = []
    own: dict[bytes, bytes] = {}
    for name, value in arrival.headers:
        if name in _NOT_PASSED:
            own[name] = own[name] + b"," + value if name in own else value
        elif name == admission.checked_header and arrival.strip_signature:
            passed.append(NeverIndexedHeaderTuple(name, _stripped(value)))
        else:
            passed.append((name, value))
    return passed + _added(arrival.address, own)


def _added(address: str, before: dict[bytes, bytes]) -> Headers:
    """Return what the edge adds: the caller's address behind those that it claims, and a span of the caller's trace."""
    ip = address.encode("ascii")
    claimed = before.get(b"x-forwarded-for")
    parent = _TRACEPARENT.fullmatch(before.get(b"traceparent", b""))
    trace = parent[1] if parent else secrets.token_hex(16).encode("ascii")
    span = secrets.randbits(63) | 1
    return [
        (b"x-forwarded-for", claimed + b"," + ip if claimed else ip),
        (b"x-forwarded-proto", b"https"),
        (b"forwarded", b'for="%s";proto=https' % ip),
        NeverIndexedHeaderTuple(b"traceparent", b"00-%s-%016x-01" % (trace, span)),
        NeverIndexedHeaderTuple(b"x-cloud-trace-context", b"%s/%d;o=1" % (trace, span)),
    ]


def _stripped(value: bytes) -> bytes:
    """Return `Bearer head.payload.MARKER` for a bearer token: the container could not replay it elsewhere."""
    return value.rpartition(b".")[0] + b"." + SIGNATURE_REMOVED.encode("ascii")
