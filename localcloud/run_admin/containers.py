"""The rules of a revision's containers: one port, names, resources, environment, mounts, probes."""

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Final

from localcloud.run_admin.errors import Violation
from localcloud.run_admin.probes import ProbeKind, probe_faults
from localcloud.run_admin.shapes import JsonObject, number, rows, table, text, texts

_PORT_NAMES: Final = ("", "http1", "h2c")
_PROBES: Final[tuple[ProbeKind, ...]] = ("startupProbe", "livenessProbe", "readinessProbe")
_RESERVED: Final = frozenset({"PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"})
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WHOLE_CPUS: Final = frozenset(map(Decimal, (1, 2, 4, 6, 8)))
_MIB: Final = {"Ki": Decimal(1) / 1024, "Mi": Decimal(1), "Gi": Decimal(1024)}
_GEN2_MEMORY_MIB: Final = 512
_MEMORY_MIB_MAX: Final = 32 * 1024


def container_faults(template: JsonObject, path: str) -> Iterator[Violation]:
    """What Cloud Run would refuse of the containers of a template; `path` is that of the template's spec."""
    spec = table(template, "spec")
    containers = rows(spec, "containers")
    if not containers:
        yield Violation(f"{path}.containers", "must have at least one container.")
        return
    with_ports = [container for container in containers if rows(container, "ports")]
    if len(containers) > 1 and len(with_ports) != 1:
        yield Violation(f"{path}.containers", "exactly one container of a service must expose a port.")
    volumes = frozenset(text(volume, "name") for volume in rows(spec, "volumes"))
    for index, container in enumerate(containers):
        place = f"{path}.containers[{index}]"
        if not text(container, "image"):
            yield Violation(f"{place}.image", "must not be empty.")
        yield from _port_faults(container, place)
        yield from _environment_faults(container, place)
        yield from _resource_faults(container, template, place)
        yield from _mount_faults(container, volumes, place)
        for kind in _PROBES:
            if kind in container:
                yield from probe_faults(kind, table(container, kind), f"{place}.{kind}")


def _port_faults(container: JsonObject, path: str) -> Iterator[Violation]:
    ports = rows(container, "ports")
    if len(ports) > 1 or ("ports" in container and not ports):
        yield Violation(f"{path}.ports", "should contain exactly one port.")
    for index, port in enumerate(ports):
        place = f"{path}.ports[{index}]"
        if text(port, "name") not in _PORT_NAMES:
            yield Violation(f"{place}.name", f"'{text(port, 'name')}' is not valid: must be one of http1, h2c.")
        if not 1 <= number(port, "containerPort", 8080) <= 65_535:
            yield Violation(f"{place}.containerPort", "must be between 1 and 65535, inclusive.")
        if text(port, "protocol") not in ("", "TCP"):
            yield Violation(f"{place}.protocol", "must be TCP.")


def _environment_faults(container: JsonObject, path: str) -> Iterator[Violation]:
    variables = rows(container, "env")
    names = [text(variable, "name") for variable in variables]
    if reserved := sorted(_RESERVED.intersection(names)):
        yield Violation(f"{path}.env", f"The following reserved env names were provided: {', '.join(reserved)}.")
    if twice := sorted(name for name, times in Counter(names).items() if times > 1):
        yield Violation(f"{path}.env", f"Duplicate env names were provided: {', '.join(twice)}.")
    for index, variable in enumerate(variables):
        if not _ENV_NAME.fullmatch(text(variable, "name")):
            yield Violation(f"{path}.env[{index}].name", "is not a valid environment variable name.")
        if "value" in variable and "valueFrom" in variable:
            yield Violation(f"{path}.env[{index}]", "must not have both value and value_from.")


def _resource_faults(container: JsonObject, template: JsonObject, path: str) -> Iterator[Violation]:
    limits = texts(table(container, "resources"), "limits")
    for name in limits.keys() - {"cpu", "memory"}:
        yield Violation(f"{path}.resources.limits[{name}]", "is not supported.")
    cpu, memory = _cpus(limits.get("cpu", "1")), _mebibytes(limits.get("memory", "512Mi"))
    if cpu is None or not (cpu in _WHOLE_CPUS or Decimal("0.08") <= cpu < 1):
        yield Violation(f"{path}.resources.limits.cpu", "must be 1, 2, 4, 6 or 8, or from 0.08 to below 1.")
    elif cpu < 1 and number(table(template, "spec"), "containerConcurrency", 1) != 1:
        yield Violation(f"{path}.resources.limits.cpu", "must not be below 1 with a concurrency above 1.")
    if memory is None or not 128 <= memory <= _MEMORY_MIB_MAX:
        yield Violation(f"{path}.resources.limits.memory", "must be from 128Mi to 32Gi.")
        return
    annotations = texts(table(template, "metadata"), "annotations")
    if annotations.get("run.googleapis.com/execution-environment") == "gen2" and memory < _GEN2_MEMORY_MIB:
        yield Violation(f"{path}.resources.limits.memory", "must be at least 512Mi in the gen2 environment.")
    if cpu is not None and cpu >= 4 and memory < 2048:
        yield Violation(f"{path}.resources.limits.memory", "must be at least 2Gi with 4 CPUs.")


def _mount_faults(container: JsonObject, volumes: frozenset[str], path: str) -> Iterator[Violation]:
    for index, mount in enumerate(rows(container, "volumeMounts")):
        place = f"{path}.volumeMounts[{index}]"
        if text(mount, "name") not in volumes:
            yield Violation(f"{place}.name", f"there is no volume '{text(mount, 'name')}'.")
        if not text(mount, "mountPath").startswith("/"):
            yield Violation(f"{place}.mountPath", "must be an absolute path.")


def _cpus(written: str) -> Decimal | None:
    try:
        return Decimal(written[:-1]) / 1000 if written.endswith("m") else Decimal(written)
    except InvalidOperation:
        return None


def _mebibytes(written: str) -> Decimal | None:
    try:
        return Decimal(written[:-2]) * _MIB[written[-2:]]
    except (InvalidOperation, KeyError):
        return None
