"""The reader of server-sent events (WHATWG HTML, section 9.2), without I/O and with a bound."""

import re
from typing import Final

EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
"""One event. Vertex sends images in one; nothing text is near it."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class EventTooLargeError(ValueError):
    """One event is larger than the reader's bound."""


class EventReader:
    """Takes bytes as they come and gives the data of each complete event. Names, ids and comments are passed over."""

    def __init__(self, size_max: int = EVENT_BYTES_MAX) -> None:
        self._size_max = size_max
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, received: bytes) -> list[bytes]:
        """The data of the events that these bytes complete; raises `EventTooLargeError`."""
        received = self._rest + received
        # A carriage return at the end may be half of a line end: it waits for its other half.
        cut = len(received) - 1 if received.endswith(b"\r") else len(received)
        lines = _LINE_END.split(received[:cut])
        self._rest = lines.pop() + received[cut:]
        if self._size + len(self._rest) > self._size_max:
            raise EventTooLargeError
        events: list[bytes] = []
        for line in lines:
            self._line(line, events)
        return events

    @property
    def pending(self) -> bool:
        """Whether an event has begun that is not complete: at the end of a stream, it was cut off."""
        return bool(self._rest.strip() or self._data)

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        elif line.startswith(b"data:"):
            data = line[6:] if line.startswith(b"data: ") else line[5:]
            self._size += len(data) + 1
            if self._size > self._size_max:
                raise EventTooLargeError
            self._data.append(data)
