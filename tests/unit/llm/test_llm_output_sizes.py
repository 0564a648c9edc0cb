"""What is typical of the answers that were seen."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.llm.output_sizes import ANSWERS_MIN, OutputSizes


def sizes_of(answers):
    sizes = OutputSizes()
    for tokens in answers:
        sizes.saw(tokens)
    return sizes


def test_too_few_answers_tell_nothing():
    assert sizes_of([100] * (ANSWERS_MIN - 1)).typical() is None
    assert 100 <= sizes_of([100] * ANSWERS_MIN).typical() <= 125


@given(st.lists(st.integers(0, 2_000_000), min_size=ANSWERS_MIN, max_size=300))
def test_of_a_hundred_answers_at_least_so_many_are_not_longer_and_the_estimate_is_close(answers):
    typical = sizes_of(answers).typical()
    assert sum(tokens <= typical for tokens in answers) * 100 >= 95 * len(answers)
    exact = sorted(answers)[-(len(answers) * 5 // 100) - 1]
    assert exact <= typical <= max(exact * 5 // 4, 4)


def test_it_follows_answers_that_grow_and_forgets_the_old_ones():
    random = Random(1)
    sizes = sizes_of(random.randrange(80, 120) for _ in range(20_000))
    assert sizes.typical() <= 150
    for _ in range(3_000):
        sizes.saw(random.randrange(800, 1_200))
    assert sizes.typical() >= 1_000
    assert sum(sizes._buckets.values()) == sizes._count < 1_024


def test_an_answer_that_was_cut_lets_the_estimate_grow():
    sizes, most = sizes_of([100] * ANSWERS_MIN), 100
    for _ in range(200):
        most = sizes.typical()
        sizes.saw(2 * most)  # all are cut at what is typical
    assert most > 5_000
