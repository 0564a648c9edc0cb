"""An OpenAI-compatible server: chat/completions as server-sent events, with a key of its own or none."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.llm.abilities import Abilities
from gateway.llm.authorized_post import AuthorizedPost
from gateway.llm.compatible_error import read_compatible_error
from gateway.llm.compatible_reply import Answer, read_count
from gateway.llm.compatible_request import Dialect, chat_body, count_body
from gateway.llm.credentials import Credentials
from gateway.llm.event_stream import Patience
from gateway.llm.streamed import counted, sending, streamed
from gateway.llm.vertex import TAIL_S
from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.conversation import Choosing, Chunk, Conversation
from gateway.terms.limits import STREAM_IDLE_S, STREAM_S_MAX
from gateway.terms.models import Model
from gateway.terms.verdict import Refusal

_SHARED: Final = frozenset({"temperature", "top_p", "stop_sequences", "seed", "presence_penalty", "frequency_penalty"})
_IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_ALL: Final = frozenset(Choosing)

ABILITIES: Final = {
    Dialect.OPENAI: Abilities(settings=_SHARED, media=_IMAGES, references=frozenset({"https"}), stop_sequences_max=4),
    Dialect.VLLM: Abilities(settings=_SHARED | {"top_k"}, media=_IMAGES, references=frozenset({"https"})),
    Dialect.OLLAMA: Abilities(settings=_SHARED, media=_IMAGES, choosing=_ALL - {Choosing.ANY}),
    Dialect.GARDEN: Abilities(settings=_SHARED, media=_IMAGES, references=frozenset({"gs", "https"})),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompatibleConfig:
    """Where the server is, which dialect it speaks, and how long it may take, in seconds."""

    name: str
    url: str
    """What comes before `/chat/completions`; most servers have `/v1` at its end."""
    dialect: Dialect
    idle_s: float = STREAM_IDLE_S
    total_s: float = STREAM_S_MAX
    tail_s: float = TAIL_S

    @property
    def chat_url(self) -> str:
        """Where answers are."""
        return f"{self.url.rstrip('/')}/chat/completions"

    @property
    def tokenize_url(self) -> str:
        """Where vLLM counts: beside the wire, not in it."""
        origin = urlsplit(self.url)
        return f"{origin.scheme}://{origin.netloc}{origin.path.rstrip('/').removesuffix('/v1')}/tokenize"


class Compatible:
    """Streams with the upstream's own credentials, which go to its origin alone: no redirect is followed."""

    def __init__(
        self, config: CompatibleConfig, session: aiohttp.ClientSession, credentials: Credentials | None
    ) -> None:
        """`credentials`: None for a server that asks for none."""
        self.name = config.name
        self._config = config
        self._post = AuthorizedPost(session, credentials, config.idle_s, read_compatible_error)
        self._patience = Patience(idle_s=config.idle_s, total_s=config.total_s, tail_s=config.tail_s)

    def check(self, model: Model, conversation: Conversation) -> Refusal | None:
        """See `Upstream`."""
        return ABILITIES[self._config.dialect].refusal(model, conversation)

    def stream(self, model: Model, ask: ChatAsk, call_ids: str) -> AsyncGenerator[Chunk, None]:
        """See `Upstream`."""
        sent = sending(self._config.chat_url, partial(chat_body, model, ask, self._config.dialect), ask)
        return streamed(self._post, sent, Answer(call_ids, ask), self._patience)

    async def count(self, model: Model, ask: CountAsk) -> int | None:
        """See `Upstream`: only vLLM counts."""
        if self._config.dialect is not Dialect.VLLM:
            return None
        return read_count(await counted(self._post, self._config.tokenize_url, count_body(model, ask.conversation)))
