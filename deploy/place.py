"""Where things are deployed, and what they are called there."""

import re
from dataclasses import dataclass
from typing import Final

from deploy.faults import DeployError

SERVICE: Final = "gateway-service"
AGENT_SERVICE: Final = "agent-service"
GATEWAY_ACCOUNT: Final = "sa-gateway"
AGENT_ACCOUNT: Final = "sa-agent"
REPOSITORY: Final = "agentic-gateway"
CANDIDATE: Final = "candidate"
"""The tag under which a revision is tried before it gets traffic."""

APIS: Final = tuple(
    f"{name}.googleapis.com"
    for name in ("run", "aiplatform", "artifactregistry", "secretmanager", "iam", "iamcredentials")
)
DATABASE_APIS: Final = tuple(f"{name}.googleapis.com" for name in ("compute", "servicenetworking", "sqladmin"))
"""Needed besides, where the ledger is in Cloud SQL."""
DATABASE_SECRET: Final = "gateway-database-url"  # noqa: S105 - a secret's name
NETWORK: Final = "agentic-gateway"
"""The network of the database, and its subnet for the gateway's instances."""
INVOKER: Final = "roles/run.invoker"
MODEL_USER: Final = "roles/aiplatform.user"
SECRET_READER: Final = "roles/secretmanager.secretAccessor"  # noqa: S105 - a role's name
PUBLIC: Final = ("allUsers", "allAuthenticatedUsers")

_PROJECT: Final = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
_REGION: Final = re.compile(r"[a-z]+-[a-z]+[0-9]{1,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A project and a region of Google Cloud. Raises DeployError for names that cannot be ones."""

    project: str
    region: str

    def __post_init__(self) -> None:
        if not _PROJECT.fullmatch(self.project):
            raise DeployError(f"{self.project!r} is no project id: 6 to 30 lower-case letters, digits and hyphens")
        if not _REGION.fullmatch(self.region):
            raise DeployError(f"{self.region!r} is no region: write one such as us-central1")

    def email(self, account: str) -> str:
        """A service account's address."""
        return f"{account}@{self.project}.iam.gserviceaccount.com"

    def member(self, account: str) -> str:
        """A service account as IAM names it."""
        return f"serviceAccount:{self.email(account)}"

    @property
    def registry(self) -> str:
        """The host that images are pushed to."""
        return f"{self.region}-docker.pkg.dev"

    @property
    def image(self) -> str:
        """The name under which an image is pushed; it is deployed by its digest."""
        return f"{self.registry}/{self.project}/{REPOSITORY}/gateway:deploy"

    @property
    def unbuilt(self) -> str:
        """What stands in a manifest for an image that is still to be built, and that will have a digest."""
        return f"{self.image.rpartition(':')[0]}@sha256:{'0' * 64}"

    def gcloud(self, *words: str) -> list[str]:
        """A gcloud command in this project, that never asks back."""
        return ["gcloud", *words, f"--project={self.project}", "--quiet"]

    def run(self, *words: str) -> list[str]:
        """A `gcloud run` command in this region."""
        return self.gcloud("run", *words, f"--region={self.region}")
