"""What a wire of a model server is to the faults: how its documents are framed, and what breaks them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from localcloud.vertex.errors import ApiError
from localcloud.vertex.framing import Framing


class Frames(Protocol):
    """How the documents of a stream are put on the wire."""

    @property
    def value(self) -> str:
        """The content type."""
        ...

    def next(self, document: bytes) -> bytes:
        """The frame of a document that is not the first."""
        ...

    def frames(self, documents: list[bytes], *, complete: bool) -> list[bytes]:
        """The frames of all documents."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One wire. `opening` is how many documents come once before those that an endless stream repeats."""

    framing: Frames
    wrong_shape: bytes
    """Valid JSON in which two members have the wrong type."""
    gigantic: Callable[[int], bytes]
    """A document with a delta of so many bytes."""
    error: Callable[[ApiError], bytes]
    """An error inside of a stream."""
    repeated: Callable[[list[bytes]], tuple[list[bytes], list[bytes]]]
    """What an endless stream sends once, and what it sends for ever."""
    doubled: Callable[[list[bytes]], list[bytes]]
    """The documents of a stream that ends twice."""


def google(framing: Framing) -> Wire:
    """Gemini's."""
    return Wire(
        framing=framing,
        wrong_shape=b'{"candidates":"none","usageMetadata":[]}',
        gigantic=_gigantic,
        error=ApiError.document,
        repeated=lambda documents: ([], documents[:-1] or documents),
        doubled=lambda documents: [*documents, documents[-1]],
    )


def _gigantic(size: int) -> bytes:
    part = b'{"text":"' + b"x" * size + b'"}'
    return b'{"candidates":[{"content":{"role":"model","parts":[' + part + b"]}}]}"
