"""The framing of gRPC messages: five bytes of prefix, then the message; the limit is checked while reading."""

import zlib
from struct import Struct
from typing import Final

from gateway.terms.verdict import Kind
from gateway.wire.errors import EndedError, Ending, refused, unimplemented

PREFIX: Final = Struct(">BI")
"""The compressed flag and the length (gRPC over HTTP/2, "Length-Prefixed-Message")."""

_GZIP: Final = 16 + zlib.MAX_WBITS
"""zlib's word for exactly the gzip format."""


class OneMessage:
    """Puts together the one message of a request from the pieces that arrive, and refuses as early as can be.

    What it holds is never more than the limit and one DATA frame: the prefix is read before anything is kept.
    """

    __slots__ = ("_bytes_max", "_gzip", "_held", "_wanted")

    def __init__(self, bytes_max: int, *, gzip: bool) -> None:
        self._bytes_max = bytes_max
        self._gzip = gzip
        self._held: bytes | bytearray = b""
        self._wanted = 0
        """Prefix and message; 0 until the prefix is read."""

    def add(self, data: bytes) -> None:
        """Take the next piece; raises `EndedError` when it cannot become an acceptable message."""
        if not self._held:
            self._held = data
        else:
            if not isinstance(self._held, bytearray):
                self._held = bytearray(self._held)
            self._held += data
        if not self._wanted and len(self._held) >= PREFIX.size:
            self._wanted = PREFIX.size + announced(self._held, self._bytes_max, gzip=self._gzip)
        if self._wanted and len(self._held) > self._wanted:
            raise EndedError(_CARDINALITY)

    def finish(self) -> bytes:
        """The message, inflated, when the request has ended; raises `EndedError`."""
        if not self._held:
            raise EndedError(_CARDINALITY)
        if len(self._held) != self._wanted:
            raise EndedError(CUT_OFF)
        message = bytes(memoryview(self._held)[PREFIX.size :])
        return inflated(message, self._bytes_max) if self._held[0] else message


def announced(held: bytes | bytearray, bytes_max: int, *, gzip: bool) -> int:
    """How long the message behind a prefix says it is; raises `EndedError` for one that is not acceptable."""
    flag, size = PREFIX.unpack_from(held)
    if flag > 1 or (flag and not gzip):
        raise EndedError(_BAD_FLAG)
    if size > bytes_max:
        raise EndedError(too_large(bytes_max))
    return int(size)


def inflated(message: bytes, bytes_max: int) -> bytes:
    """A message that was one gzip member; `EndedError` when it is none, or beyond the bound when inflated."""
    inflater = zlib.decompressobj(_GZIP)
    try:
        plain = inflater.decompress(message, bytes_max + 1)
    except zlib.error:
        raise EndedError(_NOT_GZIP) from None
    if len(plain) > bytes_max:
        raise EndedError(too_large(bytes_max))
    if not inflater.eof or inflater.unused_data:
        raise EndedError(_NOT_GZIP)
    return plain


def framed(message: bytes) -> bytes:
    """A message with its prefix, not compressed."""
    return PREFIX.pack(0, len(message)) + message


def too_large(bytes_max: int) -> Ending:
    """The refusal of a message over the limit."""
    return refused(Kind.EXHAUSTED, "wire.message_too_large", f"a request message may have at most {bytes_max} bytes")


_BAD_FLAG: Final = refused(
    Kind.INTERNAL,
    "wire.flag_malformed",
    "the flag before a message is neither 0 nor 1, or says that it is compressed where no header says how",
)
"""INTERNAL is what gRPC prescribes (grpc/doc/compression.md, "Compression Method Asymmetry Between Peers")."""
_CARDINALITY: Final = unimplemented("wire.one_message", "this method takes exactly one request message")
CUT_OFF: Final = refused(Kind.MALFORMED, "wire.message_cut_off", "the request ended within its message; send it whole")
_NOT_GZIP: Final = refused(Kind.MALFORMED, "wire.gzip_malformed", "the compressed message is not one gzip member")
