"""How long a target that would not serve is asked after the others."""

from made_routes import MostChance, SeededChance

from gateway.llm.aside import ASIDE_MS_MAX, OPERATORS_MS_MAX, Aside
from gateway.llm.cooling import DRAWN_MS_MAX
from gateway.terms.faults import Fault

MS = 1_000_000


def test_the_time_doubles_up_to_what_the_fault_allows_and_an_answer_ends_it():
    for fault, most in ((Fault.MISSING, OPERATORS_MS_MAX), (Fault.MALFORMED, DRAWN_MS_MAX)):
        aside = Aside()
        times = [aside.failed(0, fault, MostChance()) for _ in range(12)]
        assert times == [min(1_000 << place, most) for place in range(12)]
        assert aside.left_ns(0) == most * MS
        aside.answered()
        assert aside.left_ns(0) == 0
        assert aside.failed(0, fault, MostChance()) == 1_000


def test_the_second_half_is_drawn_so_that_the_next_call_is_never_first_to_ask_again():
    times = set()
    for seed in range(50):
        aside, chance = Aside(), SeededChance(seed)
        times.add(aside.failed(0, Fault.DENIED, chance))
        assert 500 <= min(times) <= max(times) <= 1_000
    assert len(times) > 25


def test_a_shorter_time_does_not_end_a_longer_one():
    aside = Aside()
    for _ in range(9):
        aside.failed(0, Fault.MISSING, MostChance())
    assert aside.failed(0, Fault.MALFORMED, MostChance()) == DRAWN_MS_MAX
    assert aside.left_ns(0) == 256_000 * MS


def test_neither_a_quota_nor_an_overload_nor_a_refused_request_sets_aside():
    assert set(ASIDE_MS_MAX) == {Fault.MISSING, Fault.DENIED, Fault.CREDENTIALS, Fault.MALFORMED}
