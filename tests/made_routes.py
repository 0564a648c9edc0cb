"""Chance and waiting for the tests of routes."""

from random import Random


class SeededChance:
    """The same numbers in every run."""

    def __init__(self, seed=1):
        self._random = Random(seed)

    def below(self, bound):
        return self._random.randrange(bound)


class MostChance:
    """Always the largest number: every wait is the longest that may be drawn."""

    def below(self, bound):
        return bound - 1


class Waits:
    """Waits by moving a clock; `seconds` are those that were asked for."""

    def __init__(self, pass_s):
        self.seconds = []
        self._pass_s = pass_s

    async def __call__(self, seconds, /):
        self.seconds.append(seconds)
        self._pass_s(seconds)
