"""What was seen lately: the times of executions that are alike, as one row of bytes for each part of a scope.

A scope has 256 rows at most, one for each first byte of a digest, and a row loses what is too old whenever it is
written again. So the table is bounded by what one window can see, and an admission touches its own row alone.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from gateway.terms.ids import OperationId

_ENTRY: Final = struct.Struct(">16s8sq")

ENTRIES_MAX: Final = 4_096
"""In one row: 128 kB. What would make it longer is refused."""


class Sighting(NamedTuple):
    """One execution."""

    kind: bytes
    """The first 16 bytes of the digest of what makes executions alike."""
    operation: bytes
    """Eight bytes that tell its operation from the others."""
    at_unix_us: int


def seen(digest: bytes, operation: OperationId, at_unix_us: int) -> Sighting:
    """An execution that is seen now."""
    return Sighting(digest[:16], hashlib.sha256(operation.encode()).digest()[:8], at_unix_us)


def bucket(digest: bytes) -> int:
    """Which of a scope's rows has the executions with this digest."""
    return digest[0]


def read(entries: bytes) -> Iterator[Sighting]:
    """The executions of a row."""
    return map(Sighting._make, _ENTRY.iter_unpack(entries))


def written(sightings: Iterable[Sighting]) -> bytes:
    """A row with these executions."""
    return b"".join(_ENTRY.pack(*one) for one in sightings)
