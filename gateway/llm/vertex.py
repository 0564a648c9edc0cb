"""Vertex AI over REST: streamGenerateContent as server-sent events, and countTokens (REST v1)."""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp

from gateway.llm.authorized_post import AuthorizedPost
from gateway.llm.bodies import BodyTooLargeError, whole_body
from gateway.llm.constraint import constraint_refusal
from gateway.llm.credentials import Credentials
from gateway.llm.event_stream import EventStream, Patience
from gateway.llm.sse import EVENT_BYTES_MAX
from gateway.llm.vertex_reply import Answer, read_count
from gateway.llm.vertex_request import chat_body, count_body
from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.conversation import Chunk, Conversation
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.models import Model
from gateway.terms.verdict import Refusal

COUNT_BYTES_MAX: Final = 64 * 1024
COUNT_S: Final = 30.0
IDLE_S: Final = 120.0
"""No event for so long ends the stream: thinking models may be silent for a minute."""

TOTAL_S: Final = 3_300.0
"""A stream must end, and be settled, before its operation counts as lost (`CHAT_LEASE_MS`)."""

TAIL_S: Final = 2.0
"""What may follow the finish reason is a count of tokens and the end of the body; both come at once."""

BYTES_PER_TOKEN: Final = 4 * 1024
"""One event with one token and all that Google puts around it."""

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
    endpoint: str = ""
    """Base URL; empty: Google's own for the location."""
    idle_s: float = IDLE_S
    total_s: float = TOTAL_S
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

    def url(self, model: str, method: str) -> str:
        """The URL of a method of a model."""
        parts = (self.project, self.location, model)
        project, location, name = (quote(part, safe="") for part in parts)
        return f"{self.base}/v1/projects/{project}/locations/{location}/publishers/google/models/{name}:{method}"


class Vertex:
    """Streams and counts with the gateway's own token. Closing a stream aborts the request.

    The session's connector must allow as many connections as calls may run; one without keep-alive costs a handshake
    for every call.
    """

    def __init__(self, config: VertexConfig, session: aiohttp.ClientSession, credentials: Credentials) -> None:
        self.name = config.name
        self._config = config
        self._post = AuthorizedPost(session, credentials, config.idle_s)
        self._patience = Patience(idle_s=config.idle_s, total_s=config.total_s, tail_s=config.tail_s)

    def check(self, model: Model, conversation: Conversation) -> Refusal | None:
        """See `Upstream`."""
        return constraint_refusal(model, conversation.constraint)

    async def stream(self, model: Model, ask: ChatAsk, call_ids: str) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes; ends with exactly one `Ending` or raises `UpstreamError`.

        The upstream is asked for at most `ask.max_output_tokens`; one that goes on regardless is ended by what so
        many tokens can be at most, in characters and in bytes.
        """
        url = self._config.url(model.upstream_id, "streamGenerateContent") + "?alt=sse"
        answer = Answer(call_ids, ask.max_output_tokens)
        bytes_max = EVENT_BYTES_MAX + ask.max_output_tokens * BYTES_PER_TOKEN
        async with self._post.answered(url, chat_body(ask)) as reply:
            _refuse_other_forms(reply)
            with EventStream(reply, self._patience, bytes_max) as stream:
                while (events := await stream.more(whole=answer.ended)) is not None:
                    for data in events:
                        for chunk in answer.chunks(data):
                            yield chunk
        if not answer.ended:
            where = "inside an event" if stream.pending else "without a finish reason"
            raise UpstreamError(Fault.TRUNCATED, f"the stream ended {where}")
        yield answer.end()

    async def count(self, model: Model, ask: CountAsk) -> int:
        """Tokens of a prompt; raises `UpstreamError`."""
        url = self._config.url(model.upstream_id, "countTokens")
        try:
            async with asyncio.timeout(COUNT_S), self._post.answered(url, count_body(ask.conversation)) as reply:
                return read_count(await whole_body(reply, COUNT_BYTES_MAX))
        except TimeoutError as error:
            raise UpstreamError(Fault.STALLED, f"no count within {COUNT_S:g} s") from error
        except aiohttp.ClientError as error:
            raise UpstreamError(Fault.TRUNCATED, repr(error)) from error
        except BodyTooLargeError as error:
            raise UpstreamError(Fault.TOO_LARGE, f"count: {error}") from None


def _refuse_other_forms(reply: aiohttp.ClientResponse) -> None:
    coding = reply.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        raise UpstreamError(Fault.MALFORMED, f"a body coded as {coding[:64]!r}, which nobody asked for")
    if reply.content_type != "text/event-stream":
        raise UpstreamError(Fault.MALFORMED, f"a body of type {reply.content_type[:64]!r} instead of events")
