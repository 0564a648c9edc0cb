"""The places in which operations are looked after: some for each upstream, and of these some for withdrawals alone."""

from collections import Counter
from typing import Final

from gateway.terms.aftercare import Room, Watched
from gateway.terms.ids import ToolName

SLOTS_EACH: Final = 8
"""Operations that one instance looks for at one upstream at once, and as many that it withdraws there."""

_Place = tuple[int, bool]


class Slots:
    """Whoever hangs fills the places of its own upstream and kind, and nothing waits for it but what asks there too.

    So the kill switch never waits for a look, nor for another upstream; and withdrawals that get no answer keep no
    lost outcome from being found.
    """

    def __init__(self, upstreams: tuple[tuple[ToolName, ...], ...]) -> None:
        self._upstreams: Final = upstreams
        self._numbers: Final = {str(tool): number for number, tools in enumerate(upstreams) for tool in tools}
        self._all: Final = tuple(self._numbers)
        self._taken: Final = Counter[_Place]()

    def rooms(self) -> tuple[Room, ...]:
        """What may be taken now, withdrawals first."""
        places = [(number, withdraw) for withdraw in (True, False) for number in range(len(self._upstreams) + 1)]
        return tuple(self._room(place) for place in places if self._taken[place] < SLOTS_EACH)

    def take(self, watched: Watched) -> None:
        """One is looked after from now on."""
        self._taken[self._place(watched)] += 1

    def give(self, watched: Watched) -> bool:
        """It is not any more; whether others may have waited for its place."""
        place = self._place(watched)
        self._taken[place] -= 1
        return self._taken[place] == SLOTS_EACH - 1

    def _room(self, place: _Place) -> Room:
        number, withdraw = place
        most = SLOTS_EACH - self._taken[place]
        if number == len(self._upstreams):
            return Room(withdraw=withdraw, most=most, tools=self._all)
        return Room(withdraw=withdraw, most=most, tools=self._upstreams[number], other_tools=False)

    def _place(self, watched: Watched) -> _Place:
        """Tools that nobody has any more share the last places."""
        return self._numbers.get(watched.operation.key.tool, len(self._upstreams)), watched.withdraw
