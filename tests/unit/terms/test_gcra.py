"""A pace is kept exactly: never more than it says, and never less than it must give."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.terms.gcra import MINUTE_US, Pace

paces = st.builds(Pace, interval_us=st.integers(1, 1_000), burst=st.integers(1, 20))
gaps = st.lists(st.integers(0, 3_000), min_size=1, max_size=60)


def passed(pace, gaps):
    """The moments of those that passed, among events with these gaps."""
    now_us, due_us, moments = 10**15, 0, []
    for gap in gaps:
        now_us += gap
        if pace.wait_us(due_us, now_us) == 0:
            due_us = pace.after(due_us, now_us)
            moments.append(now_us)
    return moments


@settings(max_examples=300, deadline=None)
@given(paces, gaps)
def test_no_stretch_of_time_has_more_than_the_burst_and_the_rate(pace, gaps):
    moments = passed(pace, gaps)
    for first, start in enumerate(moments):
        for count, end in enumerate(moments[first:], 1):
            assert (count - pace.burst) * pace.interval_us <= end - start


@settings(max_examples=300, deadline=None)
@given(paces, gaps)
def test_who_waits_as_long_as_told_passes_then_and_not_a_microsecond_earlier(pace, gaps):
    now_us, due_us = 10**15, 0
    for gap in gaps:
        now_us += gap
        wait_us = pace.wait_us(due_us, now_us)
        if wait_us:
            assert pace.wait_us(due_us, now_us + wait_us - 1) == 1
            now_us += wait_us
        assert pace.wait_us(due_us, now_us) == 0
        due_us = pace.after(due_us, now_us)


def test_after_a_quiet_time_the_whole_burst_may_come_at_once():
    pace = Pace(interval_us=10, burst=3)
    assert len(passed(pace, [0] * 9)) == 3
    assert len(passed(pace, [0] * 9 + [30] + [0] * 9)) == 6


@settings(max_examples=200, deadline=None)
@given(st.integers(1, MINUTE_US))
def test_so_many_a_minute_are_never_more(events):
    assert Pace.per_minute(events, 1).interval_us * events >= MINUTE_US
