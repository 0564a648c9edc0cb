"""Faults that a test or a demo injects into the exchange: what goes wrong, for which requests, and how often."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from localcloud.exchange.strict_json import Number

FAULTS_KEPT: Final = 256
LONGEST_DELAY_MS: Final = 3_600_000


class FaultKind(StrEnum):
    """What can go wrong."""

    LATENCY = "latency"
    """The request waits `delay_ms` before anything else happens."""
    LATENCY_AFTER = "latency_after"
    """The request takes effect, then its reply waits `delay_ms`."""
    RESET_BEFORE = "reset_before"
    """The connection is reset before the request is acted on."""
    RESET_AFTER_ACCEPT = "reset_after_accept"
    """The request takes effect, then the connection is reset without a reply."""
    STATUS_BEFORE = "status_before"
    """The reply is `status` and nothing took effect."""
    STATUS_AFTER = "status_after"
    """The request takes effect, then the reply is `status`."""
    STALE_QUOTE = "stale_quote"
    """A quote is `delay_ms` older than it should be."""
    ZERO_QUOTE = "zero_quote"
    """A quote has zero prices and sizes on both sides."""
    MISSING_QUOTE = "missing_quote"
    """There is no quote for the symbol."""
    DUPLICATE_FILL = "duplicate_fill"
    """Reports count every fill twice (the books stay right): filled_qty in orders, repeated ids in activities."""
    HALT = "halt"
    """Trading is halted: new orders are refused, cancels and queries work."""


_NEEDS_DELAY: Final = frozenset({FaultKind.LATENCY, FaultKind.LATENCY_AFTER, FaultKind.STALE_QUOTE})
_NEEDS_STATUS: Final = frozenset({FaultKind.STATUS_BEFORE, FaultKind.STATUS_AFTER})


class InvalidFaultError(ValueError):
    """A fault that cannot be injected; the message says what to change."""


@dataclass(slots=True, kw_only=True, eq=False)
class Fault:
    """One injected fault. A match member of None matches all; `remaining` None means until it is removed."""

    kind: FaultKind
    method: str | None = None
    path_prefix: str | None = None
    symbol: str | None = None
    remaining: int | None = 1
    delay_ms: int = 0
    status: int = 0
    seen: int = 0

    def matches(self, target: "Target") -> bool:
        """Whether the fault strikes a request."""
        return (
            self.method in (None, target.method)
            and (self.path_prefix is None or target.path.startswith(self.path_prefix))
            and (self.symbol is None or self.symbol in target.symbols)
        )

    def as_json(self) -> dict[str, object]:
        """The fault as the admin path shows it; `seen` counts how often it struck."""
        return {
            "match": {"method": self.method, "path_prefix": self.path_prefix, "symbol": self.symbol},
            "kind": str(self.kind),
            "count": self.remaining,
            "delay_ms": self.delay_ms,
            "status": self.status,
            "seen": self.seen,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a fault is matched against: a request's method and path, and the symbols that it names."""

    method: str
    path: str
    symbols: Collection[str] = ()


class Faults:
    """The faults that are in force, in the order in which they were added; at most `FAULTS_KEPT`."""

    def __init__(self) -> None:
        """Begin with none."""
        self._faults: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, faults: Iterable[Fault]) -> None:
        """Put faults in force behind those already there. Raises InvalidFaultError when there are too many."""
        new = list(faults)
        if len(self._faults) + len(new) > FAULTS_KEPT:
            raise InvalidFaultError(f"at most {FAULTS_KEPT} faults can be in force; remove some first")
        self._faults.extend(new)

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def listed(self) -> list[Fault]:
        """The faults in force."""
        return list(self._faults)

    def peek(self, kind: FaultKind, target: Target) -> Fault | None:
        """The first fault of a kind that strikes the request, without counting it."""
        return next((fault for fault in self._faults if fault.kind is kind and fault.matches(target)), None)

    def take(self, kind: FaultKind, target: Target) -> Fault | None:
        """The first fault of a kind that strikes the request; it counts, and leaves with its last count."""
        fault = self.peek(kind, target)
        if fault is None:
            return None
        fault.seen += 1
        if fault.remaining is not None:
            fault.remaining -= 1
            if not fault.remaining:
                self._faults.remove(fault)
        return fault


def decode_fault(value: object) -> Fault:
    """A fault from its JSON form `{match, kind, count, delay_ms, status}`.

    Unknown members are refused: a misspelt fault would silently be no fault. `count` is 1 unless given, and null
    means until removed. Raises InvalidFaultError.
    """
    members = _members(value, {"match", "kind", "count", "delay_ms", "status"}, "a fault")
    match = _members(members.get("match", {}), {"method", "path_prefix", "symbol"}, "match")
    try:
        kind = FaultKind(str(members.get("kind")))
    except ValueError as error:
        raise InvalidFaultError(f"kind must be one of {', '.join(FaultKind)}") from error
    fault = Fault(
        kind=kind,
        method=_text(match, "method"),
        path_prefix=_text(match, "path_prefix"),
        symbol=_text(match, "symbol"),
        remaining=None if members.get("count", "") is None else _whole(members, "count", 1),
        delay_ms=_whole(members, "delay_ms", 0),
        status=_whole(members, "status", 0),
    )
    _check(fault)
    return fault


def _check(fault: Fault) -> None:
    if fault.remaining == 0:
        raise InvalidFaultError("count must be at least 1, or null for until removed")
    if fault.kind in _NEEDS_DELAY and not 0 < fault.delay_ms <= LONGEST_DELAY_MS:
        raise InvalidFaultError(f"{fault.kind} needs delay_ms between 1 and {LONGEST_DELAY_MS}")
    if fault.kind in _NEEDS_STATUS and not 400 <= fault.status <= 599:
        raise InvalidFaultError(f"{fault.kind} needs a status between 400 and 599")


def _members(value: object, known: Collection[str], what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidFaultError(f"{what} must be an object")
    unknown = value.keys() - known
    if unknown:
        raise InvalidFaultError(f"{what} has no member {min(unknown)!r}; it may have {', '.join(sorted(known))}")
    return value


def _text(members: dict[str, object], name: str) -> str | None:
    value = members.get(name)
    if value is None or (isinstance(value, str) and not isinstance(value, Number)):
        return value
    raise InvalidFaultError(f"{name} must be a string")


def _whole(members: dict[str, object], name: str, default: int) -> int:
    value = members.get(name)
    if value is None:
        return default
    if not isinstance(value, Number) or not value.isdecimal() or len(value) > 9:
        raise InvalidFaultError(f"{name} must be a whole number of at most nine digits")
    return int(value)
