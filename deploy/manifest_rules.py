"""What must not be deployed, seen in the gateway's manifest alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from deploy.manifest import Manifest
from deploy.place import GATEWAY_ACCOUNT, SERVICE, Place

INVOKER_CHECK_OFF: Final = "run.googleapis.com/invoker-iam-disabled"
EDGE: Final = "GATEWAY_EDGE_IAM"
LEDGER_LOST: Final = "GATEWAY_LEDGER_MAY_BE_LOST"
DATABASE: Final = "GATEWAY_DATABASE_URL"
VPC: Final = "run.googleapis.com/network-interfaces"

_SECRET_NAME: Final = re.compile(r".*(?:_KEY|_KEY_ID|_SECRET|_TOKEN|_PASSWORD)")
BY_DIGEST: Final = re.compile(r".+@sha256:[0-9a-f]{64}")
_SCALES: Final = ("minScale", "maxScale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that stands against a deployment, or with `grave` unset, only speaks against it."""

    sentence: str
    grave: bool = True


def manifest_findings(manifest: Manifest, place: Place) -> Iterator[Finding]:
    """Everything that can be said of the gateway's rendered manifest without asking anybody."""
    if manifest.name != SERVICE:
        yield Finding(sentence=f"metadata.name: write {SERVICE}: the agents' grant is on this service")
    yield from _annotation_findings(manifest)
    yield from _account_findings(manifest, place)
    yield from _edge_findings(manifest)
    yield from _ledger_findings(manifest)
    yield from _secret_findings(manifest)
    yield from _container_findings(manifest)


def annotation_type_findings(manifest: Manifest) -> Iterator[Finding]:
    """Annotations that are no strings: the API takes nothing else, and gcloud refuses before it calls (study, 1.4)."""
    for annotations in (manifest.annotations, manifest.revision_annotations):
        for key, value in annotations.items():
            if not isinstance(value, str):
                yield Finding(sentence=f'{key}: an annotation is a string: write "{str(value).lower()}" in quotes')


def _annotation_findings(manifest: Manifest) -> Iterator[Finding]:
    yield from annotation_type_findings(manifest)
    for annotations in (manifest.annotations, manifest.revision_annotations):
        if INVOKER_CHECK_OFF in annotations and annotations[INVOKER_CHECK_OFF] != "false":
            yield Finding(sentence=f"{INVOKER_CHECK_OFF}: take it out: without the invoker check anybody is any agent")


def _account_findings(manifest: Manifest, place: Place) -> Iterator[Finding]:
    wanted = place.email(GATEWAY_ACCOUNT)
    if manifest.account != wanted:
        is_now = manifest.account or "the project's default account"
        yield Finding(
            sentence=f"serviceAccountName: it is {is_now}: write {wanted}, which the gateway shares with nobody"
        )


def _edge_findings(manifest: Manifest) -> Iterator[Finding]:
    edge = manifest.environment.get(EDGE)
    if edge != "required":
        yield Finding(
            sentence=f"{EDGE}: write required: Cloud Run takes the signature off the tokens that it has checked, and "
            "without this switch the gateway refuses those"
        )


def _ledger_findings(manifest: Manifest) -> Iterator[Finding]:
    if DATABASE in manifest.variables:
        if VPC not in manifest.revision_annotations:
            yield Finding(
                sentence=f"{VPC}: without it the gateway has no way to a database at a private address", grave=False
            )
        return
    if manifest.environment.get(LEDGER_LOST) != "accepted":
        yield Finding(
            sentence=f"{LEDGER_LOST}: decide: on Cloud Run the ledger ends with its instance, and the gateway refuses "
            "to start. Write 'accepted' if keys, budgets and records may be lost; else run it where its disk stays"
        )
    for annotations, prefix in (
        (manifest.annotations, "run.googleapis.com/"),
        (manifest.revision_annotations, "autoscaling.knative.dev/"),
    ):
        if annotations.get(f"{prefix}maxScale") not in ("1", 1):
            yield Finding(
                sentence=f'{prefix}maxScale: write "1": every instance has a ledger of its own, so two of them would '
                "let a key, a budget or an exposure count twice"
            )


def _secret_findings(manifest: Manifest) -> Iterator[Finding]:
    for name, value in manifest.environment.items():
        if _SECRET_NAME.fullmatch(name) and value:
            yield Finding(sentence=f"{name}: it has a value in the manifest: put it into a secret, and refer to that")
    for secret in manifest.secrets:
        if not secret.name or not secret.version:
            yield Finding(sentence="a reference to a secret names no secret, or no version in quotes")
        elif secret.version == "latest":
            yield Finding(sentence=f"{secret.name}: name a version: with latest there is no way back", grave=False)


def _container_findings(manifest: Manifest) -> Iterator[Finding]:
    if len(manifest.containers) != 1:
        yield Finding(sentence="containers: the gateway is one container")
        return
    (container,) = manifest.containers
    ports = container.get("ports")
    first = ports[0] if isinstance(ports, list) and ports else None
    if not isinstance(first, dict) or first.get("name") != "h2c":
        yield Finding(sentence="ports: name the port h2c: gRPC needs HTTP/2 down to the container")
    image = container.get("image")
    if not isinstance(image, str) or not image:
        yield Finding(sentence="image: is missing")
    elif not BY_DIGEST.fullmatch(image):
        yield Finding(sentence=f"image: {image} has no digest: what runs later may be another image", grave=False)
    for annotations, key in (
        (manifest.annotations, "run.googleapis.com/minScale"),
        (manifest.revision_annotations, "autoscaling.knative.dev/minScale"),
    ):
        if annotations.get(key) in (None, "0", 0):
            yield Finding(sentence=f"{key}: without a waiting instance the next caller waits for a start", grave=False)
