"""Streams beside each other, and sums of which only a part is in memory, against dictionaries."""

import sqlite3
from collections import Counter
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.amounts import Sum
from gateway.audit.pairs import paired
from gateway.audit.sums import Sums

NAMES = st.text("aZ\u00e9\ud7ff\ue000\U0001f600 :", max_size=3)
PLACES = st.tuples(NAMES, NAMES, NAMES)
AMOUNTS = st.integers(-(2**70), 2**70)


@given(st.dictionaries(NAMES, st.integers()), st.dictionaries(NAMES, st.integers()))
def test_every_key_of_either_comes_once_in_order_with_both_values(left, right):
    found = list(paired(sorted(left.items()), sorted(right.items())))
    assert found == [(key, left.get(key), right.get(key)) for key in sorted({*left, *right})]


@given(st.lists(st.tuples(PLACES, AMOUNTS, AMOUNTS)), st.integers(0, 3))
def test_sums_are_the_same_however_few_fit_into_memory(added, kept_max):
    held, spent = Counter(), Counter()
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        sums = Sums(scratch, kept_max=kept_max)
        for place, more_held, more_spent in added:
            sums.add(place, Sum(more_held, more_spent))
            held[place] += more_held
            spent[place] += more_spent
            assert len(sums._kept) <= kept_max
        assert list(sums.sorted()) == [(place, (held[place], spent[place])) for place in sorted(held)]
