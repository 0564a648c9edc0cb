"""The model upstreams as the settings name them, each built once for every place and capacity that models ask for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import aiohttp

from gateway.llm.credentials import Credentials, FixedKey
from gateway.llm.throughput import Throughput, Tier
from gateway.llm.upstream import Upstream
from gateway.llm.vertex import Vertex, VertexConfig
from gateway.settings.model_tables import ModelTable, TargetTable
from gateway.settings.reading import Settings
from gateway.settings.serving import caches_at, known_upstreams, places
from gateway.settings.upstream_tables import UpstreamTable, waits_s
from gateway.terms.inputs import CachedContent, Guard, Harm, Inputs
from gateway.terms.models import ThinkingForm

_THINKING: Final = {"vertex": ThinkingForm.LEVEL, "claude": ThinkingForm.LEVEL, "openai": ThinkingForm.NONE}
"""Where the file says nothing: a server of somebody's own may know no word for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a model is asked: an upstream of the settings, and what a target says of it."""

    upstream: str
    location: str = ""
    throughput: str = "any"
    tier: str = "standard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An upstream and what its wire can do."""

    upstream: Upstream
    enforces: frozenset[str]
    thinking: ThinkingForm


UpstreamAt = Callable[[Place], Served]


def upstreams(settings: Settings, session: aiohttp.ClientSession, token: Credentials | None) -> UpstreamAt:
    """What serves at a place. `token` is the gateway's own for Google; the settings have one where it is needed."""
    known = known_upstreams(settings.file.upstreams)

    @cache
    def upstream_at(place: Place) -> Served:
        table = known[place.upstream]
        if table.kind == "openai":
            upstream = _compatible(settings, table, session, token)
        else:
            upstream = _googles(settings, table, place, session, _needed(token))
        return Served(upstream=upstream, enforces=table.enforces, thinking=_THINKING[table.kind])

    return upstream_at


def inputs_of(table: ModelTable) -> Inputs:
    """What a model may be given beside text; a cached beginning as the longest that one of its places has."""
    cached: dict[str, CachedContent] = {}
    for place in places(table):
        for name, one in cached_at(place, table).items():
            if name not in cached or one.tokens_max > cached[name].tokens_max:
                cached[name] = one
    return Inputs(
        media={media.mime_type: media.tokens_max for media in table.media},
        file_prefixes=tuple(table.file_prefixes),
        cached=cached,
        guards={Harm(setting.category): Guard[setting.threshold.upper()] for setting in table.safety},
    )


def cached_at(place: TargetTable, table: ModelTable) -> dict[str, CachedContent]:
    """The cached beginnings that one place of a model has, by the names that callers use."""
    tables = caches_at(place, table)
    return {name: CachedContent(upstream_id=one.id, tokens_max=one.tokens_max) for name, one in tables.items()}


def _googles(
    settings: Settings, table: UpstreamTable, place: Place, session: aiohttp.ClientSession, token: Credentials
) -> Upstream:
    config = _vertex_config(settings, table, place)
    if table.kind == "vertex":
        return Vertex(config, session, token)
    # Only where it is configured.
    from gateway.llm.claude import Claude  # noqa: PLC0415 - lazy, see above

    return Claude(config, session, token)


def _vertex_config(settings: Settings, table: UpstreamTable, place: Place) -> VertexConfig:
    own = settings.file.vertex
    idle_s, total_s = waits_s(table, own)
    return VertexConfig(
        name=table.name,
        project=table.project or (own.project if own is not None else ""),
        location=place.location or table.location or (own.location if own is not None else ""),
        endpoint=table.endpoint or (own.endpoint if own is not None else ""),
        throughput=Throughput(place.throughput),
        tier=Tier(place.tier),
        idle_s=idle_s,
        total_s=total_s,
    )


def _compatible(
    settings: Settings, table: UpstreamTable, session: aiohttp.ClientSession, token: Credentials | None
) -> Upstream:
    # Only where it is configured.
    from gateway.llm.compatible import Compatible, CompatibleConfig  # noqa: PLC0415 - lazy, see above
    from gateway.llm.compatible_request import Dialect  # noqa: PLC0415 - lazy, see above

    credentials: Credentials | None = None
    url = table.url
    if table.googles:
        credentials = _needed(token)
        google = _vertex_config(settings, table, Place(upstream=table.name))
        url = f"{google.base}/v1/{google.place}/endpoints/openapi"
    elif table.api_key:
        credentials = FixedKey(settings.secrets[table.api_key])
    idle_s, total_s = waits_s(table, settings.file.vertex)
    dialect = Dialect(table.dialect)
    config = CompatibleConfig(name=table.name, url=url, dialect=dialect, idle_s=idle_s, total_s=total_s)
    return Compatible(config, session, credentials)


def _needed(token: Credentials | None) -> Credentials:
    if token is None:
        raise TypeError("settings that need a Google token without [vertex] must have been refused before")
    return token
