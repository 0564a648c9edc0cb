"""How many retries a route may make, and how long an upstream that is busy is spared."""

import pytest
from made_routes import MostChance, SeededChance

from gateway.llm.cooling import DRAWN_MS_MAX, FIRST_MS, NAMED_MS_MAX, Cooling
from gateway.llm.retry_budget import RetryBudget, RetryTerms

MS = 1_000_000


def test_calls_earn_retries_by_their_share_and_no_more_than_the_burst():
    budget = RetryBudget(RetryTerms(attempts=3, percent=25, burst=2))
    assert [budget.take() for _ in range(3)] == [True, True, False]
    for _ in range(3):
        budget.called()
    assert not budget.take()
    budget.called()
    assert budget.take()
    for _ in range(1_000):
        budget.called()
    assert [budget.take() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("percent, burst", [(0, 0), (0, 3), (100, 0)])
def test_without_a_share_or_without_room_nothing_is_earned(percent, burst):
    budget = RetryBudget(RetryTerms(percent=percent, burst=burst))
    for _ in range(burst):
        assert budget.take()
    budget.called()
    assert not budget.take()


def test_only_a_call_that_may_be_tried_again_may_spoil_its_prompt():
    assert [RetryTerms(attempts=number).spoilt_max for number in (1, 2, 5)] == [0, 1, 1]


def test_a_delay_that_was_named_is_kept_and_bounded():
    cooling = Cooling()
    assert cooling.left_ns(0) == 0
    cooling.refused(0, 7_000, MostChance())
    assert cooling.left_ns(0) == cooling.named_left_ns(0) == 7_000 * MS
    assert cooling.left_ns(6_999 * MS) == MS
    assert cooling.left_ns(8_000 * MS) == 0
    cooling.refused(0, 10 * NAMED_MS_MAX, MostChance())
    assert cooling.left_ns(0) == NAMED_MS_MAX * MS


def test_without_a_name_the_delay_is_drawn_below_a_bound_that_doubles():
    cooling, now, bounds = Cooling(), 0, []
    for _ in range(9):
        cooling.refused(now, None, MostChance())
        bounds.append(cooling.left_ns(now) // MS)
        assert cooling.named_left_ns(now) == 0
        now += cooling.left_ns(now)
    assert bounds == [min(FIRST_MS * 2**number, DRAWN_MS_MAX) for number in range(9)]
    cooling.answered()
    cooling.refused(now, None, MostChance())
    assert cooling.left_ns(now) == FIRST_MS * MS


def test_what_is_drawn_never_shortens_what_was_named():
    cooling = Cooling()
    cooling.refused(0, 60_000, MostChance())
    cooling.refused(0, None, SeededChance())
    assert cooling.named_left_ns(0) == 60_000 * MS
