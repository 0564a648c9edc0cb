"""Budget windows are read from the calendar in UTC."""

import pytest

from gateway.call.windows import window

LAST_US = 1_795_996_799_999_999  # 2026-11-29T23:59:59.999999Z


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
