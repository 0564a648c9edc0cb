"""Vertex AI over REST: streamGenerateContent as server-sent events, and countTokens (REST v1)."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp

from gateway.llm.abilities import Abilities
from gateway.llm.authorized_post import AuthorizedPost
from gateway.llm.credentials import Credentials
from gateway.llm.event_stream import Patience
from gateway.llm.streamed import counted, sending, streamed
from gateway.llm.throughput import Throughput, Tier, throughput_headers
from gateway.llm.vertex_reply import Answer, read_count
from gateway.llm.vertex_request import chat_body, count_body
from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.conversation import Chunk, Conversation
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.limits import STREAM_IDLE_S, STREAM_S_MAX
from gateway.terms.models import Model
from gateway.terms.verdict import Refusal

TAIL_S: Final = 2.0
"""What may follow the finish reason is a count of tokens and the end of the body; both come at once."""

_PLACE: Final = re.compile(r"[a-z0-9-]{1,64}")
_PROJECT: Final = re.compile(r"[a-z0-9.:-]{1,128}")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class VertexConfigError(ValueError):
    """The configuration of Vertex AI cannot be used; the message says which value, and what to write instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexConfig:
    """Where Vertex AI is, and how long it may take, in seconds. Raises `VertexConfigError`."""

    name: str = "vertex"
    """As the rest of the configuration calls this upstream."""
    project: str
    location: str
    throughput: Throughput = Throughput.ANY
    tier: Tier = Tier.STANDARD
    endpoint: str = ""
    """Base URL; empty: Google's own for the location."""
    idle_s: float = STREAM_IDLE_S
    total_s: float = STREAM_S_MAX
    tail_s: float = TAIL_S

    def __post_init__(self) -> None:
        if not _PROJECT.fullmatch(self.project):
            raise VertexConfigError(f"project {self.project!r}: write the id of a Google Cloud project")
        if not _PLACE.fullmatch(self.location):
            raise VertexConfigError(f"location {self.location!r}: write a region such as europe-west1, or global")
        if not 0 < self.idle_s <= self.total_s or self.tail_s <= 0:
            raise VertexConfigError("idle_s, total_s and tail_s: write seconds above 0, idle_s at most total_s")
        url = urlsplit(self.endpoint)
        safe = url.scheme == "https" or (url.scheme == "http" and url.hostname in _LOOPBACK)
        if self.endpoint and (not safe or not url.hostname or url.query or url.fragment or "@" in url.netloc):
            # The gateway's own token goes there.
            raise VertexConfigError(f"endpoint {self.endpoint!r}: write https://HOST, or http:// for loopback only")

    @property
    def base(self) -> str:
        """Scheme and host (google-genai's own rule)."""
        if self.endpoint:
            return self.endpoint.rstrip("/")
        if self.location == "global":
            return "https://aiplatform.googleapis.com"
        if self.location in ("us", "eu"):
            return f"https://aiplatform.{self.location}.rep.googleapis.com"
        return f"https://{self.location}-aiplatform.googleapis.com"

    @property
    def place(self) -> str:
        """The resource under which everything is."""
        return f"projects/{quote(self.project, safe='')}/locations/{quote(self.location, safe='')}"

    def url(self, publisher: str, model: str, method: str) -> str:
        """The URL of a method of a publisher's model."""
        return f"{self.base}/v1/{self.place}/publishers/{publisher}/models/{quote(model, safe='')}:{method}"


ABILITIES: Final = Abilities(
    settings=frozenset(
        {"temperature", "top_p", "top_k", "stop_sequences", "seed", "presence_penalty", "frequency_penalty"}
    ),
    guards=True,
    cached_content=True,
    references=frozenset({"gs", "https"}),
)


_EXPIRED: Final = re.compile(r"400 .*\bcached? ?content\b.*\bexpired\b", re.IGNORECASE | re.DOTALL)
"""What Vertex AI says of a cached content after its time, until it forgets it and says 404."""


async def _with_cache(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """The answer to a prompt with a cached beginning: that this one is gone is told as what it is."""
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
    except UpstreamError as error:
        if error.fault is Fault.MISSING or (error.fault is Fault.REFUSED and _EXPIRED.match(error.detail)):
            raise UpstreamError(Fault.CACHE_MISSING, error.detail) from error
        raise


class Vertex:
    """Streams and counts with the gateway's own token. Closing a stream aborts the request.

    The session's connector must allow as many connections as calls may run; one without keep-alive costs a handshake
    for every call.
    """

    def __init__(self, config: VertexConfig, session: aiohttp.ClientSession, credentials: Credentials) -> None:
        self.name = config.name
        self._config = config
        capacity = throughput_headers(config.throughput, config.tier)
        self._post = AuthorizedPost(session, credentials, config.idle_s, headers=capacity)
        self._patience = Patience(idle_s=config.idle_s, total_s=config.total_s, tail_s=config.tail_s)

    def check(self, model: Model, conversation: Conversation) -> Refusal | None:
        """See `Upstream`."""
        return ABILITIES.refusal(model, conversation)

    def stream(self, model: Model, ask: ChatAsk, call_ids: str) -> AsyncGenerator[Chunk, None]:
        """See `Upstream`."""
        url = self._config.url("google", model.upstream_id, "streamGenerateContent") + "?alt=sse"
        sent = sending(url, partial(chat_body, model, ask, self._config.place), ask)
        chunks = streamed(self._post, sent, Answer(call_ids, ask.max_output_tokens), self._patience)
        return _with_cache(chunks) if ask.conversation.cached_content else chunks

    async def count(self, model: Model, ask: CountAsk) -> int | None:
        """See `Upstream`."""
        url = self._config.url("google", model.upstream_id, "countTokens")
        return read_count(await counted(self._post, url, count_body(model, ask.conversation)))
