"""When a breaker opens, whom it lets try, and when it closes again."""

import pytest

from gateway.llm.breaker import Breaker, BreakerTerms, Standing

S = 1_000_000_000
TERMS = BreakerTerms(failures=3, window_ms=10_000, open_ms=5_000, open_ms_max=15_000)


def breaker():
    return Breaker(TERMS)


def fails(one, now, times=1):
    for _ in range(times):
        one.failed(one.enter(now), now)


def answers(one, now, times=1):
    for _ in range(times):
        one.answered(one.enter(now), now)


def test_failures_within_the_window_open_it_and_nobody_enters():
    one = breaker()
    fails(one, S, 2)
    assert one.standing(S) is Standing.CLOSED
    fails(one, 2 * S)
    assert one.standing(2 * S) is Standing.OPEN
    assert one.enter(2 * S) is None
    assert one.closed_for_ns(3 * S) == 4 * S


def test_failures_that_are_long_ago_do_not_count():
    one = breaker()
    fails(one, S, 2)
    fails(one, 12 * S)
    assert one.standing(12 * S) is Standing.CLOSED


def test_few_failures_among_many_answers_do_not_open_it():
    one = breaker()
    answers(one, S, 100)
    fails(one, S, 99)
    assert one.standing(S) is Standing.CLOSED
    fails(one, S)
    assert one.standing(S) is Standing.OPEN


def test_after_its_time_one_call_tries_and_its_answer_closes_it():
    one = breaker()
    fails(one, 0, 3)
    assert one.standing(5 * S) is Standing.HALF_OPEN
    trial = one.enter(5 * S)
    assert one.enter(5 * S) is None
    assert one.closed_for_ns(5 * S) > 0
    one.answered(trial, 5 * S)
    assert one.standing(5 * S) is Standing.CLOSED
    assert one.enter(5 * S) is not None


def test_a_trial_that_fails_opens_it_for_twice_as_long_up_to_a_bound():
    one = breaker()
    fails(one, 0, 3)
    now = 0
    for seconds in (5, 10, 15, 15):
        assert one.closed_for_ns(now) == seconds * S
        now += seconds * S
        fails(one, now)
    answered = now + 15 * S
    answers(one, answered)
    fails(one, answered, 3)
    assert one.closed_for_ns(answered) == 5 * S  # once it was well, it begins anew


def test_a_trial_that_is_left_makes_room_for_another():
    one = breaker()
    fails(one, 0, 3)
    one.left(one.enter(5 * S))
    assert one.enter(5 * S) is not None


@pytest.mark.parametrize("late", ["answered", "failed"])
def test_what_was_asked_before_it_opened_neither_closes_nor_prolongs_it(late):
    one = breaker()
    slow = one.enter(0)
    fails(one, S, 3)
    getattr(one, late)(slow, 2 * S)
    assert one.closed_for_ns(2 * S) == 4 * S
    trial = one.enter(6 * S)
    one.left(slow)
    assert one.enter(6 * S) is None  # the trial's place is the trial's
    one.answered(trial, 6 * S)


def test_the_window_remembers_a_bounded_number_of_parts():
    one = breaker()
    for second in range(10_000):
        answers(one, second * S)
    assert len(one._parts) <= 10
