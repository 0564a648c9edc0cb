"""Outcomes that are known and could not be made durable: kept in memory, and tried again until they are."""

from collections import deque
from typing import Final

from gateway.terms.operations import Settlement

UNSETTLED_MAX: Final = 4_096
"""Outcomes that wait for a ledger that cannot write; those beyond are told by the sweep of leases."""


class Unsettled:
    """The oldest first; beyond the bound, the oldest is left to the sweep of leases."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Settlement] = deque(maxlen=UNSETTLED_MAX)

    def keep(self, settlement: Settlement) -> None:
        """Try this one again later."""
        self._waiting.append(settlement)

    def take(self) -> Settlement | None:
        """The oldest one, not kept any more."""
        return self._waiting.popleft() if self._waiting else None
