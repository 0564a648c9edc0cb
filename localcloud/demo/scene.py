"""A scene of the demonstration: what was done, what was expected, and what was seen from outside."""

import time
from dataclasses import dataclass, field

Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One expectation and what was seen of it. `where` names the witness: the wire, the exchange, the record."""

    what: str
    where: str
    expected: str
    seen: str
    ok: bool


@dataclass(slots=True, kw_only=True)
class Scene:
    """One part of the demonstration."""

    name: str
    title: str
    lines: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    facts: Json = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether something was expected, and all of it was seen."""
        return bool(self.seen) and all(seen.ok for seen in self.seen)

    def tell(self, line: str) -> None:
        """Add a line to the story."""
        self.lines.append(line)

    def expect(self, what: str, where: str, expected: object, seen: object) -> None:
        """Expect exactly this."""
        self.seen.append(
            Seen(what=what, where=where, expected=str(expected), seen=str(seen)[:200], ok=expected == seen)
        )

    def expect_in(self, what: str, where: str, allowed: tuple[object, ...], seen: object) -> None:
        """Expect one of these."""
        expected = " or ".join(str(value) for value in allowed)
        self.seen.append(Seen(what=what, where=where, expected=expected, seen=str(seen)[:200], ok=seen in allowed))

    def expect_true(self, what: str, where: str, expected: str, *, ok: bool, seen: object) -> None:
        """Expect a condition that is not an equality, said in words."""
        self.seen.append(Seen(what=what, where=where, expected=expected, seen=str(seen)[:200], ok=ok))


class Stopwatch:
    """Milliseconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def ms(self) -> float:
        """Milliseconds until now."""
        return (time.perf_counter() - self._start) * 1000


def stages_ms(server_timing: str) -> dict[str, float]:
    """The stages of a `gateway-timing` value, in milliseconds."""
    return {name: told["dur"] for name, told in stages_told(server_timing).items() if "dur" in told}


def stages_told(server_timing: str) -> dict[str, dict[str, float]]:
    """All that a `gateway-timing` value tells of its stages: the numbers of each, by the names of the parameters."""
    stages: dict[str, dict[str, float]] = {}
    for entry in filter(None, map(str.strip, server_timing.split(","))):
        name, *parameters = entry.split(";")
        pairs = (parameter.partition("=") for parameter in parameters)
        stages[name] = {key.strip(): float(value) for key, _, value in pairs}
    return stages
