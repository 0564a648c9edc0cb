"""The project around the services: its enabled APIs, service accounts, secrets, repositories and their policies."""

import hashlib
import re
from typing import Final

from localcloud.run_admin.config import APIS_ALWAYS_ON, AdminConfig
from localcloud.run_admin.errors import ApiError, already_exists, disabled, not_found
from localcloud.run_admin.payloads import has_checksum, value_of
from localcloud.run_admin.policies import Policy
from localcloud.run_admin.shapes import JsonObject

SECRET_ACCESSOR: Final = "roles/secretmanager.secretAccessor"  # noqa: S105 - a role's name
TOKEN_CREATORS: Final = ("roles/iam.serviceAccountTokenCreator",)

_ACCOUNT: Final = re.compile(r"[a-z]([a-z0-9-]{4,28}[a-z0-9])")
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_REPOSITORY: Final = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_API: Final = re.compile(r"[a-z0-9-]+\.googleapis\.com")


class Project:
    """One project's resources other than services. Every method that does not find something raises ApiError 404."""

    def __init__(self, config: AdminConfig) -> None:
        self.config = config
        self.policy = Policy()
        self.apis = {*config.apis, *APIS_ALWAYS_ON}
        self.accounts = {config.email(account): Policy() for account in config.accounts}
        self._secrets = {name: (versions, Policy()) for name, versions in config.secrets.items()}
        self._values: dict[tuple[str, str], bytes] = {}
        self._display_names: dict[str, str] = {}
        self._repositories: dict[str, JsonObject] = {}

    def require(self, api: str) -> None:
        """Raise ApiError 403 for an API that is not enabled."""
        if api not in self.apis:
            raise disabled(api, self.config.number)

    def enable(self, names: list[str]) -> None:
        """Enable APIs; 400 for a name that is none."""
        if not names or not all(map(_API.fullmatch, names)):
            raise ApiError(400, f"Not all of these are services: {', '.join(names)}")
        self.apis.update(names)

    def knows(self, project: str) -> None:
        """Raise ApiError 403 for another project, as Google does whether it exists or not."""
        if project not in (self.config.project, str(self.config.number)):
            raise ApiError(403, f"Permission denied on resource project {project}.")

    def document(self) -> JsonObject:
        """The project itself, as cloudresourcemanager v1 writes it."""
        return {
            "projectId": self.config.project,
            "projectNumber": str(self.config.number),
            "name": self.config.project,
            "lifecycleState": "ACTIVE",
        }

    def member_exists(self, member: str) -> bool:
        """Whether a policy may name this member; only this project's own service accounts are known here."""
        kind, _, email = member.partition(":")
        ours = kind == "serviceAccount" and email.endswith(f"@{self.config.project}.iam.gserviceaccount.com")
        return not ours or email in self.accounts

    def runs_as(self, email: str) -> None:
        """Raise ApiError 403 where a revision cannot run as this account, in the words in which Cloud Run says it."""
        default = f"{self.config.number}-compute@developer.gserviceaccount.com"
        if (email or default) not in {*self.accounts, default}:
            raise ApiError(
                403,
                f"Permission 'iam.serviceaccounts.actAs' denied on service account {email} (or it may not exist).",
            )

    def create_account(self, account: str, display_name: str) -> JsonObject:
        """A new service account; 409 for one that is there, 400 for a name that is none."""
        if not _ACCOUNT.fullmatch(account):
            raise ApiError(400, "Service account IDs have 6 to 30 lowercase alphanumeric characters and dashes.")
        email = self.config.email(account)
        if email in self.accounts:
            raise already_exists(f"Service account {account}")
        self.accounts[email] = Policy()
        self._display_names[email] = display_name
        return self.account(email)

    def account(self, email: str) -> JsonObject:
        """A service account, as iam v1 writes it; its number is derived from its address."""
        if email not in self.accounts:
            raise not_found(f"projects/{self.config.project}/serviceAccounts/{email}")
        unique = int.from_bytes(hashlib.sha256(email.encode()).digest()[:8], "big") % 10**20
        return {
            "name": f"projects/{self.config.project}/serviceAccounts/{email}",
            "projectId": self.config.project,
            "uniqueId": f"1{unique:020d}",
            "email": email,
            "displayName": self._display_names.get(email, ""),
        }

    def account_policy(self, email: str) -> Policy:
        """Who may act as a service account."""
        self.account(email)
        return self.accounts[email]

    def impersonate(self, email: str) -> None:
        """Raise ApiError 403 where the operator may not make tokens for this account."""
        creators = {
            member
            for role in TOKEN_CREATORS
            for policy in (self.policy, self.accounts.get(email, Policy()))
            for member in policy.members(role)
        }
        if self.config.operator not in creators:
            raise ApiError(
                403,
                "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
            )

    def create_secret(self, name: str) -> JsonObject:
        """A new secret without versions."""
        if not _SECRET.fullmatch(name):
            raise ApiError(400, "A secret's id has 1 to 255 letters, digits, underscores and hyphens.")
        if name in self._secrets:
            raise already_exists(f"Secret [{self._secret_path(name)}]")
        self._secrets[name] = (0, Policy())
        return {"name": self._secret_path(name), "replication": {"automatic": {}}}

    def add_version(self, name: str, payload: JsonObject) -> JsonObject:
        """One version more, with its value in base64. Raises ApiError 400 for a payload that is none or is damaged."""
        versions, policy = self._secret(name)
        self._values[name, str(versions + 1)] = value_of(payload)
        self._secrets[name] = (versions + 1, policy)
        return {**self.version(name, "latest"), "clientSpecifiedPayloadChecksum": has_checksum(payload)}

    def version(self, name: str, version: str) -> JsonObject:
        """A version of a secret, by number or `latest`, without its value."""
        versions, _ = self._secret(name)
        wanted = str(versions) if version == "latest" else version
        if not (wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= versions):
            raise not_found(f"{self._secret_path(name)}/versions/{version}")
        return {"name": f"{self._secret_path(name)}/versions/{wanted}", "state": "ENABLED"}

    def secret_value(self, name: str, version: str) -> bytes:
        """What a version of a secret holds; empty for one that was there from the beginning."""
        versions, _ = self._secret(name)
        return self._values.get((name, str(versions) if version == "latest" else version), b"")

    def secret_policy(self, name: str) -> Policy:
        """Who may read a secret."""
        return self._secret(name)[1]

    def secret_fault(self, secret: str, version: str, email: str) -> str:
        """Why this account cannot read this version of a secret; empty when it can."""
        try:
            self.version(secret, version)
        except ApiError:
            return f"Secret {self._secret_path(secret)}/versions/{version} was not found"
        readers = self._secret(secret)[1].members(SECRET_ACCESSOR) | self.policy.members(SECRET_ACCESSOR)
        if f"serviceAccount:{email}" in readers:
            return ""
        return (
            f"Permission denied on secret: {self._secret_path(secret)}/versions/{version} for Revision service account "
            f"{email}. The service account used must be granted the 'Secret Manager Secret Accessor' role "
            f"({SECRET_ACCESSOR}) at the secret, project or higher level."
        )

    def create_repository(self, location: str, name: str, form: str) -> JsonObject:
        """A new artifact repository."""
        if not _REPOSITORY.fullmatch(name) or form != "DOCKER":
            raise ApiError(400, f"Repository {name!r} of format {form!r} cannot be made here.")
        path = f"projects/{self.config.project}/locations/{location}/repositories/{name}"
        if path in self._repositories:
            raise ApiError(409, "the repository already exists")
        self._repositories[path] = {"name": path, "format": form}
        return self._repositories[path]

    def repository(self, location: str, name: str) -> JsonObject:
        """An artifact repository."""
        path = f"projects/{self.config.project}/locations/{location}/repositories/{name}"
        if path not in self._repositories:
            raise not_found(path)
        return self._repositories[path]

    def _secret(self, name: str) -> tuple[int, Policy]:
        if name not in self._secrets:
            raise ApiError(404, f"Secret [{self._secret_path(name)}] not found.")
        return self._secrets[name]

    def _secret_path(self, name: str) -> str:
        return f"projects/{self.config.number}/secrets/{name}"
