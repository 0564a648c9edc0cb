"""A revision: one template made runnable, or not, for good."""

import hashlib
from dataclasses import dataclass
from typing import Final

from localcloud.run_admin.config import Start
from localcloud.run_admin.shapes import Json, JsonObject, table, texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a revision does not become ready."""

    reason: str
    message: str


_FAILURES: Final = {
    "image-missing": ("ContainerMissing", "Image '{image}' not found."),
    "crash": (
        "HealthCheckContainerError",
        (
            "The user-provided container failed to start and listen on the port defined provided by the PORT=8080 "
            "environment variable within the allocated timeout."
        ),
    ),
    "probe-fails": (
        "HealthCheckContainerError",
        "The user-provided container failed the configured startup probe checks.",
    ),
}


def failure_of(start: Start, image: str) -> Failure | None:
    """What Cloud Run says of a container that starts like this; None when it serves."""
    if start == "ready":
        return None
    reason, message = _FAILURES[start]
    return Failure(reason=reason, message=message.format(image=image))


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """An immutable copy of a service's template, and what became of its first container."""

    name: str
    service: str
    generation: int
    template: JsonObject
    created: str
    failure: Failure | None = None
    """Why it is not ready, once that is known."""

    def document(self, namespace: str, *, ready: bool) -> JsonObject:
        """As the API writes it. A revision that is still starting is neither ready nor failed."""
        metadata = table(self.template, "metadata")
        return {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Revision",
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "creationTimestamp": self.created,
                "generation": 1,
                "labels": {
                    **texts(metadata, "labels"),
                    "serving.knative.dev/service": self.service,
                    "serving.knative.dev/configurationGeneration": str(self.generation),
                },
                "annotations": dict[str, Json](texts(metadata, "annotations")),
            },
            "spec": table(self.template, "spec"),
            "status": {"observedGeneration": 1, "conditions": [self._condition(ready=ready)]},
        }

    def _condition(self, *, ready: bool) -> JsonObject:
        if self.failure is not None and ready:
            said: JsonObject = {"reason": self.failure.reason, "message": self.failure.message}
            return {"type": "Ready", "status": "False", **said}
        return {"type": "Ready", "status": "True" if ready else "Unknown"}


def revision_name(service: str, generation: int) -> str:
    """The name that Cloud Run makes: the service's, the generation in five digits, three letters."""
    digest = hashlib.sha256(f"{service} {generation}".encode()).digest()
    letters = "".join(chr(ord("a") + byte % 26) for byte in digest[:3])
    return f"{service}-{generation:05d}-{letters}"
