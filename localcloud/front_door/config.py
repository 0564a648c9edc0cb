"""What a front door is told when it starts: the container behind it, who may invoke it, and its limits."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# IAM members that are no e-mail (study, section 2.3, rule 3).
ALL_USERS = "allUsers"
ALL_AUTHENTICATED_USERS = "allAuthenticatedUsers"

_MEMBER_KINDS = ("serviceAccount:", "user:")
_SMALLEST_WINDOW = 65_535  # RFC 9113 section 6.9.2: a client may send this much before it has read our settings


class DoorConfigError(ValueError):
    """A front door was described in a way that it cannot work with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorConfig:
    """One Cloud Run service as its edge sees it. Durations are in seconds, windows in bytes; port 0 is any port.

    A container is named unless the door is given something else to stand before. `invokers` are the members that hold
    `roles/run.invoker`. `concurrency` is the number of requests that may be inside the container at once; others wait
    `pending_seconds` for a place and are then told that no instance is available.
    """

    audiences: tuple[str, ...]
    invokers: tuple[str, ...]
    certs_url: str
    container_host: str = ""
    container_port: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    strip_signature: bool = True
    ingress: Literal["all", "none"] = "all"
    timeout_seconds: float = 300.0
    concurrency: int = 1000
    pending_seconds: float = 10.0
    start_seconds: float = 10.0
    reconnect_seconds: float = 1.0
    stream_window: int = _SMALLEST_WINDOW
    drain_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not self.audiences or not all(self.audiences):
            raise DoorConfigError("Give the service's URL as audience: without one, no token could be checked.")
        if not bool(self.container_host) <= self.container_port < 65_536 or not 0 <= self.port < 65_536:
            raise DoorConfigError("A container's port is 1 to 65535, the door's own 0 to 65535.")
        if not 1 <= self.concurrency <= 1000:
            raise DoorConfigError("The container's concurrency is 1 to 1000, as at Cloud Run.")
        if not 0 < self.timeout_seconds <= 3600:
            raise DoorConfigError("The request timeout is above 0 and at most 3600 seconds, as at Cloud Run.")
        if not _SMALLEST_WINDOW <= self.stream_window < 2**31:
            raise DoorConfigError(f"The stream window is at least {_SMALLEST_WINDOW} bytes (RFC 9113 section 6.9.2).")
        if min(self.pending_seconds, self.start_seconds, self.reconnect_seconds, self.drain_seconds) < 0:
            raise DoorConfigError("A duration cannot be negative.")

    def access(self) -> "Access":
        """Who may come in, for as long as the door stands."""
        return Access(audiences=frozenset(self.audiences), members=bare_members(self.invokers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may come in at one moment: the audiences that tokens may name, and the e-mails of those who may invoke."""

    audiences: frozenset[str]
    members: frozenset[str]


def bare_members(invokers: Iterable[str]) -> frozenset[str]:
    """Return IAM's members without `serviceAccount:` or `user:` in front."""
    bare = set()
    for member in invokers:
        for kind in _MEMBER_KINDS:
            member = member.removeprefix(kind)  # noqa: PLW2901  # the same member, one prefix less
        bare.add(member)
    return frozenset(bare)
