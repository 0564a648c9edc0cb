"""What runs revisions, as the admin API sees it; and the one that runs none, and says what it was told to say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from localcloud.run_admin.config import AdminConfig
from localcloud.run_admin.revisions import Failure, Revision, failure_of
from localcloud.run_admin.shapes import JsonObject, rows, table, text


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a revision's start: it is ready, or why it is not."""

    failure: Failure | None = None


class Runtime(Protocol):
    """Starts revisions, and sends calls where they are to go."""

    def begin(self, revision: Revision) -> None:
        """Start a revision's first instance, without traffic. Raises ApiError for one that cannot be run here."""
        ...

    def outcome(self, revision: Revision) -> Outcome | None:
        """What came of the start; None while it goes on."""
        ...

    def route(self, service: str, annotations: JsonObject, targets: Sequence[JsonObject]) -> None:
        """Send a service's calls to these targets from now on; every one of them names a revision that is ready."""
        ...

    def tag_url(self, service: str, tag: str) -> str:
        """The address of what has this tag; empty where it is made of the service's."""
        ...

    def remove(self, service: str) -> None:
        """End all instances of a service."""
        ...


class Told:
    """Runs nothing: of every image, the configuration says what becomes of its container."""

    def __init__(self, config: AdminConfig) -> None:
        self._starts = config.starts

    def begin(self, revision: Revision) -> None:
        """See `Runtime`; there is nothing to start."""

    def outcome(self, revision: Revision) -> Outcome | None:
        """See `Runtime`: at once, by the images of the containers."""
        images = [text(container, "image") for container in rows(table(revision.template, "spec"), "containers")]
        failures = (failure_of(self._starts.get(image, "ready"), image) for image in images)
        return Outcome(next((failure for failure in failures if failure is not None), None))

    def route(self, service: str, annotations: JsonObject, targets: Sequence[JsonObject]) -> None:
        """See `Runtime`; there are no calls."""

    def tag_url(self, service: str, tag: str) -> str:  # noqa: ARG002  # no tag has an address of its own
        """See `Runtime`."""
        return ""

    def remove(self, service: str) -> None:
        """See `Runtime`; nothing runs."""
