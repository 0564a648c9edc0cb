"""Which API method a request asks for: the real host names and paths, and what answers them (study, section 4.1)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from localcloud.run_admin.errors import ApiError, not_found
from localcloud.run_admin.policies import Policy
from localcloud.run_admin.project import Project
from localcloud.run_admin.services import Services
from localcloud.run_admin.shapes import Json, JsonObject, table, text
from localcloud.run_admin.tokens import TokenMint

APIS: Final = (
    "run",
    "iam",
    "iamcredentials",
    "cloudresourcemanager",
    "serviceusage",
    "secretmanager",
    "artifactregistry",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request: the parts of its path by name, its query and its body."""

    parts: Mapping[str, str]
    query: Mapping[str, str]
    body: JsonObject

    @property
    def dry_run(self) -> bool:
        """Whether the write is only to be judged."""
        return self.query.get("dryRun") == "all"


Answer = Callable[[Asked], JsonObject]


class Routes:
    """The methods of seven APIs over one project."""

    def __init__(self, project: Project, services: Services, mint: TokenMint) -> None:
        self._project = project
        self._services = services
        self._mint = mint
        self._table = [
            (method, host, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", path)), answer)
            for method, host, path, answer in self._methods()
        ]

    def answer(self, method: str, host: str, path: str, asked: Asked) -> JsonObject:
        """Do what is asked. Raises ApiError: 403 for an API that is off, 404 for a method that no API here has."""
        for verb, pattern, form, function in self._table:
            match = form.fullmatch(path) if verb == method and re.fullmatch(pattern, host) else None
            if match is None:
                continue
            self._project.require("run.googleapis.com" if host.endswith("-run.googleapis.com") else host)
            parts = match.groupdict()
            if parts.get("p", "-") != "-":
                self._project.knows(parts["p"])
            return function(Asked(parts=parts, query=asked.query, body=asked.body))
        raise not_found(f"{method} {host}{path}")

    def _methods(self) -> list[tuple[str, str, str, Answer]]:
        return [*self._run(), *self._iam(), *self._around()]

    def _run(self) -> list[tuple[str, str, str, Answer]]:
        knative = "/apis/serving.knative.dev/v1/namespaces/{p}"
        v1 = "/v1/projects/{p}/locations/{region}/services/{name}"
        regional = re.escape(f"{self._project.config.region}-run.googleapis.com")
        anywhere, own = r"run\.googleapis\.com", self._services
        return [
            ("GET", regional, f"{knative}/services", lambda _: _listed("Service", own.listed())),
            ("POST", regional, f"{knative}/services", lambda a: own.create(a.body, dry_run=a.dry_run)),
            ("GET", regional, f"{knative}/services/{{name}}", lambda a: own.read(a.parts["name"])),
            (
                "PUT",
                regional,
                f"{knative}/services/{{name}}",
                lambda a: own.replace(a.parts["name"], a.body, dry_run=a.dry_run),
            ),
            ("DELETE", regional, f"{knative}/services/{{name}}", lambda a: own.delete(a.parts["name"])),
            ("GET", regional, f"{knative}/revisions", lambda a: _listed("Revision", own.revisions(_service_label(a)))),
            ("GET", regional, f"{knative}/revisions/{{name}}", lambda a: own.revision(a.parts["name"])),
            (
                "GET",
                anywhere,
                "/v1/projects/{p}/locations/-/services",
                lambda _: _listed("Service", own.listed()),
            ),
            ("GET", anywhere, f"{v1}:getIamPolicy", lambda a: own.policy(a.parts["name"]).document()),
            ("POST", anywhere, f"{v1}:setIamPolicy", lambda a: self._write(own.policy(a.parts["name"]), a)),
        ]

    def _iam(self) -> list[tuple[str, str, str, Answer]]:
        iam, tokens, project = r"iam\.googleapis\.com", r"iamcredentials\.googleapis\.com", self._project
        account = "/v1/projects/{p}/serviceAccounts/{email}"
        return [
            ("GET", iam, "/v1/projects/{p}/serviceAccounts", lambda _: {"accounts": self._accounts()}),
            ("POST", iam, "/v1/projects/{p}/serviceAccounts", self._create_account),
            ("GET", iam, account, lambda a: project.account(a.parts["email"])),
            ("POST", iam, f"{account}:getIamPolicy", lambda a: project.account_policy(a.parts["email"]).document()),
            (
                "POST",
                iam,
                f"{account}:setIamPolicy",
                lambda a: self._write(project.account_policy(a.parts["email"]), a),
            ),
            ("POST", tokens, f"{account}:generateAccessToken", lambda a: self._mint.access_token(a.parts["email"])),
            (
                "POST",
                tokens,
                f"{account}:generateIdToken",
                self._id_token,
            ),
        ]

    def _around(self) -> list[tuple[str, str, str, Answer]]:
        manager, usage = r"cloudresourcemanager\.googleapis\.com", r"serviceusage\.googleapis\.com"
        secrets, registry = r"secretmanager\.googleapis\.com", r"artifactregistry\.googleapis\.com"
        project, secret = self._project, "/v1/projects/{p}/secrets/{secret}"
        repositories = "/v1/projects/{p}/locations/{region}/repositories"
        return [
            ("GET", manager, "/v1/projects/{p}", lambda _: project.document()),
            ("POST", manager, "/v1/projects/{p}:getIamPolicy", lambda _: project.policy.document()),
            ("POST", manager, "/v1/projects/{p}:setIamPolicy", lambda a: self._write(project.policy, a)),
            ("GET", usage, "/v1/projects/{p}/services/{api}", self._api),
            ("POST", usage, "/v1/projects/{p}/services/{api}:enable", lambda a: self._enable([a.parts["api"]])),
            ("POST", usage, "/v1/projects/{p}/services:batchEnable", lambda a: self._enable(_names(a.body))),
            ("POST", secrets, "/v1/projects/{p}/secrets", lambda a: project.create_secret(a.query.get("secretId", ""))),
            (
                "POST",
                secrets,
                f"{secret}:addVersion",
                lambda a: project.add_version(a.parts["secret"], table(a.body, "payload")),
            ),
            (
                "GET",
                secrets,
                f"{secret}/versions/{{version}}",
                lambda a: project.version(a.parts["secret"], a.parts["version"]),
            ),
            ("GET", secrets, f"{secret}:getIamPolicy", lambda a: project.secret_policy(a.parts["secret"]).document()),
            (
                "POST",
                secrets,
                f"{secret}:setIamPolicy",
                lambda a: self._write(project.secret_policy(a.parts["secret"]), a),
            ),
            ("POST", registry, repositories, self._create_repository),
            (
                "GET",
                registry,
                f"{repositories}/{{name}}",
                lambda a: project.repository(a.parts["region"], a.parts["name"]),
            ),
        ]

    def _write(self, policy: Policy, asked: Asked) -> JsonObject:
        return policy.replace(table(asked.body, "policy"), self._project.member_exists)

    def _accounts(self) -> list[Json]:
        return [self._project.account(email) for email in self._project.accounts]

    def _create_account(self, asked: Asked) -> JsonObject:
        wanted = table(asked.body, "serviceAccount")
        return self._project.create_account(text(asked.body, "accountId"), text(wanted, "displayName"))

    def _id_token(self, asked: Asked) -> JsonObject:
        with_email = asked.body.get("includeEmail") is True
        return self._mint.id_token(asked.parts["email"], text(asked.body, "audience"), with_email=with_email)

    def _api(self, asked: Asked) -> JsonObject:
        api = asked.parts["api"]
        state = "ENABLED" if api in self._project.apis else "DISABLED"
        return {"name": f"projects/{self._project.config.number}/services/{api}", "state": state}

    def _enable(self, names: list[str]) -> JsonObject:
        self._project.enable(names)
        return {"name": "operations/acat.enable", "done": True, "response": {}}

    def _create_repository(self, asked: Asked) -> JsonObject:
        made = self._project.create_repository(
            asked.parts["region"], asked.query.get("repositoryId", ""), text(asked.body, "format")
        )
        place = f"projects/{self._project.config.project}/locations/{asked.parts['region']}"
        return {"name": f"{place}/operations/create", "done": True, "response": made}


def _listed(kind: str, items: list[Json]) -> JsonObject:
    """A list as Knative writes it; gcloud needs its metadata, which says that there is no further page."""
    return {"apiVersion": "serving.knative.dev/v1", "kind": f"{kind}List", "metadata": {}, "items": items}


def _service_label(asked: Asked) -> str:
    selector = asked.query.get("labelSelector", "")
    match = re.fullmatch(r"serving\.knative\.dev/service\s*=\s*(\S+)", selector)
    if selector and match is None:
        raise ApiError(400, f"This label selector is not understood: {selector}")
    return match[1] if match else ""


def _names(body: JsonObject) -> list[str]:
    names = body.get("serviceIds")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
