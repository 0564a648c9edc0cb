"""HTTP/1.1 answers as bytes: the status line, the headers, and the framing of the body."""

from email.utils import formatdate
from enum import Enum, auto
from http import HTTPStatus
from typing import Final

from gateway.terms.clock import Clock
from gateway.wire.asgi import Pairs

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_BODILESS: Final = frozenset({204, 304})
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class Framing(Enum):
    """How a caller knows where a body ends."""

    NONE = auto()
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()


def framing_of(status: int, headers: Pairs, *, head_only: bool, minor: int) -> Framing:
    """RFC 9112, 6.3."""
    if head_only or status in _BODILESS:
        return Framing.NONE
    if any(name == b"content-length" for name, _ in headers):
        return Framing.LENGTH
    return Framing.CHUNKED if minor else Framing.CLOSE


def head_bytes(status: int, headers: Pairs, framing: Framing, *, closes: bool) -> bytes:
    """Status line and headers."""
    lines = [b"HTTP/1.1 %d %s" % (status, _REASONS.get(status, b""))]
    lines.extend(
        name + b": " + value for name, value in headers if status not in _BODILESS or name != b"content-length"
    )
    if framing is Framing.CHUNKED:
        lines.append(b"transfer-encoding: chunked")
    if closes:
        lines.append(b"connection: close")
    return b"\r\n".join((*lines, b"\r\n"))


def body_bytes(data: bytes, framing: Framing, *, last: bool) -> bytes:
    """A piece of the body."""
    if framing is Framing.NONE:
        return b""
    if framing is not Framing.CHUNKED:
        return data
    chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    return chunk + b"0\r\n\r\n" if last else chunk


class DateHeader:
    """The `date` that an answer must have (RFC 9110, 6.6.1), written once a second."""

    __slots__ = ("_clock", "_field", "_second")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._field = (b"date", b"")

    def field(self) -> tuple[bytes, bytes]:
        """The header, now."""
        second = self._clock.unix_us() // 1_000_000
        if second != self._second:
            self._second = second
            self._field = (b"date", formatdate(second, usegmt=True).encode())
        return self._field
