"""Where a service stands: which revision is ready, where its traffic goes, and what its conditions say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from localcloud.run_admin.revisions import Failure, Revision
from localcloud.run_admin.shapes import Json, JsonObject, text


@dataclass(slots=True, kw_only=True)
class Standing:
    """What became of the generations so far. Traffic stays where it was until a new generation has settled."""

    writes: int = 0
    settled: int = 0
    created: str = ""
    ready: str = ""
    traffic: list[JsonObject] = field(default_factory=list)
    configuration: Failure | None = None
    """Why the newest revision is not ready."""
    routes: Failure | None = None
    """Why traffic could not be sent where it was asked for."""

    def settle(self, generation: int, revisions: Mapping[str, Revision], targets: Sequence[JsonObject]) -> None:
        """The newest revision has become ready or has failed; only then does traffic move."""
        self.settled = generation
        self.configuration = revisions[self.created].failure
        if self.configuration is None:
            self.ready = self.created
        resolved = [_resolved(target, self.ready) for target in targets]
        unserved = [text(target, "revisionName") for target in resolved]
        lame = next((name for name in unserved if not name or revisions[name].failure is not None), None)
        if lame is None:
            self.traffic, self.routes = resolved, None
            return
        named = lame or self.created
        message = f"Revision '{named}' is not ready and cannot serve traffic."
        if (failure := revisions[named].failure) is not None:
            message = f"{message} {failure.message}"
        self.routes = Failure(reason="RevisionFailed", message=message)


def status_of(standing: Standing, generation: int, url: str, tag_url: Callable[[str], str]) -> JsonObject:
    """The status of a service; until its newest generation has settled, nothing is known of it."""
    settled = standing.settled == generation
    status: JsonObject = {
        "observedGeneration": generation,
        "conditions": list[Json](_conditions(standing, settled=settled)),
        "latestCreatedRevisionName": standing.created,
        "traffic": [_with_url(target, tag_url) for target in standing.traffic],
        "url": url,
        "address": {"url": url},
    }
    if standing.ready:
        status["latestReadyRevisionName"] = standing.ready
    return status


def _conditions(standing: Standing, *, settled: bool) -> list[JsonObject]:
    if not settled:
        return [{"type": name, "status": "Unknown"} for name in ("Ready", "ConfigurationsReady", "RoutesReady")]
    configuration = standing.configuration
    if configuration is not None:
        named = f"Revision '{standing.created}' is not ready and cannot serve traffic. {configuration.message}"
        configuration = Failure(reason=configuration.reason, message=named)
    return [
        _condition("Ready", configuration or standing.routes),
        _condition("ConfigurationsReady", configuration),
        _condition("RoutesReady", standing.routes),
    ]


def _condition(name: str, failure: Failure | None) -> JsonObject:
    if failure is None:
        return {"type": name, "status": "True"}
    return {"type": name, "status": "False", "reason": failure.reason, "message": failure.message}


def _resolved(target: JsonObject, ready: str) -> JsonObject:
    name = ready if target.get("latestRevision") is True else text(target, "revisionName")
    return {**target, "revisionName": name}


def _with_url(target: JsonObject, tag_url: Callable[[str], str]) -> JsonObject:
    """A target with a tag has an address of its own."""
    tag = text(target, "tag")
    return {**target, "url": tag_url(tag)} if tag else target
