"""The reader of server-sent events (WHATWG HTML, section 9.2), without I/O and with a bound."""

from typing import Final

EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
"""One event: its data lines and the line that has no end yet. Nothing text is near it."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_RETURN: Final = 13
_FEED: Final = 10


class EventTooLargeError(ValueError):
    """One event is larger than the reader's bound."""


class EventReader:
    """Takes bytes as they come and gives the data of each complete event. Names, ids and comments are passed over.

    An event is given with the byte that completes it: a carriage return ends a line at once, and a line feed right
    behind it is skipped when it comes. The cost is linear in the bytes, however small the pieces.
    """

    __slots__ = ("_after_return", "_begun", "_data", "_line", "_size", "_size_max")

    def __init__(self, size_max: int = EVENT_BYTES_MAX) -> None:
        self._size_max = size_max
        self._line = bytearray()
        """The line that has no end yet."""
        self._data: list[bytes] = []
        """The data lines of the event that has no end yet."""
        self._size = 0
        """Bytes of those lines, as they were received."""
        self._after_return = False
        self._begun = False

    def feed(self, received: bytes) -> list[bytes]:
        """The data of the events that these bytes complete; raises `EventTooLargeError`."""
        if self._after_return and received[:1] == b"\n":
            received = received[1:]
            self._after_return = False
        if not received:
            return []
        last = received[-1]
        self._after_return = last == _RETURN
        lines = received.splitlines()
        rest = b"" if last in (_FEED, _RETURN) else lines.pop()
        events = self._events(lines) if lines else []
        if rest:
            self._line += rest
            self._refuse_too_large()
        return events

    @property
    def pending(self) -> bool:
        """Whether an event has begun that is not complete: at the end of a stream, it was cut off."""
        return bool(self._line or self._data)

    def _events(self, lines: list[bytes]) -> list[bytes]:
        if self._line:
            lines[0] = bytes(self._line + lines[0])
            self._line.clear()
        if not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        events: list[bytes] = []
        for line in lines:
            if line[:5] == b"data:":
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._size += len(line)
                self._refuse_too_large()
            elif line == b"data":
                self._data.append(b"")
                self._size += len(line)
                self._refuse_too_large()
            elif not line and self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data, self._size = [], 0
        return events

    def _refuse_too_large(self) -> None:
        if self._size + len(self._line) > self._size_max:
            raise EventTooLargeError
