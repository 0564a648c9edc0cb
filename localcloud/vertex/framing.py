"""The two ways in which a stream of JSON documents is put on the wire: server-sent events, and one growing array.

Google frames events as `data: JSON` with CRLF line ends, without event names and without a closing mark; without
`alt=sse` the same documents are the elements of one JSON array, after whose closing bracket nothing may follow: the
vendor's GAPIC client refuses even a line end there.
"""

import enum


class Framing(enum.Enum):
    """How the documents of a stream are joined; the value is the content type."""

    SSE = "text/event-stream"
    ARRAY = "application/json; charset=UTF-8"

    def first(self, document: bytes) -> bytes:
        """The frame of the first document."""
        return b"data: " + document + b"\r\n\r\n" if self is Framing.SSE else b"[" + document

    def next(self, document: bytes) -> bytes:
        """The frame of every later document."""
        return b"data: " + document + b"\r\n\r\n" if self is Framing.SSE else b",\r\n" + document

    def frames(self, documents: list[bytes], *, complete: bool) -> list[bytes]:
        """The frames of all documents; `complete` closes an array, which an interrupted one never sees."""
        frames = [self.first(document) for document in documents[:1]] + [self.next(item) for item in documents[1:]]
        if complete and self is Framing.ARRAY:
            frames = [*frames[:-1], (frames[-1] if frames else b"[") + b"]"]
        return frames
