"""The witness: what calls tell the log, one JSON object a line in Cloud Logging's form.

Events are named `noun.verb_past` and carry fields, never prose. Everything outside ASCII and every control character
is escaped, so that no name or argument can end a line or colour a terminal (attack row 45).
"""

import json
import sys
from collections.abc import Mapping
from typing import Final, TextIO

from gateway.terms.clock import Clock

_SEVERITIES: Final = {
    "call.failed": "ERROR",
    "tool.failed": "ERROR",
    "upstream.failed": "WARNING",
    "call.refused": "NOTICE",
}
FIELD_LENGTH_MAX: Final = 8_192


class LogWitness:
    """Writes events to a text stream, standard error by default: Cloud Run takes both streams as logs."""

    def __init__(self, clock: Clock, out: TextIO = sys.stderr) -> None:
        self._clock = clock
        self._out = out

    def tell(self, event: str, fields: Mapping[str, object]) -> None:
        """Write one event; a stream that cannot be written loses the line, never the call."""
        now_us = self._clock.unix_us()
        line = {
            "severity": _SEVERITIES.get(event, "INFO"),
            "message": event,
            "timestampSeconds": now_us // 1_000_000,
            "timestampNanos": now_us % 1_000_000 * 1000,
            **{name: _bounded(value) for name, value in fields.items()},
        }
        try:
            self._out.write(json.dumps(line, default=str) + "\n")
            self._out.flush()
        except (OSError, ValueError):
            return


def _bounded(value: object) -> object:
    if isinstance(value, str) and len(value) > FIELD_LENGTH_MAX:
        return value[:FIELD_LENGTH_MAX] + "..."
    return value
