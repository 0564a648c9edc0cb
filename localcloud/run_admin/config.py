"""What the local project is told when it starts: who exists, which secrets, which images do not start."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

_PROJECT: Final = re.compile(r"[a-z][a-z0-9-]{0,29}")
_REGION: Final = re.compile(r"[a-z]+-[a-z]+[0-9]+")

APIS_ALWAYS_ON: Final = ("cloudresourcemanager.googleapis.com", "serviceusage.googleapis.com")
"""Without these two a project could not even be asked what it has enabled."""

Start = Literal["ready", "image-missing", "crash", "probe-fails"]
"""What becomes of a container: `probe-fails` listens, but its startup probe never passes."""


class AdminConfigError(ValueError):
    """A project was described in a way that Google would not accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """One project. Port 0 lets the system choose.

    `accounts` are service account ids ("sa-gateway"), `secrets` secret ids with their number of versions, `apis` those
    that are enabled. `starts` says of an image what its container does; all others become ready. `polls` is how often a
    service is read before a new revision is ready or has failed. `urls` puts a service at an address that answers on
    this machine. `operator` is the member that calls: whoever has a token is the operator.
    """

    project: str = "local-project"
    number: int = 123456789012
    region: str = "us-central1"
    accounts: tuple[str, ...] = ()
    secrets: Mapping[str, int] = field(default_factory=dict)
    apis: tuple[str, ...] = ()
    starts: Mapping[str, Start] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)
    polls: int = 1
    operator: str = "user:operator@example.com"
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        if not _PROJECT.fullmatch(self.project):
            raise AdminConfigError(f"{self.project!r} is no project id: lower-case letters, digits and hyphens.")
        if not _REGION.fullmatch(self.region):
            raise AdminConfigError(f"{self.region!r} is no region: write one such as us-central1.")
        if self.number < 1 or not 0 <= self.port < 65_536 or not 0 <= self.polls <= 100:
            raise AdminConfigError("Give a project number above 0, a port from 0 to 65535, and 0 to 100 polls.")

    def email(self, account: str) -> str:
        """The address of a service account of this project."""
        return f"{account}@{self.project}.iam.gserviceaccount.com"
