"""Which target is asked next."""

from collections import Counter

import pytest
from made_routes import MostChance, SeededChance

from gateway.llm.breaker import BreakerTerms
from gateway.llm.standing import Target, next_standing, standings
from gateway.terms.faults import Fault

S = 1_000_000_000


def made(*places):
    """Standings with these orders and weights, named by their place."""
    targets = [
        Target(name=str(place), model=None, upstream=None, prices=(), tokenizer="", order=order, weight=weight)
        for place, (order, weight) in enumerate(places)
    ]
    return standings(targets, BreakerTerms(failures=1, open_ms=5_000))


def first(of, tries=None, chance=None):
    found = next_standing(of, tries or [0] * len(of), S, chance or MostChance())
    return None if found is None else int(found.target.name)


def break_(standing):
    standing.breaker.failed(standing.breaker.enter(S), S)


def test_the_lowest_order_goes_first_until_it_was_asked_or_its_breaker_is_open():
    of = made((2, 1), (1, 1), (3, 1))
    assert first(of) == 1
    assert first(of, [0, 1, 0]) == 0
    assert first(of, [1, 1, 1]) == 1
    break_(of[1])
    assert first(of) == 0
    break_(of[0])
    break_(of[2])
    assert first(of) is None


def test_who_has_quota_goes_before_who_may_have_it_and_before_who_said_when():
    of = made((1, 1), (2, 1), (3, 1))
    of[0].cooling.refused(S, 9_000, MostChance())
    of[1].cooling.refused(S, None, MostChance())
    assert first(of) == 2
    assert first(of[:2]) == 1
    assert first(of[:1]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_among_equals_chance_decides_by_weight(seed):
    of, chance = made((1, 7), (1, 2), (1, 1), (1, 0), (2, 100)), SeededChance(seed)
    drawn = Counter(first(of, chance=chance) for _ in range(10_000))
    assert set(drawn) == {0, 1, 2}
    # Seven, two and one of ten, to within five standard deviations.
    for place, share in ((0, 0.7), (1, 0.2), (2, 0.1)):
        assert abs(drawn[place] - 10_000 * share) < 5 * (10_000 * share * (1 - share)) ** 0.5


def test_a_weight_of_nothing_is_drawn_only_when_no_other_one_is_left():
    of = made((1, 0), (1, 3))
    assert {first(of, chance=SeededChance(seed)) for seed in range(20)} == {1}
    break_(of[1])
    assert first(of) == 0


def test_who_would_not_serve_goes_after_who_may_have_quota_and_before_who_said_when():
    of = made((1, 1), (2, 1), (3, 1), (4, 1))
    of[0].cooling.refused(S, 9_000, MostChance())
    of[1].aside.failed(S, Fault.MISSING, MostChance())
    of[2].cooling.refused(S, None, MostChance())
    asked, order = [0] * 4, []
    for _ in range(4):
        order.append(first(of, asked))
        asked[order[-1]] += 1
    assert order == [3, 2, 1, 0]
    assert first([one.counting() for one in of[:2]]) == 1  # counts have places of their own
