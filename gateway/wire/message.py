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
            self._wanted = PREFIX.size + self._announced()
        if self._wanted and len(self._held) > self._wanted:
            raise EndedError(_CARDINALITY)

    def finish(self) -> bytes:
        """The message, inflated, when the request has ended; raises `EndedError`."""
        if not self._held:
            raise EndedError(_CARDINALITY)
        if len(self._held) != self._wanted:
            sentence = "the request ended within its message; send it whole"
            raise EndedError(refused(Kind.MALFORMED, "wire.message_cut_off", sentence))
        message = bytes(memoryview(self._held)[PREFIX.size :])
        return self._inflated(message) if self._held[0] else message

    def _announced(self) -> int:
        flag, size = PREFIX.unpack_from(self._held)
        if flag > 1 or (flag and not self._gzip):
            sentence = "the compressed flag is neither 0 nor 1, or 1 without a grpc-encoding that says how"
            raise EndedError(refused(Kind.MALFORMED, "wire.flag_malformed", sentence))
        if size > self._bytes_max:
            raise EndedError(too_large(self._bytes_max))
        return int(size)

    def _inflated(self, message: bytes) -> bytes:
        inflater = zlib.decompressobj(_GZIP)
        try:
            inflated = inflater.decompress(message, self._bytes_max + 1)
        except zlib.error:
            raise EndedError(_NOT_GZIP) from None
        if len(inflated) > self._bytes_max:
            raise EndedError(too_large(self._bytes_max))
        if not inflater.eof or inflater.unused_data:
            raise EndedError(_NOT_GZIP)
        return inflated


def framed(message: bytes) -> bytes:
    """A message with its prefix, not compressed."""
    return PREFIX.pack(0, len(message)) + message


def too_large(bytes_max: int) -> Ending:
    """The refusal of a message over the limit."""
    return refused(Kind.EXHAUSTED, "wire.message_too_large", f"a request message may have at most {bytes_max} bytes")


_CARDINALITY: Final = unimplemented("wire.one_message", "this method takes exactly one request message")
_NOT_GZIP: Final = refused(Kind.MALFORMED, "wire.gzip_malformed", "the compressed message is not one gzip member")
