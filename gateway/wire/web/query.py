"""The query of a Connect GET: the message and how it is written (connectrpc.com/docs/protocol, "Unary-Get-Request")."""

import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.terms.verdict import Kind
from gateway.wire.errors import EndedError, Ending, refused
from gateway.wire.web.fields import is_gzip

PARAMETERS_MAX: Final = 64
"""Others than Connect's own are ignored, but not without end."""

_KNOWN: Final = frozenset({b"message", b"encoding", b"base64", b"compression", b"connect"})
_BASE64: Final = re.compile(rb"[A-Za-z0-9_-]*={0,2}")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


class Query:
    """The parameters that Connect knows; each may come once."""

    __slots__ = ("_values", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """As it was sent."""
        self._values: dict[bytes, list[bytes]] | None = None

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a parameter, decoded."""
        if self._values is None:
            # Most requests have no query: it is read when it is asked for.
            self._values = _read(self.raw)
        return self._values.get(name, [])

    def encoding(self) -> str:
        """The codec's name; empty if there is none or more than one."""
        values = self.all(b"encoding")
        return values[0].decode("latin-1") if len(values) == 1 else ""

    def gzip(self) -> bool:
        """Whether the message is compressed; raises `EndedError` for a compression that is not known."""
        return is_gzip(self.all(b"compression"))

    def message(self) -> bytes:
        """The message, still compressed where it is; raises `EndedError` for none, or for what is no base64."""
        values = self.all(b"message")
        if len(values) != 1:
            raise EndedError(_malformed("send the message once, as the query's parameter `message`"))
        if self.all(b"base64") != [b"1"]:
            return values[0]
        text = values[0]
        bare = text.rstrip(b"=")
        if not _BASE64.fullmatch(text) or len(bare) % 4 == 1 or (bare != text and len(text) % 4):
            raise EndedError(_malformed("`message` is not URL-safe base64 (RFC 4648, section 5)"))
        return binascii.a2b_base64(bare.translate(_URL_SAFE) + b"=" * (-len(bare) % 4))


def _read(raw: bytes) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = {}
    for parameter in raw.split(b"&", PARAMETERS_MAX)[:PARAMETERS_MAX]:
        name, _, value = parameter.partition(b"=")
        if name in _KNOWN:
            values.setdefault(name, []).append(unquote_to_bytes(value.replace(b"+", b" ")))
    return values


def _malformed(sentence: str) -> Ending:
    return refused(Kind.MALFORMED, "wire.query_malformed", sentence)
