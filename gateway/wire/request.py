"""The head of a gRPC request, read strictly: what two readers could understand differently is refused.

Rules: "gRPC over HTTP/2" (grpc.io, PROTOCOL-HTTP2), RFC 9113 section 8 for what makes a request malformed. h2 is told
not to check headers, so this is the only reader.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from gateway.terms.caller import Credentials
from gateway.terms.verdict import Kind
from gateway.wire.config import WireConfig
from gateway.wire.errors import EndedError, refused, unimplemented

Headers = Iterable[tuple[bytes, bytes]]
"""As h2 gives them: undecoded."""

ENCODINGS: Final = "identity,gzip"
"""The message encodings that are accepted."""

_CONTENT_TYPES: Final = frozenset({b"application/grpc", b"application/grpc+proto"})
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_CONNECTION_SPECIFIC: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_ORDINARY: Final = frozenset(
    {b"te", b"content-type", b"user-agent", b"authorization", b"grpc-timeout", b"grpc-accept-encoding"}
)
"""Names that almost every request has, so that the expression below is not asked for them."""

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
"""A field name in HTTP/2: a token without upper-case letters (RFC 9113, 8.2.1)."""
_FORBIDDEN: Final = re.compile(rb"[\x00\r\n]")

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_NS: Final = {
    b"H": 3_600_000_000_000,
    b"M": 60_000_000_000,
    b"S": 1_000_000_000,
    b"m": 1_000_000,
    b"u": 1_000,
    b"n": 1,
}

_WANTED: Final = (b":method", b":scheme", b":path")
_NAME_BYTES_REMEMBERED: Final = 64
_COLON: Final = ord(":")
_FIELD_OVERHEAD: Final = 32
"""What RFC 9113 (6.5.2) adds to the size of each header field."""


class MalformedRequestError(Exception):
    """Not a request in HTTP/2: the stream is reset (RFC 9113, 8.1.1)."""


class HttpStatusError(Exception):
    """Not a gRPC request: it is answered in plain HTTP."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What the headers of a gRPC request say."""

    path: str
    gzip: bool
    """Messages with the compressed flag are gzip; otherwise no message may have it."""
    timeout_ns: int | None
    credentials: Credentials


def read_head(headers: Headers, config: WireConfig) -> Head:
    """Read the headers of one request.

    Raises `MalformedRequestError` and `HttpStatusError` where gRPC has nothing to say, and `EndedError`.
    The `te` header is not asked for: some proxies drop it, and trailers work without.
    """
    fields = read_fields(headers, config)
    if fields.one(b":method") != b"POST":
        raise HttpStatusError(405)
    content_type = fields.one(b"content-type").partition(b";")[0].strip()
    if content_type not in _CONTENT_TYPES:
        raise HttpStatusError(415)
    return Head(
        path=fields.one(b":path").decode("latin-1"),
        gzip=_gzip(fields.all(b"grpc-encoding")),
        timeout_ns=grpc_timeout_ns(fields.all(b"grpc-timeout")),
        credentials=Credentials(
            authorization=_texts(fields.all(b"authorization")),
            serverless_authorization=_texts(fields.all(b"x-serverless-authorization")),
        ),
    )


class Fields:
    """Header fields by name, in their order."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[bytes, list[bytes]] = {}

    def add(self, name: bytes, value: bytes) -> None:
        """One more field."""
        if name in self._values:
            self._values[name].append(value)
        else:
            self._values[name] = [value]

    def any_forbidden(self) -> bool:
        """Whether a value holds what no value may hold; asked once for all, because that is what it costs."""
        return _FORBIDDEN.search(b" ".join([value for values in self._values.values() for value in values])) is not None

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """All but the pseudo-headers."""
        return [(name, value) for name, values in self._values.items() if name[0] != _COLON for value in values]

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a name."""
        return self._values.get(name, [])

    def one(self, name: bytes) -> bytes:
        """The only value; empty if there is none or more than one."""
        values = self._values.get(name, ())
        return values[0] if len(values) == 1 else b""


def read_fields(headers: Headers, config: WireConfig) -> Fields:
    """Every field of a request; raises `MalformedRequestError` for what is none, `EndedError` beyond the bounds."""
    fields = Fields()
    size = count = 0
    regular = False
    add = fields.add
    for name, value in headers:
        count += 1
        size += len(name) + len(value)
        if name in _PSEUDO:
            if regular or fields.all(name):
                raise MalformedRequestError("a pseudo-header is doubled or out of place")
        else:
            regular = True
            if name not in _ORDINARY and not _belongs(name):
                raise MalformedRequestError("a header does not belong into HTTP/2")
        add(name, value)
    size += count * _FIELD_OVERHEAD
    if fields.any_forbidden():
        raise MalformedRequestError("a header value holds NUL, CR or LF")
    for name in _WANTED:
        if not fields.one(name):
            raise MalformedRequestError(f"no {name.decode()}")
    if size > config.metadata_bytes_max or count > config.headers_max:
        sentence = f"send at most {config.headers_max} headers of {config.metadata_bytes_max} bytes in all"
        raise EndedError(refused(Kind.EXHAUSTED, "wire.headers_too_large", sentence))
    return fields


def _belongs(name: bytes) -> bool:
    """Whether a request may have a header of this name; callers use the same few names again and again."""
    return _belongs_short(name) if len(name) <= _NAME_BYTES_REMEMBERED else _may_be(name)


@lru_cache(maxsize=512)
def _belongs_short(name: bytes) -> bool:
    return _may_be(name)


def _may_be(name: bytes) -> bool:
    return name not in _CONNECTION_SPECIFIC and _NAME.fullmatch(name) is not None


def _gzip(values: list[bytes]) -> bool:
    if not values or values == [b"identity"]:
        return False
    if values == [b"gzip"]:
        return True
    raise EndedError(unimplemented("wire.encoding_unknown", f"compress messages with one of {ENCODINGS} or not at all"))


def grpc_timeout_ns(values: list[bytes]) -> int | None:
    """`grpc-timeout` in nanoseconds; raises `EndedError` for what is none."""
    if not values:
        return None
    match = _TIMEOUT.fullmatch(values[0])
    if match is None or len(values) > 1:
        sentence = "send one grpc-timeout of 1 to 8 digits and a unit of H, M, S, m, u or n"
        raise EndedError(refused(Kind.MALFORMED, "wire.timeout_malformed", sentence))
    return int(match.group(1)) * _UNIT_NS[match.group(2)]


def _texts(values: list[bytes]) -> tuple[str, ...]:
    # Latin-1 keeps every byte, so that identity sees exactly what came and refuses it there.
    return tuple(value.decode("latin-1") for value in values)
