"""What was seen lately: the times of executions that are alike, as one row of bytes for each part of a scope.

A scope has 256 rows at most, one for each first byte of a digest, and a row loses what nobody's window reaches any more
whenever it is written again. So the table is bounded by what the longest window can see, and an admission touches its
own row alone.

A row is records of 32 bytes, as the first version wrote them: kind, operation, time. A record of the kind `_KEPT_FOR`
is no sighting: it says how long the ones after it are kept, up to the next such record, for those who share a row may
look back for different times. To a gateway of the first version it is a sighting of a kind that never comes again.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

from gateway.terms.ids import OperationId

_ENTRY: Final = struct.Struct(">16s8sq")

_KEPT_FOR: Final = b"kept for so long"
"""No first half of a SHA-256 that anybody will ever meet."""

ENTRIES_MAX: Final = 4_096
"""In one row: about 128 kB. What would make it longer is refused."""


class Sighting(NamedTuple):
    """One execution."""

    kind: bytes
    """The first 16 bytes of the digest of what makes executions alike."""
    operation: bytes
    """Eight bytes that tell its operation from the others."""
    at_unix_us: int
    kept_ms: int = 0
    """So long somebody's window may look back for it; 0: nobody said, as in the first version."""


def seen(digest: bytes, operation: OperationId, at_unix_us: int, kept_ms: int = 0) -> Sighting:
    """An execution that is seen now."""
    return Sighting(digest[:16], hashlib.sha256(operation.encode()).digest()[:8], at_unix_us, kept_ms)


def bucket(digest: bytes) -> int:
    """Which of a scope's rows has the executions with this digest."""
    return digest[0]


def read(entries: bytes) -> Iterator[Sighting]:
    """The executions of a row."""
    kept_ms = 0
    for kind, operation, at_unix_us in _ENTRY.iter_unpack(entries):
        if kind == _KEPT_FOR:
            kept_ms = int.from_bytes(operation, "big")
        else:
            yield Sighting(kind, operation, at_unix_us, kept_ms)


def written(sightings: Iterable[Sighting]) -> bytes:
    """A row with these executions, those last that are kept longest: what a first version adds is kept with them."""
    return b"".join(
        _group(kept_ms, list(alike)) for kept_ms, alike in groupby(sorted(sightings, key=_kept_ms), key=_kept_ms)
    )


def _group(kept_ms: int, alike: list[Sighting]) -> bytes:
    """With the time of the latest of them, so that a first version does not drop their heading before them."""
    latest_us = max(one.at_unix_us for one in alike)
    heading = _ENTRY.pack(_KEPT_FOR, kept_ms.to_bytes(8, "big"), latest_us)
    return heading + b"".join(_ENTRY.pack(*one[:3]) for one in alike)


_kept_ms: Final = attrgetter("kept_ms")
