"""`[vertex]` and `[[upstreams]]`: where models are served; and what a model is given beside text."""

from collections.abc import Iterator
from typing import Final, Literal

from gateway.llm.claude_request import ENFORCED as CLAUDE_ENFORCES
from gateway.llm.compatible_request import ENFORCED as COMPATIBLE_ENFORCES
from gateway.llm.compatible_request import Dialect
from gateway.llm.vertex_request import ENFORCED as VERTEX_ENFORCES
from gateway.settings import forms
from gateway.settings.forms import origin_faults, range_faults
from gateway.settings.table import Table
from gateway.terms.limits import STREAM_IDLE_S, STREAM_S_MAX

OWN: Final = ("vertex", "claude")
"""The upstreams that `[vertex]` stands for: Gemini and Claude at its place, with its credentials."""

FILE_TOKENS_MAX: Final = 10_000_000


class VertexTable(Table, frozen=True, kw_only=True):
    """`[vertex]`: where the models are, as whom the gateway asks them, and how long it waits for them."""

    project: str
    location: str = "global"
    endpoint: str = ""
    credentials: Literal["metadata", "application-default"] = "metadata"
    idle_s: int | None = None
    total_s: int | None = None

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.PROJECT.faults("project", self.project)
        yield from forms.LOCATION.faults("location", self.location)
        if self.endpoint:
            yield from origin_faults("endpoint", self.endpoint)
        yield from wait_faults(self)


class UpstreamTable(Table, frozen=True, kw_only=True):
    """`[[upstreams]]`: one place that serves models. An empty field is as in `[vertex]`, or not needed."""

    name: str
    kind: Literal["vertex", "claude", "openai"]
    project: str = ""
    location: str = ""
    endpoint: str = ""
    url: str = ""
    dialect: Literal["openai", "vllm", "ollama", "garden"] = "openai"
    api_key: str = ""
    idle_s: int | None = None
    total_s: int | None = None

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.NAME.faults("name", self.name)
        if self.name in OWN:
            yield f"name: {self.name} is what [vertex] serves: write another name"
        if self.project:
            yield from forms.PROJECT.faults("project", self.project)
        if self.location:
            yield from forms.LOCATION.faults("location", self.location)
        if self.endpoint:
            yield from origin_faults("endpoint", self.endpoint)
        if self.url:
            yield from origin_faults("url", self.url, path=True)
        yield from wait_faults(self)
        yield from self._other_kinds()

    def _other_kinds(self) -> Iterator[str]:
        """Fields that say nothing for this kind: what is written is meant."""
        if self.googles:
            useless = ("url", "api_key") if self.kind == "openai" else ("url", "api_key", "dialect")
        else:
            useless = ("project", "location", "endpoint")
            if not self.url:
                yield 'url: is missing: write where it is, such as "https://models.example.com/v1"'
        for field in useless:
            if getattr(self, field) != ("openai" if field == "dialect" else ""):
                yield f"{field}: says nothing here: leave it out"

    @property
    def googles(self) -> bool:
        """Whether it is a part of Vertex AI, and so asked with the gateway's Google token."""
        return self.kind != "openai" or self.dialect == "garden"

    @property
    def enforces(self) -> frozenset[str]:
        """The constraints that its wire has words for."""
        return enforced(self.kind, self.dialect)


class MediaTable(Table, frozen=True, kw_only=True):
    """`[[models.media]]`: a type of file that the model reads, and the most tokens that one of them counts."""

    mime_type: str
    tokens_max: int

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.MEDIA.faults("mime_type", self.mime_type)
        yield from range_faults("tokens_max", self.tokens_max, 1, FILE_TOKENS_MAX)


class CacheTable(Table, frozen=True, kw_only=True):
    """`[[models.caches]]`, `[[models.targets.caches]]`: a beginning of prompts that is kept in Vertex AI's cache."""

    name: str
    id: str
    tokens_max: int

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.NAME.faults("name", self.name)
        yield from forms.CACHE_ID.faults("id", self.id)
        yield from range_faults("tokens_max", self.tokens_max, 1, FILE_TOKENS_MAX)


class SafetyTable(Table, frozen=True, kw_only=True):
    """`[[models.safety]]`: from which likelihood of harm on Gemini blocks; callers may be stricter."""

    category: Literal["hate_speech", "dangerous_content", "harassment", "sexually_explicit"]
    threshold: Literal["block_low_and_above", "block_medium_and_above", "block_only_high", "block_none", "off"]


def wait_faults(table: VertexTable | UpstreamTable) -> Iterator[str]:
    """Times that this table alone shows to be wrong."""
    total_s = STREAM_S_MAX if table.total_s is None else table.total_s
    yield from range_faults("total_s", total_s, 1, STREAM_S_MAX)
    if table.idle_s is not None:
        yield from range_faults("idle_s", table.idle_s, 1, min(max(total_s, 1), STREAM_S_MAX))


def waits_s(table: UpstreamTable, own: VertexTable | None) -> tuple[int, int]:
    """How long an upstream is waited for, in seconds: for an event, and for a whole stream.

    What a part of Vertex AI does not say is as in `[vertex]`; what nobody says is as long as a thinking model may be
    silent, or the whole stream if that is less, and as long as a stream may last.
    """
    vertex = own if table.googles else None
    idle_s, total_s = (None, None) if vertex is None else (vertex.idle_s, vertex.total_s)
    total_s = table.total_s or total_s or STREAM_S_MAX
    return table.idle_s or min(idle_s or STREAM_IDLE_S, total_s), total_s


def enforced(kind: str, dialect: str = "openai") -> frozenset[str]:
    """The constraints that the wire of a kind of upstream has words for."""
    if kind == "openai":
        return COMPATIBLE_ENFORCES[Dialect(dialect)]
    return CLAUDE_ENFORCES if kind == "claude" else VERTEX_ENFORCES
