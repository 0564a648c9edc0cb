"""Claude on Vertex AI: Anthropic's Messages API behind streamRawPredict, with the gateway's own Google token."""

import re
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

import aiohttp

from gateway.llm.abilities import Abilities
from gateway.llm.authorized_post import AuthorizedPost
from gateway.llm.claude_reply import Answer, read_count
from gateway.llm.claude_request import chat_body, count_body, thinks
from gateway.llm.credentials import Credentials
from gateway.llm.event_stream import Patience
from gateway.llm.history import open_turn
from gateway.llm.signatures import claudes, is_text
from gateway.llm.streamed import counted, sending, streamed
from gateway.llm.thinking import BUDGETS
from gateway.llm.vertex import VertexConfig
from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.conversation import Choosing, Chunk, Conversation, Text, Thinking, Thought, Turn
from gateway.terms.models import Model, ThinkingForm
from gateway.terms.verdict import Refusal, malformed

ABILITIES: Final = Abilities(
    settings=frozenset({"temperature", "top_p", "top_k", "stop_sequences"}),
    media=frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "application/pdf"}),
    function_name=re.compile(r"[a-zA-Z0-9_-]{1,128}"),
    temperature_max=1,
)
"""On Vertex AI it reads no file by reference."""


class Claude:
    """Streams and counts with the gateway's own token; see `gateway.llm.vertex.Vertex` for the session."""

    def __init__(self, config: VertexConfig, session: aiohttp.ClientSession, credentials: Credentials) -> None:
        self.name = config.name
        self._config = config
        self._post = AuthorizedPost(session, credentials, config.idle_s)
        self._patience = Patience(idle_s=config.idle_s, total_s=config.total_s, tail_s=config.tail_s)

    def check(self, model: Model, conversation: Conversation) -> Refusal | None:
        """See `Upstream`."""
        return (
            ABILITIES.refusal(model, conversation)
            or _thinking_refusal(model, conversation)
            or _open_turn_refusal(model, conversation)
            or _signature_refusal(conversation)
        )

    def stream(self, model: Model, ask: ChatAsk, call_ids: str) -> AsyncGenerator[Chunk, None]:
        """See `Upstream`."""
        url = self._config.url("anthropic", model.upstream_id, "streamRawPredict")
        sent = sending(url, partial(chat_body, model, ask), ask)
        return streamed(self._post, sent, Answer(call_ids, ask.max_output_tokens), self._patience)

    async def count(self, model: Model, ask: CountAsk) -> int | None:
        """See `Upstream`."""
        url = self._config.url("anthropic", "count-tokens", "rawPredict")
        return read_count(await counted(self._post, url, count_body(model, ask.conversation)))


def _signature_refusal(conversation: Conversation) -> Refusal | None:
    """Why a thought's signature cannot have been Claude's: those are text. What a caller sends back may be anything."""
    for place, turn in enumerate(conversation.turns):
        for number, part in enumerate(turn.parts):
            if isinstance(part, Thought) and claudes(part.signature) and not is_text(part.signature):
                told = "is none of Claude's: send the bytes back as they came, or leave the thought out"
                return malformed(f"contents[{place}].parts[{number}].signature", told)
    return None


def _open_turn_refusal(model: Model, conversation: Conversation) -> Refusal | None:
    """Why the calls that are answered now cannot be gone on from (Anthropic, "Extended thinking" with tool use).

    Calls and what brings their results are one turn to Anthropic, also over several of them, and where thinking is told
    in tokens, that turn must begin with what Claude thought. In a route, who made the calls may be asked instead.
    """
    if model.thinking is not ThinkingForm.BUDGET or not thinks(model, conversation.generation):
        return None
    place = open_turn(conversation.turns)
    if place is None or _begins_with_claudes_thought(conversation.turns[place]):
        return None
    told = (
        f"{model.name} thinks, and goes on from calls only if their turn begins with its own thoughts: send back those"
        " that came with the calls, set thinking_level to MINIMAL, or ask the model that made the calls"
    )
    return malformed(f"contents[{place}]", told)


def _begins_with_claudes_thought(turn: Turn) -> bool:
    """Whether its first block is one (only the last piece of a thought is signed, and empty text is no block)."""
    for part in turn.parts:
        if isinstance(part, Thought):
            if claudes(part.signature):
                return True
        elif not isinstance(part, Text) or part.text:
            return False
    return False


def _thinking_refusal(model: Model, conversation: Conversation) -> Refusal | None:
    """What Claude cannot do while it thinks (Anthropic, "Extended thinking")."""
    generation = conversation.generation
    if not thinks(model, generation):
        return None
    if conversation.functions and conversation.choosing is Choosing.ANY:
        return malformed("settings.thinking_level", f"{model.name} cannot think and be made to call a function")
    if generation.temperature not in (None, 1) or generation.top_k is not None:
        return malformed("settings.thinking_level", f"{model.name} takes no temperature and no top_k while it thinks")
    least = BUDGETS[Thinking.LOW]
    if model.thinking is ThinkingForm.BUDGET and (generation.max_output_tokens or model.max_output_tokens) <= least:
        return malformed("settings.max_output_tokens", f"{model.name} needs more than {least} to think")
    return None
