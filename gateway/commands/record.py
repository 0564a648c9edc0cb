"""A record as lines for a person: its place, when and what it is, and every member that says something."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, cast

import msgspec

from gateway.audit.sources import Entry

_IN_THE_HEAD: Final = ("v", "kind", "time_us", "operation")
_YEAR_9999_US: Final = 253_402_300_799_000_000


def shown(entry: Entry, operation: str | None = None) -> Iterator[str]:
    """The lines of one record, or none if it is not about the operation. They may hold anything: escape them."""
    place = f"{entry.instance}/{entry.boot} {entry.sequence}"
    record = _read(entry.record)
    if record is None:
        if operation is None:
            yield f"{place}  not a record: {len(entry.record)} bytes, leaf {entry.leaf.hex()}"
            yield ""
        return
    if operation is not None and operation not in (record.get("operation"), record.get("about")):
        return
    about = record.get("operation")
    yield f"{place}  {shown_time(record.get('time_us'))}  {record.get('kind')}" + (f"  {about}" if about else "")
    for name, value in record.items():
        if name not in _IN_THE_HEAD and value not in ("", None, [], {}):
            yield f"    {name:<12} {_value(value)}"
    yield ""


def record_lines(data: bytes) -> Iterator[str]:
    """The lines of one record whose place is not known. They may hold anything: escape them."""
    record = _read(data)
    if record is None:
        yield f"not a record: {len(data)} bytes"
        return
    yield f"{shown_time(record.get('time_us'))}  {record.get('kind')}"
    for name, value in record.items():
        if name not in _IN_THE_HEAD and value not in ("", None, [], {}):
            yield f"    {name:<12} {_value(value)}"


def _read(data: bytes) -> Mapping[str, object] | None:
    try:
        record = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None
    return cast("Mapping[str, object]", record) if isinstance(record, dict) else None


def _value(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return msgspec.json.encode(value).decode()


def shown_time(time_us: object) -> str:
    """In UTC, to the millisecond; what is no time, as it stands."""
    if type(time_us) is not int or not 0 <= time_us <= _YEAR_9999_US:
        return f"time {time_us}"
    seconds, rest_us = divmod(time_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_us // 1000:03}Z"
