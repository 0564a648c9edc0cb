"""Two sorted streams beside each other: how tables that are too long for memory are compared."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from gateway.audit.amounts import Place
from gateway.terms.ids import OperationId

Key = TypeVar("Key", OperationId, Place)
Left = TypeVar("Left")
Right = TypeVar("Right")


def paired(
    left: Iterable[tuple[Key, Left]], right: Iterable[tuple[Key, Right]]
) -> Iterator[tuple[Key, Left | None, Right | None]]:
    """Every key of either, and its value in each, None where it is not.

    Each must be in the order of its keys, none of which it has twice.
    """
    lefts, rights = iter(left), iter(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None and other is not None:
        if one[0] < other[0]:
            yield one[0], one[1], None
            one = next(lefts, None)
        elif other[0] < one[0]:
            yield other[0], None, other[1]
            other = next(rights, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(lefts, None), next(rights, None)
    while one is not None:
        yield one[0], one[1], None
        one = next(lefts, None)
    while other is not None:
        yield other[0], None, other[1]
        other = next(rights, None)
