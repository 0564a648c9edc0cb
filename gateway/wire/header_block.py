"""Header blocks of answers, written without compression state (RFC 7541): every field a literal, no table, no Huffman.

What an answer says is short and mostly different each time, so that tables and Huffman codes cost more than they save:
h2 and hpack took a third of a small call (python-rpc study, section 3, step 3).
"""

from functools import lru_cache
from struct import Struct
from typing import Final

HeaderFields = list[tuple[str, str]]

EMPTY_TABLE: Final = b"\x20"
"""The dynamic table gets size 0 (6.3): begins the first block of a connection, whatever size the peer offered."""

END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4

_STATUS_200: Final = (":status", "200")
_INDEXED_STATUS_200: Final = b"\x88"
"""Entry 8 of the static table (appendix A)."""
_LITERAL: Final = b"\x00"
"""Without indexing, with a new name (6.2.2)."""

_HEADERS_FRAME: Final = 0x1
_FRAME_HEADER: Final = Struct(">IBI")


def header_block(fields: HeaderFields) -> bytes:
    """The block of some fields; their names are lower-case, their values what a header can carry."""
    return b"".join(
        _INDEXED_STATUS_200 if field == _STATUS_200 else _named(field[0]) + _text(field[1].encode("latin-1"))
        for field in fields
    )


def pairs_block(status: int, pairs: list[tuple[bytes, bytes]]) -> bytes:
    """The block of an answer whose fields are bytes already; their names are lower-case."""
    first = _INDEXED_STATUS_200 if status == 200 else _named(":status") + _text(b"%d" % status)
    return first + b"".join([_named_bytes(name) + _text(value) for name, value in pairs])


def trailers_block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """The block of trailers."""
    return b"".join([_named_bytes(name) + _text(value) for name, value in pairs])


def headers_frame(stream_id: int, block: bytes, *, end_stream: bool) -> bytes:
    """One HEADERS frame that holds a whole block (RFC 9113, 6.2)."""
    flags = END_HEADERS | END_STREAM if end_stream else END_HEADERS
    return _FRAME_HEADER.pack(len(block) << 8 | _HEADERS_FRAME, flags, stream_id) + block


@lru_cache(maxsize=256)
def _named(name: str) -> bytes:
    return _LITERAL + _text(name.encode("ascii"))


@lru_cache(maxsize=256)
def _named_bytes(name: bytes) -> bytes:
    return _LITERAL + _text(name)


def _text(data: bytes) -> bytes:
    """A string literal (5.2): its length as an integer with a prefix of 7 bits (5.1), then its bytes."""
    rest = len(data)
    if rest < 0x7F:
        return bytes((rest,)) + data
    length = bytearray((0x7F,))
    rest -= 0x7F
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes(length) + data
