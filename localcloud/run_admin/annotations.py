"""The annotations that Cloud Run knows, on which kind of resource, and what their values may be (study, 1.4)."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from localcloud.run_admin.errors import Violation

Kind = Literal["Service", "Revision"]
Rule = Callable[[str], str]
"""What is wrong with a value; empty when nothing is."""


def _any(_value: str) -> str:
    return ""


def _flag(value: str) -> str:
    return "" if value in ("true", "false") else "must be 'true' or 'false'."


def _count(least: int) -> Rule:
    def rule(value: str) -> str:
        good = value.isascii() and value.isdigit() and len(value) <= 6 and int(value) >= least
        return "" if good else f"must be an integer of at least {least}."

    return rule


def _one_of(*names: str) -> Rule:
    return lambda value: "" if value in names else f"must be one of {', '.join(names)}."


def _json_list(value: str) -> str:
    try:
        return "" if isinstance(json.loads(value), list) else "must be a JSON list."
    except ValueError:
        return "must be a JSON list."


def _json_object(value: str) -> str:
    try:
        return "" if isinstance(json.loads(value), dict) else "must be a JSON object."
    except ValueError:
        return "must be a JSON object."


SERVICE_MIN: Final = "run.googleapis.com/minScale"
SERVICE_MAX: Final = "run.googleapis.com/maxScale"
REVISION_MIN: Final = "autoscaling.knative.dev/minScale"
REVISION_MAX: Final = "autoscaling.knative.dev/maxScale"

_CLIENT: Final[dict[str, Rule]] = {
    "run.googleapis.com/client-name": _any,
    "run.googleapis.com/client-version": _any,
}
_SERVICE: Final[dict[str, Rule]] = _CLIENT | {
    SERVICE_MIN: _count(0),
    SERVICE_MAX: _count(1),
    "run.googleapis.com/scalingMode": _one_of("automatic", "manual"),
    "run.googleapis.com/manualInstanceCount": _count(0),
    "run.googleapis.com/ingress": _one_of("all", "internal", "internal-and-cloud-load-balancing"),
    "run.googleapis.com/ingress-status": _any,
    "run.googleapis.com/custom-audiences": _json_list,
    "run.googleapis.com/default-url-disabled": _flag,
    "run.googleapis.com/invoker-iam-disabled": _flag,
    "run.googleapis.com/launch-stage": _one_of("ALPHA", "BETA", "GA"),
    "run.googleapis.com/description": _any,
    "run.googleapis.com/urls": _json_list,
    "serving.knative.dev/creator": _any,
    "serving.knative.dev/lastModifier": _any,
}
_REVISION: Final[dict[str, Rule]] = _CLIENT | {
    REVISION_MIN: _count(0),
    REVISION_MAX: _count(1),
    "run.googleapis.com/cpu-throttling": _flag,
    "run.googleapis.com/startup-cpu-boost": _flag,
    "run.googleapis.com/execution-environment": _one_of("gen1", "gen2"),
    "run.googleapis.com/sessionAffinity": _flag,
    "run.googleapis.com/health-check-disabled": _flag,
    "run.googleapis.com/network-interfaces": _json_list,
    "run.googleapis.com/vpc-access-connector": _any,
    "run.googleapis.com/vpc-access-egress": _one_of("private-ranges-only", "all-traffic"),
    "run.googleapis.com/cloudsql-instances": _any,
    "run.googleapis.com/container-dependencies": _json_object,
    "run.googleapis.com/encryption-key": _any,
    "run.googleapis.com/secrets": _any,
}
_KNOWN: Final[dict[Kind, dict[str, Rule]]] = {"Service": _SERVICE, "Revision": _REVISION}
_OWNED: Final = (".googleapis.com", ".knative.dev")


def annotation_faults(kind: Kind, annotations: Mapping[str, str], path: str) -> Iterator[Violation]:
    """What Cloud Run would refuse. Keys outside of its own namespaces are the user's and pass."""
    known = _KNOWN[kind]
    for key, value in annotations.items():
        if not key.partition("/")[0].endswith(_OWNED):
            continue
        if key not in known:
            elsewhere = [other for other, keys in _KNOWN.items() if key in keys]
            where = f" Supported kinds are: {', '.join(elsewhere)}" if elsewhere else ""
            yield Violation(path, f"Annotation '{key}' is not supported on resources of kind '{kind}'.{where}")
        elif fault := known[key](value):
            yield Violation(f"{path}[{key}]", f"'{value}' is not valid: it {fault}")


def scale_faults(annotations: Mapping[str, str], low: str, high: str, path: str) -> Iterator[Violation]:
    """The least number of instances must not be above the greatest."""
    least, most = annotations.get(low, ""), annotations.get(high, "")
    if least.isdigit() and most.isdigit() and int(least) > int(most):
        yield Violation(f"{path}[{low}]", f"{low} ({least}) must not be greater than {high} ({most}).")
