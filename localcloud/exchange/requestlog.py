"""The request log: how many requests reached the exchange, and of the newest, what they were and what they carried.

It is a witness: it names the credential headers that arrived and never keeps their values.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

_CREDENTIAL_HEADERS: Final = frozenset(
    {
        "apca-api-key-id",
        "apca-api-secret-key",
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-api-key",
        "x-goog-api-key",
        "x-goog-iap-jwt-assertion",
        "x-serverless-authorization",
    }
)
_PATH_LIMIT: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSeen:
    """One request and its end: `status` 0 means that the connection was cut without a reply."""

    number: int
    at_us: int
    method: str
    path: str
    credential_headers: tuple[str, ...]
    account_number: str | None
    status: int

    def as_json(self) -> dict[str, object]:
        """The entry as the admin path shows it."""
        return asdict(self)


class RequestLog:
    """Counts all requests and keeps the newest `kept` of them."""

    def __init__(self, kept: int = 1_000) -> None:
        """Begin at zero."""
        self.count = 0
        self._seen: deque[RequestSeen] = deque(maxlen=kept)

    def arrived(self) -> int:
        """Count a request and give it its number, from 1."""
        self.count += 1
        return self.count

    def ended(self, entry: RequestSeen) -> None:
        """Keep what became of a request."""
        self._seen.append(entry)

    def newest(self) -> list[RequestSeen]:
        """The requests that are kept, in the order in which they ended."""
        return list(self._seen)


def credential_headers(names: Iterable[str]) -> tuple[str, ...]:
    """Those header names that carry credentials, in lower case and sorted."""
    return tuple(sorted({name.lower() for name in names} & _CREDENTIAL_HEADERS))


def clipped(path: str) -> str:
    """A request target no longer than the log keeps."""
    return path[:_PATH_LIMIT]
