"""The witness: what calls tell the log, one JSON object a line in Cloud Logging's form.

Events are named `noun.verb_past` and carry fields, never prose. Everything outside ASCII and every control character
is escaped, so that no name or argument can end a line or colour a terminal (attack row 45), and every line is bounded.
"""

import json
import logging
import math
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, TextIO

import msgspec

from gateway.terms.clock import Clock

_SEVERITIES: Final = {
    "call.refused": "NOTICE",
    "calls.denied": "WARNING",
    "connection.refused": "NOTICE",
    "upstream.failed": "WARNING",
    "attempt.failed": "WARNING",
    "keys.fetch_failed": "WARNING",
    "token.fetch_failed": "WARNING",
    "ledger.may_be_lost": "WARNING",
    "server.drain_cut": "WARNING",
    "effects.abandoned": "ERROR",
    "process.failed": "CRITICAL",
}
"""What is not here is INFO, or ERROR when its name ends in `failed`."""

_LEVELS: Final = ((logging.CRITICAL, "CRITICAL"), (logging.ERROR, "ERROR"), (logging.WARNING, "WARNING"))

TEXT_LENGTH_MAX: Final = 8_192
"""Characters of one text; a longer one loses its middle: a traceback says most at its end."""
MEMBERS_MAX: Final = 64
"""Of one object or list."""
DEPTH_MAX: Final = 4
LINE_LENGTH_MAX: Final = 200_000
"""Cloud Logging takes entries of 256 KiB."""

_ENCODER: Final = msgspec.json.Encoder()


class LogWitness:
    """Writes events to a text stream, standard error by default: Cloud Run takes both streams as logs."""

    def __init__(self, clock: Clock, out: TextIO | None = None) -> None:
        self._clock = clock
        self._out = sys.stderr if out is None else out

    def tell(self, event: str, fields: Mapping[str, object]) -> None:
        """Write one event; a stream that cannot be written loses the line, never the call."""
        severity = _SEVERITIES.get(event) or ("ERROR" if event.endswith("failed") else "INFO")
        self.write(severity, event, fields)

    def write(self, severity: str, event: str, fields: Mapping[str, object]) -> None:
        """Write one event with a severity of Cloud Logging's. Never raises."""
        now_us = self._clock.unix_us()
        head = {
            "severity": severity,
            "message": event,
            "timestampSeconds": now_us // 1_000_000,
            "timestampNanos": now_us % 1_000_000 * 1000,
        }
        # A field must not take the place of what the log itself reads.
        members = _members(fields.items(), DEPTH_MAX)
        told = {f"{name}_" if name in head else name: value for name, value in members.items()}
        line = _line(head | told)
        if len(line) > LINE_LENGTH_MAX:
            line = _line(head | {"cut": f"{len(line)} characters", "text": line[:TEXT_LENGTH_MAX]})
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except (OSError, ValueError):
            return


class LibraryLog(logging.Handler):
    """Tells the witness what libraries log, as data: their texts hold what strangers sent."""

    def __init__(self, witness: LogWitness) -> None:
        super().__init__(logging.WARNING)
        self._witness = witness

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`. Never raises."""
        severity = next((name for level, name in _LEVELS if record.levelno >= level), "INFO")
        fields = {"logger": record.name, "text": _logged(record)}
        if record.exc_info is not None and record.exc_info[1] is not None:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        self._witness.write(severity, "library.logged", fields)


def hear_everything(witness: LogWitness) -> None:
    """Make this process's every other way to write to standard error end in the witness's lines. For `serve` alone."""
    logging.getLogger().addHandler(LibraryLog(witness))
    logging.captureWarnings(capture=True)

    def failed(place: str, error: BaseException | None) -> None:
        trace = "".join(traceback.format_exception(error)) if error is not None else ""
        witness.tell("process.failed", {"place": place, "traceback": trace})

    sys.excepthook = lambda _kind, error, _trace: failed("the main thread", error)
    sys.unraisablehook = lambda found: failed(str(found.err_msg or "a finalizer"), found.exc_value)
    threading.excepthook = lambda found: failed(f"the thread {found.thread and found.thread.name}", found.exc_value)


def _line(members: Mapping[str, object]) -> str:
    """One line of visible ASCII. Only the slower encoder of the two escapes all else; most lines have none of it."""
    try:
        line = _ENCODER.encode(members)
    except (TypeError, ValueError):
        # Half a surrogate pair, or a number of a kind of its own.
        return json.dumps(members)
    return line.decode() if line.isascii() and b"\x7f" not in line else json.dumps(members)


def _logged(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a library's broken message must not break a call
        return _text(record.msg)


def _members(members: Iterable[tuple[object, object]], depth: int) -> dict[str, object]:
    told: dict[str, object] = {}
    for name, value in islice(members, MEMBERS_MAX):
        # Most values are a short text or a duration, and need no more.
        plain = (type(value) is str and len(value) <= TEXT_LENGTH_MAX) or (
            type(value) is float and -math.inf < value < math.inf
        )
        told[_text(name)] = value if plain else _told(value, depth - 1)
    return told


def _told(value: object, depth: int) -> object:
    """The value as JSON can say it, bounded in every direction."""
    match value:
        case str():
            told: object = _text(value)
        case None | bool():
            told = value
        case int():
            told = int(value) if value.bit_length() < 64 else f"an integer of {value.bit_length()} bits"
        case float() if math.isfinite(value):
            told = value
        case Mapping() if depth > 0:
            told = _members(value.items(), depth)
        case list() | tuple() | set() | frozenset() if depth > 0:
            told = [_told(member, depth - 1) for member in islice(value, MEMBERS_MAX)]
        case _:
            told = _text(value)
    return told


def _text(value: object) -> str:
    if type(value) is str and len(value) <= TEXT_LENGTH_MAX:
        return value
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - what cannot even be shown must not break a call
        text = f"a {type(value).__name__} that cannot be shown"
    if len(text) <= TEXT_LENGTH_MAX:
        return text
    half = TEXT_LENGTH_MAX // 2
    return f"{text[:half]} ... {text[-half:]}"
