"""The messages of a gRPC body, put together from the pieces they come in.

Each is preceded by five bytes: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
"""

from collections import deque
from typing import Final

PREFIX_BYTES: Final = 5
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Four times what the gateway takes; grpclib itself would take 4 GiB."""


class UnreadableBodyError(Exception):
    """The body is no sequence of messages that we take; says why."""


class Messages:
    """Complete messages wait in `ready`; `waiting_bytes` says how much they hold."""

    __slots__ = ("_max", "_partial", "_whole", "ready", "waiting_bytes")

    def __init__(self, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._max = message_bytes_max
        self._partial = bytearray()
        self._whole = PREFIX_BYTES
        self.ready: deque[bytes] = deque()
        self.waiting_bytes = 0

    @property
    def broken_off(self) -> bool:
        """Whether a message has begun and is not complete."""
        return bool(self._partial)

    def take(self) -> bytes:
        """The oldest complete message."""
        message = self.ready.popleft()
        self.waiting_bytes -= len(message)
        return message

    def add(self, data: bytes) -> None:
        """Take in a piece of the body; raises `UnreadableBodyError`."""
        size = len(data) - PREFIX_BYTES
        # The usual case by far: one piece is one message.
        if not self._partial and size >= 0 and not data[0] and int.from_bytes(data[1:5]) == size <= self._max:
            self._put(data[PREFIX_BYTES:])
            return
        self._partial += data
        at = 0
        while len(self._partial) - at >= PREFIX_BYTES:
            self._whole = PREFIX_BYTES + self._length(at)
            if len(self._partial) - at < self._whole:
                break
            self._put(bytes(self._partial[at + PREFIX_BYTES : at + self._whole]))
            at += self._whole
        del self._partial[:at]

    def _put(self, message: bytes) -> None:
        self.ready.append(message)
        self.waiting_bytes += len(message)

    def _length(self, at: int) -> int:
        if self._partial[at]:
            raise UnreadableBodyError("a message is compressed, which was not asked for")
        length = int.from_bytes(self._partial[at + 1 : at + PREFIX_BYTES])
        if length > self._max:
            raise UnreadableBodyError(f"a message has {length} bytes, and {self._max} is what we take")
        return length
