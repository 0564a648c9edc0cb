"""The rules of a container's probes: kinds, ranges, and what goes together (study, section 1.3)."""

from collections.abc import Iterator
from typing import Final, Literal

from localcloud.run_admin.errors import Violation
from localcloud.run_admin.shapes import JsonObject, number, table, text

ProbeKind = Literal["startupProbe", "livenessProbe", "readinessProbe"]

_ACTIONS: Final[dict[ProbeKind, tuple[str, ...]]] = {
    "startupProbe": ("grpc", "httpGet", "tcpSocket"),
    "livenessProbe": ("grpc", "httpGet"),
    "readinessProbe": ("grpc", "httpGet"),
}
_ALL_ACTIONS: Final = ("grpc", "httpGet", "tcpSocket", "exec")
_DELAY_MAX: Final[dict[ProbeKind, int]] = {"startupProbe": 240, "livenessProbe": 3600, "readinessProbe": 3600}
_PERIOD_MAX: Final[dict[ProbeKind, int]] = {"startupProbe": 240, "livenessProbe": 3600, "readinessProbe": 3600}


def probe_faults(kind: ProbeKind, probe: JsonObject, path: str) -> Iterator[Violation]:
    """What Cloud Run would refuse of one probe. Times are in seconds."""
    yield from _action_faults(kind, probe, path)
    period, timeout = number(probe, "periodSeconds", 10), number(probe, "timeoutSeconds", 1)
    bounds = (
        ("initialDelaySeconds", number(probe, "initialDelaySeconds", 0), 0, _DELAY_MAX[kind]),
        ("periodSeconds", period, 1, _PERIOD_MAX[kind]),
        ("timeoutSeconds", timeout, 1, 3600),
        ("failureThreshold", number(probe, "failureThreshold", 3), 1, 2**31 - 1),
    )
    for name, value, least, most in bounds:
        if not least <= value <= most:
            yield Violation(f"{path}.{name}", f"{value} is not valid: must be between {least} and {most}, inclusive.")
    if timeout > period:
        yield Violation(f"{path}.timeoutSeconds", f"must not be greater than period_seconds ({period}).")
    if kind != "readinessProbe" and number(probe, "successThreshold", 1) != 1:
        yield Violation(f"{path}.successThreshold", "must be 1 for startup and liveness probes.")


def _action_faults(kind: ProbeKind, probe: JsonObject, path: str) -> Iterator[Violation]:
    actions = [name for name in _ALL_ACTIONS if name in probe]
    if len(actions) != 1:
        yield Violation(path, f"Probe must have exactly one action of {', '.join(_ACTIONS[kind])}.")
        return
    (action,) = actions
    inner = table(probe, action)
    if action not in _ACTIONS[kind]:
        yield Violation(f"{path}.{action}", f"{action} is not supported on {kind}.")
    port = number(inner, "port", 1)
    if not 1 <= port <= 65_535:
        yield Violation(f"{path}.{action}.port", f"{port} is not valid: must be between 1 and 65535, inclusive.")
    for unsupported in ("host", "scheme"):
        if unsupported in inner:
            yield Violation(f"{path}.{action}.{unsupported}", f"{unsupported} is not supported.")
    if action == "httpGet" and not (text(inner, "path") or "/").startswith("/"):
        yield Violation(f"{path}.httpGet.path", "must begin with '/'.")
