"""How long a route's answers are: a small histogram that forgets, for estimates. Whole numbers only; pure."""

from typing import Final

TYPICAL_PERCENT: Final = 95
"""So many of a hundred answers are not longer than what is called typical."""

ANSWERS_MIN: Final = 20
"""Fewer tell nothing about the twentieth."""

_REMEMBERED: Final = 1_024
"""After so many answers, what was counted before weighs half."""

_STEPS: Final = 4
"""Each doubling of the size has so many buckets: an estimate is at most a quarter too high."""


class OutputSizes:
    """Output tokens of the answers of one route."""

    __slots__ = ("_buckets", "_count")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._count = 0

    def saw(self, tokens: int) -> None:
        """An answer had so many tokens. One that was cut is told as twice of what it had: it wanted more."""
        bucket = _bucket(tokens)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._count += 1
        if self._count >= _REMEMBERED:
            self._buckets = {bucket: count // 2 for bucket, count in self._buckets.items() if count > 1}
            self._count = sum(self._buckets.values())

    def typical(self, percent: int = TYPICAL_PERCENT) -> int | None:
        """So many tokens that `percent` of a hundred answers have no more; None while too few are known."""
        if self._count < ANSWERS_MIN:
            return None
        beyond = self._count * (100 - percent) // 100
        for bucket in sorted(self._buckets, reverse=True):
            beyond -= self._buckets[bucket]
            if beyond < 0:
                return _most(bucket)
        return None


def _bucket(tokens: int) -> int:
    """The bucket of a size: its highest bit, and the two bits after it."""
    size = max(tokens, _STEPS)
    shift = size.bit_length() - 3
    return shift * _STEPS + (size >> shift) - _STEPS


def _most(bucket: int) -> int:
    """The largest size in a bucket."""
    shift, step = divmod(bucket, _STEPS)
    return ((_STEPS + step + 1) << shift) - 1
