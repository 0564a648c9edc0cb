"""What every model upstream is to the gateway: a name, a check before anything is spent, a stream, and a count."""

from collections.abc import AsyncGenerator
from typing import Protocol

from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.conversation import Chunk, Conversation
from gateway.terms.models import Model
from gateway.terms.verdict import Refusal


class Upstream(Protocol):
    """One place that serves models, in its own words: Gemini or Claude on Vertex AI, or an OpenAI-compatible server.

    It tries once: what is tried again, and where, is decided by who asks it. Asked for one model, all its methods take
    the same `Model`, whose `upstream_id` is what it calls it.
    """

    @property
    def name(self) -> str:
        """As the configuration calls it; stable, so that breakers and records can go by it."""
        ...

    def check(self, model: Model, conversation: Conversation) -> Refusal | None:
        """Refuse what this model cannot do here; what is not refused is honoured, never dropped. No I/O."""
        ...

    def stream(self, model: Model, ask: ChatAsk, call_ids: str) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes, tool calls named `<call_ids>-1` and on; exactly one `Ending`, last.

        Raises `UpstreamError`, with a `retry_after_ms` where the upstream gave one. Closing it aborts the request at
        once. A constraint of the conversation has been verified when it ends with `Finish.STOP`.
        """
        ...

    async def count(self, model: Model, ask: CountAsk) -> int | None:
        """Tokens of a prompt by its own tokenizer, None where it offers no count; raises `UpstreamError`."""
        ...
