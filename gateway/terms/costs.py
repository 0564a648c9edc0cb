"""What each stage of a call costs, for who measures a gateway: processor time and commits, beside the time that passes.

One process has one count of each. What a stage is told to have cost is what the whole process used between the stage's
borders, on the event loop's thread and on all others (the writer of a file's ledger): true for one caller at a time,
and only then, because the stages of calls that run together lie in one another.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from gateway.terms.clock import Clock, ProcessorClock
from gateway.terms.passage import Stages


class Cost(NamedTuple):
    """What was used."""

    loop_ns: int = 0
    """Nanoseconds of processor time of the event loop's thread."""
    process_ns: int = 0
    """The same of all threads, the event loop's among them."""
    commits: int = 0
    """Made durable by the ledger."""

    def plus(self, more: "Cost") -> "Cost":
        """Both together."""
        return Cost(self.loop_ns + more.loop_ns, self.process_ns + more.process_ns, self.commits + more.commits)

    def less(self, part: "Cost") -> "Cost":
        """Without a part of it."""
        return Cost(self.loop_ns - part.loop_ns, self.process_ns - part.process_ns, self.commits - part.commits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Reads what the process has used until now. For the event loop's thread alone."""

    processor: ProcessorClock
    commits: Callable[[], int]
    """How many commits the ledger has made."""

    def read(self) -> Cost:
        """All of it, since some fixed moment."""
        return Cost(self.processor.thread_ns(), self.processor.process_ns(), self.commits())


class MeasuredStages(Stages):
    """Tells for each stage also what it cost; and as `between`, what a call took and cost outside of its stages."""

    __slots__ = ("_cost", "_meter", "_opened", "_opened_ns")

    def __init__(self, clock: Clock, meter: Meter) -> None:
        super().__init__(clock)
        self._meter = meter
        self._cost: dict[str, Cost] = {}
        self._opened_ns = clock.monotonic_ns()
        self._opened = meter.read()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """See `Stages`."""
        before = self._meter.read()
        try:
            with super().stage(name):
                yield
        finally:
            self._charge(name, before)

    def spend_since(self, name: str, opened_ns: int) -> None:
        """See `Stages`. Its cost is counted from the making of this."""
        super().spend_since(name, opened_ns)
        self._charge(name, self._opened)

    def cost(self) -> dict[str, Cost]:
        """What each stage has cost, in the order of the first visit's end."""
        return dict(self._cost)

    def server_timing(self) -> str:
        """See `Stages`; `cpu` and `threads` are milliseconds too, of all threads and of those beside the event loop."""
        spent_ns = self.spent_ns()
        told = [_told(name, spent, self._cost.get(name)) for name, spent in spent_ns.items()]
        rest = self._meter.read().less(self._opened)
        for part in self._cost.values():
            rest = rest.less(part)
        between_ns = self.now_ns() - self._opened_ns - sum(spent_ns.values())
        return ", ".join((*told, _told("between", between_ns, rest)))

    def _charge(self, name: str, before: Cost) -> None:
        cost = self._meter.read().less(before)
        self._cost[name] = self._cost.get(name, Cost()).plus(cost)


def _told(name: str, spent_ns: int, cost: Cost | None) -> str:
    """One entry of Server-Timing; who does not know its parameters passes over them, as the standard wants."""
    entry = f"{name};dur={spent_ns / 1e6:.3f}"
    if cost is None:
        return entry
    # The two clocks are read one after the other: without another thread, their difference may be a breath below zero.
    threads_ns = max(cost.process_ns - cost.loop_ns, 0)
    return f"{entry};cpu={cost.process_ns / 1e6:.4f};threads={threads_ns / 1e6:.4f};commits={cost.commits}"
