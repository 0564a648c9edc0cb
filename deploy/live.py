"""What gcloud says of a service that runs: where its traffic goes, what it runs as, who may call it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from deploy.faults import CommandError
from deploy.place import CANDIDATE, SERVICE, Place
from deploy.shell import Shell

SERVING: Final = "REVISION-THAT-SERVES"
NEWEST: Final = "NEWEST-REVISION"
"""What a dry run calls revisions that it does not ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A service as it is. `traffic` is the per cent of calls by revision; those without calls are left out."""

    url: str
    candidate_url: str
    newest: str
    """The revision that became ready last."""
    traffic: Mapping[str, int]

    @classmethod
    def of(cls, service: object) -> Self:
        """From the JSON of `gcloud run services describe`."""
        status = _object(_object(service).get("status"))
        targets = [_object(target) for target in _list(status.get("traffic"))]
        traffic: dict[str, int] = {}
        for target in targets:
            percent = target.get("percent")
            if isinstance(percent, int) and percent > 0:
                name = _text(target, "revisionName")
                traffic[name] = traffic.get(name, 0) + percent
        urls = [_text(target, "url") for target in targets if target.get("tag") == CANDIDATE]
        return cls(
            url=_text(status, "url"),
            candidate_url=urls[0] if urls else "",
            newest=_text(status, "latestReadyRevisionName"),
            traffic=traffic,
        )


def live(shell: Shell, place: Place) -> Live | None:
    """The gateway's service as it is; None where there is none yet. Raises CommandError."""
    host = f"{SERVICE}-PROJECT_NUMBER.{place.region}.run.app"
    dry = {
        "status": {
            "url": f"https://{host}",
            "latestReadyRevisionName": NEWEST,
            "traffic": [
                {"revisionName": SERVING, "percent": 100},
                {"revisionName": NEWEST, "tag": CANDIDATE, "url": f"https://{CANDIDATE}---{host}"},
            ],
        }
    }
    try:
        return Live.of(shell.ask(place.run("services", "describe", SERVICE), dry))
    except CommandError as error:
        if error.not_found:
            return None
        raise


def to_revisions(place: Place, traffic: Mapping[str, int]) -> list[str]:
    """The command that sends so many per cent of calls to each revision."""
    shares = ",".join(f"{name}={percent}" for name, percent in traffic.items())
    return place.run("services", "update-traffic", SERVICE, f"--to-revisions={shares}", "--format=none")


def ready_revisions(shell: Shell, place: Place) -> list[str]:
    """The names of the gateway's revisions that are ready, the newest first."""
    dry = [
        {"metadata": {"name": name, "creationTimestamp": age}, "status": {"conditions": [_READY]}}
        for name, age in ((NEWEST, "3"), (SERVING, "2"), ("REVISION-BEFORE", "1"))
    ]
    found = [_object(item) for item in _list(shell.ask(place.run("revisions", "list", f"--service={SERVICE}"), dry))]
    ready = [item for item in found if _is_ready(item)]
    ready.sort(key=lambda item: _text(_object(item.get("metadata")), "creationTimestamp"), reverse=True)
    return [_text(_object(item.get("metadata")), "name") for item in ready]


_READY: Final[Mapping[str, object]] = {"type": "Ready", "status": "True"}


def _is_ready(revision: Mapping[str, object]) -> bool:
    conditions = [_object(one) for one in _list(_object(revision.get("status")).get("conditions"))]
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _text(holder: Mapping[str, object], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""
