"""The services of the project: written whole, made ready step by step, asked about in between."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from localcloud.run_admin.errors import ApiError, Violation, aborted, already_exists, invalid, not_found
from localcloud.run_admin.policies import Policy
from localcloud.run_admin.project import Project
from localcloud.run_admin.revisions import Revision, revision_name
from localcloud.run_admin.rules import service_faults
from localcloud.run_admin.runtime import Runtime, Told
from localcloud.run_admin.shapes import Json, JsonObject, rows, table, text, texts
from localcloud.run_admin.status import Standing, status_of


@dataclass(slots=True, kw_only=True)
class Service:
    """One service: what was asked for last, the revisions that came of it, and where traffic goes."""

    name: str
    created: str
    metadata: JsonObject
    spec: JsonObject
    generation: int = 0
    revisions: dict[str, Revision] = field(default_factory=dict)
    standing: Standing = field(default_factory=Standing)
    polls_left: int = 0
    policy: Policy = field(default_factory=Policy)


class Services:
    """Cloud Run in one region of one project. `now` gives RFC 3339 times. Raises ApiError for what it refuses.

    `runtime` runs revisions; without one, they become what the project's configuration says of their images.
    """

    def __init__(self, project: Project, now: Callable[[], str], runtime: Runtime | None = None) -> None:
        self._project = project
        self._now = now
        self._runtime = runtime or Told(project.config)
        self._services: dict[str, Service] = {}

    def create(self, wanted: JsonObject, *, dry_run: bool) -> JsonObject:
        """A new service from the whole of its manifest."""
        name = self._checked(wanted)
        if name in self._services:
            raise already_exists(f"Resource '{name}'")
        service = Service(name=name, created=self._now(), metadata={}, spec={})
        return self._applied(service, wanted, dry_run=dry_run)

    def replace(self, name: str, wanted: JsonObject, *, dry_run: bool) -> JsonObject:
        """An existing service, written over; the body's resourceVersion must be the one that was read."""
        service = self.find(name)
        if self._checked(wanted) != name:
            raise invalid([Violation("metadata.name", f"must be '{name}', as in the request's path.")])
        version = text(table(wanted, "metadata"), "resourceVersion")
        if version and version != _version(service):
            raise aborted(f"Conflict for resource '{name}': version '{version}' was specified but it has changed.")
        return self._applied(service, wanted, dry_run=dry_run)

    def read(self, name: str) -> JsonObject:
        """A service as it is now. Reading is what lets time pass for a new revision."""
        service = self.find(name)
        if service.polls_left:
            service.polls_left -= 1
        self._settle(service)
        return self._document(service)

    def listed(self) -> list[Json]:
        """All services."""
        return [self._document(service) for service in self._services.values()]

    def delete(self, name: str) -> JsonObject:
        """Remove a service with its revisions."""
        self.find(name)
        del self._services[name]
        self._runtime.remove(name)
        return {"kind": "Status", "status": "Success"}

    def revisions(self, service: str) -> list[Json]:
        """A service's revisions, the newest first; those of all services for an empty name."""
        return [
            self._revision_document(owner, revision)
            for owner in self._services.values()
            for revision in reversed(owner.revisions.values())
            if service in ("", owner.name)
        ]

    def revision(self, name: str) -> JsonObject:
        """One revision."""
        for owner in self._services.values():
            if name in owner.revisions:
                return self._revision_document(owner, owner.revisions[name])
        raise not_found(name)

    def policy(self, name: str) -> Policy:
        """Who may invoke a service."""
        return self.find(name).policy

    def find(self, name: str) -> Service:
        """A service by its name."""
        if name not in self._services:
            raise not_found(name)
        return self._services[name]

    def _checked(self, wanted: JsonObject) -> str:
        if faults := service_faults(wanted, self._project):
            raise invalid(faults)
        namespace = text(table(wanted, "metadata"), "namespace")
        self._project.knows(namespace)
        spec = table(table(table(wanted, "spec"), "template"), "spec")
        self._project.runs_as(text(spec, "serviceAccountName"))
        return text(table(wanted, "metadata"), "name")

    def _applied(self, service: Service, wanted: JsonObject, *, dry_run: bool) -> JsonObject:
        """Make a manifest the service's own; a dry run does so with a copy that nobody keeps."""
        if dry_run:
            service = copy.deepcopy(service)
        spec: JsonObject = copy.deepcopy(table(wanted, "spec"))
        spec.setdefault("traffic", [{"latestRevision": True, "percent": 100}])
        for target in rows(spec, "traffic"):
            target.pop("url", None)
        changed = spec != service.spec
        if changed:
            self._revise(service, spec, dry_run=dry_run)
        metadata = table(wanted, "metadata")
        service.metadata = {"labels": table(metadata, "labels"), "annotations": table(metadata, "annotations")}
        service.spec = spec
        service.standing.writes += 1
        if not dry_run:
            self._services[service.name] = service
            service.polls_left = self._project.config.polls if changed else 0
            self._settle(service)
        return self._document(service)

    def _revise(self, service: Service, spec: JsonObject, *, dry_run: bool) -> None:
        """Count a generation, and make a revision of it if the template has changed. Nothing is kept on a refusal."""
        template = table(spec, "template")
        generation = service.generation + 1
        given = text(table(template, "metadata"), "name")
        name = given or revision_name(service.name, generation)
        new = template != table(service.spec, "template")
        if new and name in service.revisions:
            raise ApiError(409, f"Revision named '{name}' with different configuration already exists.")
        names = service.revisions.keys() | ({name} if new else set())
        for index, target in enumerate(rows(spec, "traffic")):
            if (pinned := text(target, "revisionName")) and pinned not in names:
                raise invalid([Violation(f"spec.traffic[{index}].revisionName", f"Revision '{pinned}' is not found.")])
        if new:
            revision = Revision(
                name=name,
                service=service.name,
                generation=generation,
                template=copy.deepcopy(template),
                created=self._now(),
            )
            if not dry_run:
                self._runtime.begin(revision)
            service.revisions[name] = revision
            service.standing.created = name
        service.generation = generation

    def _settle(self, service: Service) -> None:
        """Once it is known what became of the newest revision, calls go where they were asked to go, if they can."""
        standing = service.standing
        if service.polls_left or standing.settled == service.generation:
            return
        newest = service.revisions[standing.created]
        if (outcome := self._runtime.outcome(newest)) is None:
            return
        service.revisions[newest.name] = replace(newest, failure=outcome.failure)
        standing.settle(service.generation, service.revisions, rows(service.spec, "traffic"))
        if standing.traffic:
            self._runtime.route(service.name, table(service.metadata, "annotations"), standing.traffic)

    def _document(self, service: Service) -> JsonObject:
        config = self._project.config
        host = f"{service.name}-{config.number}.{config.region}.run.app"
        url = config.urls.get(service.name, f"https://{host}")
        return {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {
                "name": service.name,
                "namespace": str(config.number),
                "uid": f"uid-{service.name}",
                "resourceVersion": _version(service),
                "generation": service.generation,
                "creationTimestamp": service.created,
                "labels": {**texts(service.metadata, "labels"), "cloud.googleapis.com/location": config.region},
                "annotations": dict[str, Json](texts(service.metadata, "annotations")),
            },
            "spec": copy.deepcopy(service.spec),
            "status": status_of(service.standing, service.generation, url, self._tag_url(service.name, url)),
        }

    def _tag_url(self, service: str, url: str) -> Callable[[str], str]:
        scheme, _, host = url.partition("://")
        made = scheme == "https"
        return lambda tag: self._runtime.tag_url(service, tag) or (f"https://{tag}---{host}" if made else url)

    def _revision_document(self, service: Service, revision: Revision) -> JsonObject:
        newest = revision.name == service.standing.created
        ready = not newest or service.standing.settled == service.generation
        return revision.document(str(self._project.config.number), ready=ready)


def _version(service: Service) -> str:
    return f"AAX{service.generation:04d}{service.standing.writes:04d}"
