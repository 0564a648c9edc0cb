"""One call's way through the gateway: what it brought, when it must end, and what each stage took."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum

from gateway.terms.caller import Credentials
from gateway.terms.clock import Clock
from gateway.terms.ids import RequestId


class _Stage:
    """The time inside of one block. A call has a dozen: `contextmanager` would take twice as long for each."""

    __slots__ = ("_name", "_stages", "_start")

    def __init__(self, stages: "Stages", name: str) -> None:
        self._stages = stages
        self._name = name

    def __enter__(self) -> None:
        self._start = self._stages.now_ns()

    def __exit__(self, *_: object) -> None:
        self._stages.spend(self._name, self._stages.now_ns() - self._start)


class Stages:
    """How long each stage of a call took, told to the caller as `gateway-timing` (invariant 7)."""

    __slots__ = ("_spent_ns", "now_ns")

    def __init__(self, clock: Clock) -> None:
        self.now_ns = clock.monotonic_ns
        """On the clock's monotonic scale."""
        self._spent_ns: dict[str, int] = {}

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Count the time inside as spent on this stage, also when it raises."""
        return _Stage(self, name)

    def spend(self, name: str, duration_ns: int) -> None:
        """Add a duration in nanoseconds to a stage."""
        self._spent_ns[name] = self._spent_ns.get(name, 0) + duration_ns

    def spend_since(self, name: str, opened_ns: int) -> None:
        """Count all since then, when the call was opened, as spent on its first stage."""
        self.spend(name, self.now_ns() - opened_ns)

    def spent_ns(self) -> dict[str, int]:
        """Nanoseconds by stage, in the order of the first visit."""
        return dict(self._spent_ns)

    def server_timing(self) -> str:
        """The stages in the syntax of Server-Timing (W3C), durations in milliseconds."""
        return ", ".join(f"{name};dur={spent / 1e6:.3f}" for name, spent in self._spent_ns.items())


class Leaving(Enum):
    """How a caller went before the end of its call."""

    STAYED = "stayed"
    LEFT = "left"
    """It said so, or nobody can tell."""
    LOST = "lost"
    """Its connection broke."""


@dataclass(slots=True, kw_only=True)
class Departure:
    """What the wire noted of a caller that went; it notes it before it ends the call."""

    how: Leaving = Leaving.STAYED


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What the wire tells the call about itself."""

    request: RequestId
    credentials: Credentials
    clock: Clock
    deadline_ns: int | None
    """On the clock's monotonic scale; None when the caller set none."""
    stages: Stages = field(repr=False)
    reply_headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Initial metadata that the call wants to send, such as `gateway-operation`."""
    departure: Departure = field(default_factory=Departure, repr=False)

    def left_s(self) -> float | None:
        """Seconds until the deadline, negative when it has passed; None when there is none."""
        if self.deadline_ns is None:
            return None
        return (self.deadline_ns - self.clock.monotonic_ns()) / 1e9
