"""HTTP/1.1 requests, read strictly and without I/O: what two readers could understand differently is refused.

RFC 9112 lets a server be lenient about bare line feeds, folded headers, repeated lengths and chunk extensions; each is
a way to smuggle a request past a front end that reads otherwise (attack row 37 of the governance study). This reader
takes one form of everything. What it refuses closes the connection.
"""

import re
from dataclasses import dataclass
from typing import Final

_LINE_MAX: Final = 16
"""Of a chunk's size: up to eight digits and the end of the line, with room to see what is wrong."""

_CR: Final = 0x0D
_END: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
"""The blanks around a value are taken off after it has matched: one expression for all would be quadratic."""
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#]+)(/[^#]*)?")

Pairs = list[tuple[bytes, bytes]]


class BadRequestError(Exception):
    """Bytes that are no acceptable request: answered with this status, then the connection closes."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """Everything of a request before its body."""

    method: bytes
    path: bytes
    query: bytes
    minor: int
    """Of the version: 0 or 1."""
    headers: Pairs
    """Names in lower case."""
    length: int | None
    """Of the body; None where it comes in chunks."""
    keeps_alive: bool
    expects_continue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadBounds:
    """What a head may be."""

    bytes_max: int
    fields_max: int


class RequestReader:
    """One connection's requests, one after the other. What is held is bounded by who feeds it."""

    __slots__ = ("_at", "_bounds", "_chunk", "_held", "_left", "_searched", "_trailing")

    def __init__(self, bounds: HeadBounds) -> None:
        self._bounds = bounds
        self._held = bytearray()
        self._searched = 0
        self._left: int | None = 0
        """Bytes of the body that have not come; None where it comes in chunks."""
        self._chunk = 0
        """Bytes of the chunk that have not come, with the end of its line."""
        self._trailing = False
        """The last chunk has come; trailers may follow."""

    @property
    def held(self) -> int:
        """Bytes that were fed and not read."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._held += data

    def head(self) -> RequestHead | None:
        """The next head, or None until it is complete; raises `BadRequestError`."""
        if self._searched < 2 and self._held.startswith(_END):
            # One empty line before a request is an old habit of clients (RFC 9112, 2.2).
            del self._held[:2]
            self._searched = 0
        end = self._held.find(_HEAD_END, max(0, self._searched - 3))
        size = len(self._held) if end < 0 else end
        if size > self._bounds.bytes_max:
            raise BadRequestError(431, f"send at most {self._bounds.bytes_max} bytes of headers")
        self._searched = len(self._held)
        if end < 0:
            self._check_beginning()
            return None
        lines = bytes(self._held[:end]).split(_END)
        del self._held[: end + 4]
        self._searched = 0
        head = _read_head(lines, self._bounds)
        self._left, self._chunk, self._trailing = head.length, 0, False
        return head

    def body(self) -> tuple[bytes, bool]:
        """What there is of the body, and whether that was its end; raises `BadRequestError`."""
        if self._left is None:
            return self._chunks()
        data = bytes(self._held[: self._left])
        del self._held[: len(data)]
        self._left -= len(data)
        return data, not self._left

    def _check_beginning(self) -> None:
        """A line that ends in no way of ours would otherwise wait for its deadline."""
        line = self._held.find(b"\n")
        if line == 0 or (line > 0 and self._held[line - 1] != _CR):
            raise BadRequestError(400, "lines end with CR and LF")

    def _chunks(self) -> tuple[bytes, bool]:
        pieces = []
        while not self._trailing:
            if self._chunk > 2:
                piece = bytes(self._held[: self._chunk - 2])
                del self._held[: len(piece)]
                self._chunk -= len(piece)
                pieces.append(piece)
            if self._chunk > 2 or not self._next_chunk():
                return b"".join(pieces), False
        return b"".join(pieces), self._trailers_end()

    def _next_chunk(self) -> bool:
        """Read the end of a chunk and the size of the next; false until they have come."""
        if self._chunk:
            if len(self._held) < 2:
                return False
            if not self._held.startswith(_END):
                raise BadRequestError(400, "a chunk is longer than its size says")
            del self._held[:2]
            self._chunk = 0
        end = self._held.find(_END, 0, _LINE_MAX)
        if end < 0:
            if len(self._held) >= _LINE_MAX or b"\n" in self._held:
                raise BadRequestError(400, "a chunk begins with its size in hexadecimal digits and nothing else")
            return False
        line = bytes(self._held[:end])
        if not _CHUNK_SIZE.fullmatch(line):
            raise BadRequestError(400, "a chunk begins with its size in hexadecimal digits and nothing else")
        del self._held[: end + 2]
        size = int(line, 16)
        self._trailing = not size
        self._chunk = size + 2 if size else 0
        return True

    def _trailers_end(self) -> bool:
        """Read and drop trailers (RFC 9110, 6.5.1 lets a server do that); false until they have come."""
        while True:
            end = self._held.find(_END, 0, self._bounds.bytes_max)
            if end < 0:
                if len(self._held) >= self._bounds.bytes_max:
                    raise BadRequestError(431, "too many trailers")
                return False
            line = bytes(self._held[:end])
            del self._held[: end + 2]
            if not line:
                return True
            if not _FIELD.fullmatch(line):
                raise BadRequestError(400, "a trailer is no header")


def _read_head(lines: list[bytes], bounds: HeadBounds) -> RequestHead:
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise BadRequestError(400, "this is no request of HTTP/1.1")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        raise BadRequestError(505, "speak HTTP/1.1, or HTTP/2 with prior knowledge")
    if len(lines) - 1 > bounds.fields_max:
        raise BadRequestError(431, f"send at most {bounds.fields_max} headers")
    headers = [_field(line) for line in lines[1:]]
    authority, path, query = _target(target)
    return RequestHead(
        method=method,
        path=path,
        query=query,
        minor=int(minor),
        headers=_with_host(headers, authority, required=minor == b"1"),
        length=_length(headers, chunked_allowed=minor == b"1"),
        keeps_alive=minor == b"1" and b"close" not in _tokens(headers, b"connection"),
        expects_continue=_expects_continue(headers) and minor == b"1",
    )


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = _FIELD.fullmatch(line)
    if match is None:
        # A folded line begins with a blank; a bare CR or LF, NUL and a blank before the colon fit nowhere.
        raise BadRequestError(400, "a line is no header: a name, a colon, a value of printable characters")
    return match[1].lower(), match[2].strip(b" \t")


def _target(target: bytes) -> tuple[bytes | None, bytes, bytes]:
    """Host, path and query of a request target in origin or absolute form (RFC 9112, 3.2)."""
    authority = None
    if not target.startswith(b"/"):
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise BadRequestError(400, "ask for a path that begins with a slash")
        authority, target = match[1], match[2] or b"/"
    if b"#" in target:
        raise BadRequestError(400, "a fragment is not part of a request")
    path, _, query = target.partition(b"?")
    return authority, path, query


def _with_host(headers: Pairs, authority: bytes | None, *, required: bool) -> Pairs:
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (required and not hosts):
        raise BadRequestError(400, "send one Host header")
    if authority is None:
        return headers
    # The target's own host counts, whatever the header says (RFC 9112, 3.2.2).
    return [(b"host", authority), *(field for field in headers if field[0] != b"host")]


def _length(headers: Pairs, *, chunked_allowed: bool) -> int | None:
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        if lengths or not chunked_allowed:
            raise BadRequestError(400, "send Content-Length or Transfer-Encoding: chunked, not both")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise BadRequestError(501, "the only transfer coding is chunked, once")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadRequestError(400, "send one Content-Length in digits")
    return int(lengths[0])


def _expects_continue(headers: Pairs) -> bool:
    expected = [value.lower() for name, value in headers if name == b"expect"]
    if expected and expected != [b"100-continue"]:
        raise BadRequestError(417, "the only expectation is 100-continue")
    return bool(expected)


def _tokens(headers: Pairs, wanted: bytes) -> set[bytes]:
    return {token.strip().lower() for name, value in headers if name == wanted for token in value.split(b",")}
