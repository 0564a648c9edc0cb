"""The windows of budgets: a pure reading of the calendar, in the time zone that the budget declares."""

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

_FORMATS: Final = {"hour": "hour:%Y-%m-%dT%H", "day": "day:%Y-%m-%d", "month": "month:%Y-%m"}

WINDOWS: Final = frozenset({*_FORMATS, "total"})

_MINUTE_US: Final = 60_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def window(kind: str, now_us: int, zone: tzinfo = UTC) -> str:
    """The window of this kind that holds this instant (microseconds of Unix time), for example `day:2026-11-23`.

    Elsewhere than in UTC the name says where: `day:2026-11-23[America/New_York]`, and an hour says how far from UTC it
    was (`hour:2026-11-01T01-0400[...]`), because the night in which clocks go back has one hour twice. A local day may
    have 23 or 25 hours; a budget of a day is for all of them.
    """
    return "total" if kind == "total" else _of_minute(kind, now_us // _MINUTE_US, zone)


@lru_cache(maxsize=256)
def _of_minute(kind: str, minute: int, zone: tzinfo) -> str:
    """No window begins within a minute: zones are whole minutes from UTC, and change at whole minutes, since 1972."""
    now = _EPOCH + timedelta(minutes=minute)
    if zone is UTC:
        return now.strftime(_FORMATS[kind])
    offset = "%z" if kind == "hour" else ""
    return now.astimezone(zone).strftime(f"{_FORMATS[kind]}{offset}[{zone}]")
