"""What waits to be sent on one stream. Nothing else in the door holds bodies."""

from collections import deque

from localcloud.front_door.refusals import Headers


class Outbox:
    """Chunks in order, then the end, with trailers or without.

    Its size is bounded from outside: the sender on the other connection gets new window only for what was taken from
    here, so at most one stream window of bytes can wait.
    """

    __slots__ = ("_chunks", "ended", "size", "trailers")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self.size = 0
        self.ended = False
        self.trailers: Headers | None = None

    def put(self, data: bytes) -> None:
        """Add a chunk; an empty one is forgotten."""
        if data:
            self._chunks.append(data)
            self.size += len(data)

    def end(self, trailers: Headers | None = None) -> None:
        """Say that nothing follows but these trailers."""
        self.ended = True
        self.trailers = trailers

    def take(self, limit: int) -> bytes:
        """Remove and return at most `limit` bytes, joined over chunks: one frame for what came in many."""
        if self.size <= limit:
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks.clear()
            self.size = 0
            return data
        taken: list[bytes] = []
        missing = limit
        while missing:
            chunk = self._chunks.popleft()
            if len(chunk) > missing:
                self._chunks.appendleft(chunk[missing:])
                chunk = chunk[:missing]
            taken.append(chunk)
            missing -= len(chunk)
        self.size -= limit
        return b"".join(taken)

    def clear(self) -> None:
        """Forget everything: nobody will read it."""
        self._chunks.clear()
        self.size = 0
        self.ended = False
        self.trailers = None
