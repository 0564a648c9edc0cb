"""The windows of budgets: a pure reading of the calendar, in UTC."""

from datetime import UTC, datetime
from typing import Final

_FORMATS: Final = {"hour": "hour:%Y-%m-%dT%H", "day": "day:%Y-%m-%d", "month": "month:%Y-%m"}

WINDOWS: Final = frozenset({*_FORMATS, "total"})


def window(kind: str, now_us: int) -> str:
    """The window of this kind that holds this instant (microseconds of Unix time), for example `day:2026-11-23`."""
    if kind == "total":
        return "total"
    return datetime.fromtimestamp(now_us // 1_000_000, UTC).strftime(_FORMATS[kind])
