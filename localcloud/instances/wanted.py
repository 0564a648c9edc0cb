"""What a revision's template asks of the machine that runs it (study of Cloud Run, sections 1.2 to 1.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from localcloud.run_admin.annotations import REVISION_MAX, REVISION_MIN
from localcloud.run_admin.errors import ApiError
from localcloud.run_admin.shapes import JsonObject, number, rows, table, text, texts

PORT: Final = 8080
MAX_DEFAULT: Final = 100
CONCURRENCY_DEFAULT: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How an instance is asked whether it is well. Times are in seconds of the manifest."""

    kind: Literal["grpc", "tcp"]
    port: int
    service: str = ""
    delay: int = 0
    period: int = 10
    timeout: int = 1
    failures: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFile:
    """A version of a secret that is to be a file."""

    secret: str
    version: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A container, and how many instances of it there may be."""

    image: str
    args: tuple[str, ...]
    port: int
    values: Mapping[str, str]
    secrets: Mapping[str, tuple[str, str]]
    """Variables whose values are versions of secrets."""
    files: tuple[SecretFile, ...]
    mounts: tuple[str, ...]
    """The paths that files are mounted at."""
    concurrency: int
    least: int
    most: int
    startup: Probe
    liveness: Probe | None


def wanted(template: JsonObject) -> Wanted:
    """Read a template that the API has taken. Raises ApiError for what these instances cannot be."""
    spec = table(template, "spec")
    containers = rows(spec, "containers")
    if len(containers) != 1:
        raise ApiError(501, "This local region runs one container an instance.")
    (container,) = containers
    annotations = texts(table(template, "metadata"), "annotations")
    port = next((number(row, "containerPort", PORT) for row in rows(container, "ports")), PORT)
    environment = rows(container, "env")
    references = {text(row, "name"): table(table(row, "valueFrom"), "secretKeyRef") for row in environment}
    files = tuple(_files(spec, container))
    probe = _probe(table(container, "startupProbe"), port)
    return Wanted(
        image=text(container, "image"),
        args=tuple(word for word in _list(container, "args")),
        port=port,
        values={text(row, "name"): text(row, "value") for row in environment if "valueFrom" not in row},
        secrets={name: (text(row, "name"), text(row, "key")) for name, row in references.items() if row},
        files=files,
        mounts=tuple(text(row, "mountPath") for row in rows(container, "volumeMounts")),
        concurrency=number(spec, "containerConcurrency", CONCURRENCY_DEFAULT),
        least=int(annotations.get(REVISION_MIN, "0")),
        most=int(annotations.get(REVISION_MAX, str(MAX_DEFAULT))),
        startup=probe or Probe(kind="tcp", port=port, period=240, timeout=240, failures=1),
        liveness=_probe(table(container, "livenessProbe"), port),
    )


def _files(spec: JsonObject, container: JsonObject) -> list[SecretFile]:
    """The files of all mounted secrets; a secret without items is one file of its own name."""
    volumes = {text(volume, "name"): table(volume, "secret") for volume in rows(spec, "volumes")}
    found = []
    for mount in rows(container, "volumeMounts"):
        secret = volumes.get(text(mount, "name"), {})
        name = text(secret, "secretName")
        for item in rows(secret, "items") or [{"key": "latest", "path": name}]:
            path = f"{text(mount, 'mountPath').rstrip('/')}/{text(item, 'path')}"
            found.append(SecretFile(secret=name, version=text(item, "key"), path=path))
    return [file for file in found if file.secret]


def _probe(written: JsonObject, port: int) -> Probe | None:
    if not written:
        return None
    if "httpGet" in written:
        raise ApiError(501, "This local region probes by grpc and tcpSocket.")
    kind: Literal["grpc", "tcp"] = "grpc" if "grpc" in written else "tcp"
    action = table(written, "grpc" if kind == "grpc" else "tcpSocket")
    return Probe(
        kind=kind,
        port=number(action, "port", port),
        service=text(action, "service"),
        delay=number(written, "initialDelaySeconds", 0),
        period=number(written, "periodSeconds", 10),
        timeout=number(written, "timeoutSeconds", 1),
        failures=number(written, "failureThreshold", 3),
    )


def _list(holder: JsonObject, name: str) -> list[str]:
    value = holder.get(name)
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
