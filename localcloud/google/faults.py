"""Faults of a metadata server that somebody asked for: refusals that end by themselves, and added latency."""

from dataclasses import dataclass

from localcloud.google.identities import AccountError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One order: answer the next `times` requests whose path contains `only` with `status`, `latency_seconds` late.

    A status of 0 delays and answers as usual.
    """

    status: int = 0
    times: int = 1
    only: str = ""
    latency_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.status and not 400 <= self.status <= 599:
            raise AccountError("A fault's status is 400 to 599, or 0 for none.")
        if not 0 <= self.times <= 1_000_000 or not 0 <= self.latency_seconds <= 60:
            raise AccountError("A fault happens 0 to 1,000,000 times and takes 0 to 60 seconds.")


class Faults:
    """The orders that are still open, oldest first; one request uses up one time of the first that fits."""

    def __init__(self) -> None:
        self._open: list[tuple[Fault, int]] = []

    def order(self, fault: Fault) -> None:
        """Add a fault behind those that are open; at most 64 are kept."""
        if len(self._open) >= 64:
            raise AccountError("64 faults are open already: clear them first.")
        if fault.times:
            self._open.append((fault, fault.times))

    def clear(self) -> None:
        """Forget all open faults."""
        self._open.clear()

    def next(self, path: str) -> Fault | None:
        """Return the fault for a request of this path, and count it; None when it is to be answered as usual."""
        for index, (fault, left) in enumerate(self._open):
            if fault.only in path:
                if left > 1:
                    self._open[index] = (fault, left - 1)
                else:
                    del self._open[index]
                return fault
        return None
