"""The edge's record of requests: one entry each, the last thousand in memory, and as JSON lines where wanted."""

import json
from collections import deque
from dataclasses import asdict, dataclass
from typing import TextIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request: what was asked by whom, and how it ended.

    `status` is what the client was shown, 0 when it left before; `reason` is empty unless the edge itself answered or
    cut the reply off. `time` is in seconds since the epoch, `seconds` how long the request was here. `instance` is the
    instance that took it, as whatever runs several of them calls it.
    """

    time: float
    path: str
    caller: str
    status: int
    reason: str
    seconds: float
    instance: str = ""


class AccessLog:
    """Takes entries; `file` may be None."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.entries: deque[Entry] = deque(maxlen=1000)
        self._file = file

    def add(self, entry: Entry) -> None:
        """Keep an entry and write it down."""
        self.entries.append(entry)
        if self._file is not None:
            self._file.write(json.dumps({"event": "request.finished", **asdict(entry)}) + "\n")
            self._file.flush()
