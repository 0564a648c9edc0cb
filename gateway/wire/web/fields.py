"""The headers of one HTTP request, read strictly: what two readers could understand differently is refused."""

import re
from collections.abc import Iterable
from typing import Final

from gateway.terms.caller import Credentials
from gateway.terms.verdict import Kind
from gateway.wire.config import WireConfig
from gateway.wire.errors import EndedError, Ending, refused, unimplemented
from gateway.wire.request import Fields, grpc_timeout_ns

_FIELD_OVERHEAD: Final = 32
"""What RFC 9113 (6.5.2) adds to the size of each header field; counted alike for every version of HTTP."""

_MILLISECONDS: Final = re.compile(rb"[0-9]{1,10}")
_NOT_WANTED: Final = re.compile(rb"q=0(\.0{0,3})?")


class WebFields(Fields):
    """Header fields as ASGI gives them: their names are in lower case."""

    __slots__ = ("_count", "_size")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__()
        values = self._values
        size = count = 0
        for name, value in headers:
            count += 1
            size += len(name) + len(value)
            if name in values:
                values[name].append(value)
            else:
                values[name] = [value]
        self._size, self._count = size, count

    def check(self, config: WireConfig) -> None:
        """Raise `EndedError` for more headers than a request may have."""
        size = self._size + self._count * _FIELD_OVERHEAD
        if size > config.metadata_bytes_max or self._count > config.headers_max:
            sentence = f"send at most {config.headers_max} headers of {config.metadata_bytes_max} bytes in all"
            raise EndedError(refused(Kind.EXHAUSTED, "wire.headers_too_large", sentence))

    def credentials(self) -> Credentials:
        """What the request brought to show who sent it, every value as it came."""
        return Credentials(
            authorization=self._texts(b"authorization"),
            serverless_authorization=self._texts(b"x-serverless-authorization"),
        )

    def connect_timeout_ns(self) -> int | None:
        """`connect-timeout-ms` in nanoseconds; raises `EndedError` for what is no number of milliseconds."""
        values = self.all(b"connect-timeout-ms")
        if not values:
            return None
        if len(values) > 1 or not _MILLISECONDS.fullmatch(values[0]):
            raise EndedError(_bad_timeout("send one connect-timeout-ms of 1 to 10 digits"))
        return int(values[0]) * 1_000_000

    def grpc_timeout_ns(self) -> int | None:
        """`grpc-timeout` in nanoseconds; raises `EndedError` for what is none."""
        return grpc_timeout_ns(self.all(b"grpc-timeout"))

    def gzip(self, name: bytes) -> bool:
        """Whether a header says that what was sent is gzip; raises `EndedError` for any other encoding."""
        return is_gzip(self.all(name))

    def gzip_accepted(self, name: bytes, *, otherwise: bool) -> bool:
        """Whether an answer may be gzip; `otherwise` is what it is when the caller does not say."""
        values = self.all(name)
        if not values:
            return otherwise
        for element in b",".join(values).split(b","):
            coding, _, weight = element.partition(b";")
            if coding.strip().lower() == b"gzip":
                return not _NOT_WANTED.fullmatch(weight.replace(b" ", b""))
        return False

    def _texts(self, name: bytes) -> tuple[str, ...]:
        # Latin-1 keeps every byte, so that identity sees exactly what came and refuses it there.
        values = self._values.get(name)
        return tuple([value.decode("latin-1") for value in values]) if values else ()


def is_gzip(values: list[bytes]) -> bool:
    """Whether an encoding is gzip; raises `EndedError` for one that is not known here."""
    if not values or values in ([b"identity"], [b""]):
        return False
    if values == [b"gzip"]:
        return True
    raise EndedError(unimplemented("wire.encoding_unknown", "compress with gzip, or not at all (identity)"))


def _bad_timeout(sentence: str) -> Ending:
    return refused(Kind.MALFORMED, "wire.timeout_malformed", sentence)
