"""What Cloud Run's server checks of a Service and gcloud does not (study, sections 1.3, 1.4 and 4.1)."""

import re
from collections.abc import Iterator
from typing import Final, Protocol

from localcloud.run_admin.annotations import (
    REVISION_MAX,
    REVISION_MIN,
    SERVICE_MAX,
    SERVICE_MIN,
    annotation_faults,
    scale_faults,
)
from localcloud.run_admin.containers import container_faults
from localcloud.run_admin.errors import Violation
from localcloud.run_admin.message import SERVICE
from localcloud.run_admin.shapes import JsonObject, misfits, number, rows, table, text, texts

_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?")
_TAG: Final = re.compile(r"[a-z]([a-z0-9-]{0,44}[a-z0-9])?")

SPEC: Final = "spec.template.spec"


class Project(Protocol):
    """What the rules need to know of the project around a service."""

    def secret_fault(self, secret: str, version: str, email: str) -> str:
        """Why this account cannot read this version of a secret; empty when it can."""
        ...


def service_faults(service: JsonObject, project: Project) -> list[Violation]:
    """Everything that is wrong with a Service, its form first: what has no form cannot be judged further."""
    ill_formed = list(misfits(service, SERVICE))
    if ill_formed:
        return ill_formed
    return [*_envelope_faults(service), *_template_faults(service, project), *_traffic_faults(service)]


def _envelope_faults(service: JsonObject) -> Iterator[Violation]:
    if service.get("apiVersion") != "serving.knative.dev/v1":
        yield Violation("apiVersion", "must be serving.knative.dev/v1.")
    if service.get("kind") != "Service":
        yield Violation("kind", "must be Service.")
    metadata = table(service, "metadata")
    if not _NAME.fullmatch(text(metadata, "name")):
        yield Violation(
            "metadata.name",
            "must use only lowercase alphanumeric characters and dashes, begin with a letter, "
            "not end with a dash, and be at most 49 characters long.",
        )
    annotations = texts(metadata, "annotations")
    yield from annotation_faults("Service", annotations, "metadata.annotations")
    yield from scale_faults(annotations, SERVICE_MIN, SERVICE_MAX, "metadata.annotations")


def _template_faults(service: JsonObject, project: Project) -> Iterator[Violation]:
    template = table(table(service, "spec"), "template")
    annotations = texts(table(template, "metadata"), "annotations")
    path = "spec.template.metadata.annotations"
    yield from annotation_faults("Revision", annotations, path)
    yield from scale_faults(annotations, REVISION_MIN, REVISION_MAX, path)
    revision, name = text(table(template, "metadata"), "name"), text(table(service, "metadata"), "name")
    if revision and not (revision.startswith(f"{name}-") and re.fullmatch(r"[a-z0-9-]{1,63}", revision)):
        yield Violation("spec.template.metadata.name", f"must be prefixed by the name of the service, '{name}-'.")
    spec = table(template, "spec")
    concurrency = number(spec, "containerConcurrency", 80)
    if not 1 <= concurrency <= 1000:
        yield Violation(f"{SPEC}.containerConcurrency", "must be between 1 and 1000, inclusive.")
    if not 1 <= number(spec, "timeoutSeconds", 300) <= 3600:
        yield Violation(f"{SPEC}.timeoutSeconds", "must be between 1 and 3600 seconds, inclusive.")
    yield from container_faults(template, SPEC)
    yield from _secret_faults(spec, project)


def _secret_faults(spec: JsonObject, project: Project) -> Iterator[Violation]:
    email = text(spec, "serviceAccountName")
    for index, container in enumerate(rows(spec, "containers")):
        for place, variable in enumerate(rows(container, "env")):
            reference = table(table(variable, "valueFrom"), "secretKeyRef")
            if not reference:
                continue
            path = f"{SPEC}.containers[{index}].env[{place}].value_from.secret_key_ref.name"
            if fault := project.secret_fault(text(reference, "name"), text(reference, "key"), email):
                yield Violation(path, fault)
    for index, volume in enumerate(rows(spec, "volumes")):
        secret = table(volume, "secret")
        items = rows(secret, "items") or [{"key": "latest"}]
        for item in items if secret else []:
            if fault := project.secret_fault(text(secret, "secretName"), text(item, "key"), email):
                yield Violation(f"{SPEC}.volumes[{index}].secret.secretName", fault)


def _traffic_faults(service: JsonObject) -> Iterator[Violation]:
    targets = rows(table(service, "spec"), "traffic")
    if not targets:
        return
    percents = [number(target, "percent", 0) for target in targets]
    if any(not 0 <= percent <= 100 for percent in percents) or sum(percents) != 100:
        yield Violation("spec.traffic", "Traffic percents must be between 0 and 100 and sum to 100.")
    tags = [text(target, "tag") for target in targets if "tag" in target]
    if len(set(tags)) != len(tags):
        yield Violation("spec.traffic", "A tag must be unique within a service.")
    for index, target in enumerate(targets):
        path = f"spec.traffic[{index}]"
        if (target.get("latestRevision") is True) == bool(text(target, "revisionName")):
            yield Violation(path, "exactly one of latestRevision: true and revisionName must be set.")
        if "tag" in target and not _TAG.fullmatch(text(target, "tag")):
            yield Violation(f"{path}.tag", "must use only lowercase alphanumeric characters and dashes.")
