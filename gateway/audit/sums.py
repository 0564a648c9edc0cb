"""Sums over scopes and windows of which there may be more than memory takes: the rest stands in a temporary file."""

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final

from gateway.audit.amounts import Place, Sum

KEPT_MAX: Final = 20_000
"""Sums in memory, some 10 MB: more than the windows that are in use at the same time."""

_TABLE: Final = """
CREATE TABLE parts(scope TEXT NOT NULL, unit TEXT NOT NULL, time_window TEXT NOT NULL, held TEXT, spent TEXT) STRICT
"""
"""Parts of sums, in decimal: what a forged record adds up to may have more than 64 bits."""


class Sums:
    """Adds up what is given in any order; `sorted` tells the sums once."""

    def __init__(self, scratch: sqlite3.Connection, *, kept_max: int = KEPT_MAX) -> None:
        """`scratch` is a connection to a temporary file, without a table of the name `parts`."""
        self._scratch = scratch
        self._kept_max = kept_max
        self._kept: dict[Place, Sum] = {}
        scratch.execute(_TABLE)

    def add(self, place: Place, more: Sum) -> None:
        """Add to the sum of a place."""
        held, spent = self._kept.get(place, (0, 0))
        self._kept[place] = Sum(held + more.held, spent + more.spent)
        if len(self._kept) > self._kept_max:
            self._let_go()

    def sorted(self) -> Iterator[tuple[Place, Sum]]:
        """Every place and its sum, in the order of the places' bytes."""
        self._let_go()
        rows = self._scratch.execute("SELECT * FROM parts ORDER BY scope, unit, time_window")
        for place, parts in groupby(rows, key=itemgetter(0, 1, 2)):
            held = spent = 0
            for part in parts:
                held += int(part[3])
                spent += int(part[4])
            yield place, Sum(held, spent)

    def _let_go(self) -> None:
        self._scratch.executemany(
            "INSERT INTO parts VALUES (?, ?, ?, ?, ?)",
            [(*place, str(held), str(spent)) for place, (held, spent) in self._kept.items()],
        )
        self._kept.clear()
