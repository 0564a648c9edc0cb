"""Budget windows are read from the calendar of the zone that the budget declares."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call.windows import window

LAST_US = 1_795_996_799_999_999  # 2026-11-29T23:59:59.999999Z
NEW_YORK = ZoneInfo("America/New_York")
HOUR_US = 3_600_000_000


def at(text):
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    "kind, before, after",
    [
        ("hour", "hour:2026-11-29T23", "hour:2026-11-30T00"),
        ("day", "day:2026-11-29", "day:2026-11-30"),
        ("month", "month:2026-11", "month:2026-11"),
        ("total", "total", "total"),
    ],
)
def test_a_window_changes_at_its_boundary(kind, before, after):
    assert (before, after) == (window(kind, LAST_US), window(kind, LAST_US + 1))


def test_a_day_in_new_york_begins_there():
    midnight = at("2026-11-30T05:00:00+00:00")
    assert window("day", midnight - 1, NEW_YORK) == "day:2026-11-29[America/New_York]"
    assert window("day", midnight, NEW_YORK) == "day:2026-11-30[America/New_York]"
    assert window("month", at("2026-12-01T04:59:59+00:00"), NEW_YORK) == "month:2026-11[America/New_York]"
    assert window("total", midnight, NEW_YORK) == "total"


def test_the_hour_that_comes_twice_has_two_windows():
    """On 1 November 2026 at 02:00 EDT the clocks of New York go back to 01:00 EST."""
    first, second = at("2026-11-01T05:30:00+00:00"), at("2026-11-01T06:30:00+00:00")
    assert window("hour", first, NEW_YORK) == "hour:2026-11-01T01-0400[America/New_York]"
    assert window("hour", second, NEW_YORK) == "hour:2026-11-01T01-0500[America/New_York]"


@pytest.mark.parametrize("day, hours", [("2026-03-08", 23), ("2026-11-01", 25), ("2026-11-02", 24)])
def test_a_day_in_which_clocks_change_is_one_window(day, hours):
    start = int(datetime.fromisoformat(day).replace(tzinfo=NEW_YORK).timestamp()) * 1_000_000
    day_label = f"day:{day}[America/New_York]"
    assert {window("day", start + hour * HOUR_US, NEW_YORK) for hour in range(hours)} == {day_label}
    assert day_label not in (window("day", start - 1, NEW_YORK), window("day", start + hours * HOUR_US, NEW_YORK))
    assert len({window("hour", start + hour * HOUR_US, NEW_YORK) for hour in range(hours)}) == hours


ZONES = st.sampled_from(["America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"]).map(ZoneInfo)
MOMENTS = st.integers(at("2000-01-01T00:00:00+00:00"), at("2060-01-01T00:00:00+00:00"))


@settings(max_examples=300, deadline=None)
@given(MOMENTS, MOMENTS, ZONES)
def test_two_moments_share_a_day_exactly_where_the_calendar_on_the_wall_says_so(one, other, zone):
    walls = [(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).astimezone(zone) for us in (one, other)]
    same_day = walls[0].date() == walls[1].date()
    assert (window("day", one, zone) == window("day", other, zone)) == same_day
    same_hour = same_day and walls[0].hour == walls[1].hour and walls[0].utcoffset() == walls[1].utcoffset()
    assert (window("hour", one, zone) == window("hour", other, zone)) == same_hour


@settings(max_examples=200, deadline=None)
@given(MOMENTS, st.integers(1, 10 * HOUR_US), ZONES)
def test_no_window_comes_again_once_it_is_left(start, step, zone):
    labels = [window("hour", start + number * step, zone) for number in range(12)]
    assert len(set(labels)) == sum(a != b for a, b in pairwise(labels)) + 1


@settings(max_examples=100, deadline=None)
@given(MOMENTS)
def test_utc_needs_no_name(moment):
    assert "[" not in window("day", moment)
    assert window("day", moment, ZoneInfo("UTC")) == window("day", moment) + "[UTC]"
