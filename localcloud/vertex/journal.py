"""The journal: what the double saw of each request, so that tests can prove what reached it and what was cancelled."""

import time
from collections import deque
from dataclasses import asdict, dataclass

# Endings of a request.
OPEN = "open"
COMPLETE = "complete"
CLIENT_LEFT = "client_left"
FAULT = "fault"
REFUSED = "refused"
SHUTDOWN = "shutdown"
# A defect of the double itself; the traceback is in its log.
BROKEN = "broken"


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request. Times are microseconds of the Unix epoch, the same clock on the whole machine.

    `left_us` is when the server noticed that its client had gone before the end; 0 if that never happened.
    """

    number: int
    method: str
    path: str
    authorization: bool
    model: str = ""
    caller: str = ""
    stream: bool = False
    body_bytes: int = 0
    status: int = 0
    chunks_planned: int = 0
    chunks_sent: int = 0
    started_us: int = 0
    first_chunk_us: int = 0
    ended_us: int = 0
    left_us: int = 0
    ending: str = OPEN
    fault: str = ""

    @property
    def client_left(self) -> bool:
        """Whether the client left before the end."""
        return self.ending == CLIENT_LEFT


class Journal:
    """A bounded list of the last requests, and counters of streams that never forget."""

    def __init__(self, size: int) -> None:
        """Take how many requests to remember."""
        self.entries: deque[Entry] = deque(maxlen=size)
        self.requests = 0
        self.streams_open = 0
        self.streams_total = 0
        self.streams_aborted = 0
        self.streams_completed = 0

    def open(self, method: str, path: str, *, authorization: bool) -> Entry:
        """A new entry for a request that has just begun."""
        self.requests += 1
        entry = Entry(number=self.requests, method=method, path=path, authorization=authorization, started_us=now_us())
        self.entries.append(entry)
        return entry

    def stream_opened(self, entry: Entry) -> None:
        """Count a stream whose answer begins."""
        entry.stream = True
        self.streams_open += 1
        self.streams_total += 1

    def close(self, entry: Entry, ending: str) -> None:
        """Note how a request ended; the first ending that is told stands."""
        if entry.ending != OPEN:
            return
        entry.ending = ending
        entry.ended_us = now_us()
        if ending == CLIENT_LEFT:
            entry.left_us = entry.ended_us
        if entry.stream:
            self.streams_open -= 1
            self.streams_aborted += ending == CLIENT_LEFT
            self.streams_completed += ending == COMPLETE

    def streams(self) -> dict[str, int]:
        """The counters of streams; aborted are those whose client left before the end."""
        return {
            "open": self.streams_open,
            "total": self.streams_total,
            "completed": self.streams_completed,
            "aborted": self.streams_aborted,
        }

    def listing(self) -> list[dict[str, object]]:
        """The remembered requests, oldest first."""
        return [asdict(entry) | {"client_left": entry.client_left} for entry in self.entries]


def now_us() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1000
