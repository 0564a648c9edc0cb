"""Where the configured models are served: what `[[models]]`, `[vertex]` and `[[upstreams]]` say against each other."""

from collections.abc import Iterator, Mapping, Sequence

from gateway.settings.forms import shown
from gateway.settings.model_tables import ModelTable, TargetTable
from gateway.settings.upstream_tables import CacheTable, UpstreamTable, VertexTable, waits_s


def known_upstreams(upstreams: Sequence[UpstreamTable]) -> Mapping[str, UpstreamTable]:
    """All upstreams by name: the two of `[vertex]`, and those that have a table of their own."""
    own = (UpstreamTable(name="vertex", kind="vertex"), UpstreamTable(name="claude", kind="claude"))
    return {one.name: one for one in (*own, *upstreams)}


def places(model: ModelTable) -> list[TargetTable]:
    """Where a model is served; one without targets is served where it says itself, under its own name."""
    return model.targets or [TargetTable(name=model.name)]


def caches_at(place: TargetTable, model: ModelTable) -> dict[str, CacheTable]:
    """The cached beginnings of a place by name: its own, and the model's where it serves that very model there."""
    shared = model.caches if _is_models_own(place, model) else []
    return {cache.name: cache for cache in (*shared, *place.caches)}


def _is_models_own(place: TargetTable, model: ModelTable) -> bool:
    """Whether upstream, model and location are those of the model's own table: a cache belongs to all three."""
    same = place.upstream in ("", model.upstream) and place.upstream_id in ("", model.upstream_id)
    return same and not place.location


def serving_faults(
    models: Sequence[ModelTable], upstreams: Sequence[UpstreamTable], vertex: VertexTable | None
) -> Iterator[str]:
    """What is wrong between the tables."""
    known = known_upstreams(upstreams)
    used: list[UpstreamTable] = []
    for model in models:
        served = [(place, known.get(place.upstream or model.upstream)) for place in places(model)]
        used += [upstream for _, upstream in served if upstream is not None]
        for place, upstream in served:
            where = f"models.{model.name}." + (f"targets.{place.name}." if model.targets else "")
            if upstream is None:
                name = shown(place.upstream or model.upstream)
                yield f"{where}upstream: {name} is not known: write one of {', '.join(sorted(known))}"
            else:
                yield from _place_faults(where, place, upstream)
        yield from _cache_faults(model, [(place, upstream) for place, upstream in served if upstream is not None])
        yield from _constraint_faults(model, [upstream for _, upstream in served if upstream is not None])
    for upstream in upstreams:
        idle_s, total_s = waits_s(upstream, vertex)
        if idle_s > total_s and upstream.total_s is None:  # both in one table are told of by that table
            where = f"upstreams.{upstream.name}.idle_s"
            yield f"{where}: {idle_s} is more than the {total_s} of [vertex] total_s: write less, or a total_s"
    if vertex is None and any(upstream.googles for upstream in used):
        yield "vertex: is missing: write [vertex], because models are configured that it serves"


def _place_faults(where: str, place: TargetTable, upstream: UpstreamTable) -> Iterator[str]:
    if place.location and upstream.kind == "openai":
        yield f"{where}location: says nothing for {upstream.name}: write another upstream for another place"
    if upstream.kind != "vertex" and (place.throughput, place.tier) != ("any", "standard"):
        yield f"{where}throughput: only Gemini's upstreams have throughput and tier: leave both out"


def _cache_faults(model: ModelTable, served: list[tuple[TargetTable, UpstreamTable]]) -> Iterator[str]:
    """A cached beginning that no place has could only be refused."""
    for place, upstream in served:
        if place.caches and upstream.kind != "vertex":
            yield f"models.{model.name}.targets.{place.name}.caches: only Gemini's upstreams keep some: leave them out"
    own = [place for place, upstream in served if upstream.kind == "vertex" and _is_models_own(place, model)]
    if model.caches and served and not own:
        yield (
            f"models.{model.name}.caches: belong to the model's own upstream, upstream_id and location, and no Gemini "
            "is served there: write them as [[models.targets.caches]] behind the target that has them"
        )


def _constraint_faults(model: ModelTable, served: list[UpstreamTable]) -> Iterator[str]:
    """A constraint that no place can enforce would never be: it can only be verified."""
    able = frozenset[str]().union(*(upstream.enforces for upstream in served))
    for constraint in model.constraints:
        if served and constraint not in able:
            yield (
                f"models.{model.name}.constraints: no upstream of it enforces {constraint}: write it into "
                "verified_constraints, to have answers verified at their end"
            )
