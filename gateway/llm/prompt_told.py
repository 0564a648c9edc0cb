"""What an upstream told of the prompt's tokens before it counted the answer: who leaves then pays for that prompt."""

from msgspec.structs import replace

from gateway.terms.conversation import Chunk, Usage


class PromptTold:
    """Keeps the count of one answer's prompt, and tells it on before the first chunks that it can be told with.

    Alone it is no news: an attempt that has said nothing may be made elsewhere. What it tells is `estimated`, because
    the answer is not counted: its output is what was said by then, a token for each byte, and so it replaces no word.
    """

    __slots__ = ("_begun", "_news", "_output_max", "_usage")

    def __init__(self, max_output_tokens: int, input_tokens_bound: int = 0) -> None:
        """`input_tokens_bound`: what is true of the prompt while the upstream tells nothing."""
        self._usage = Usage(input_tokens=input_tokens_bound, estimated=True)
        self._output_max = max_output_tokens
        self._begun = False
        self._news = False

    def told(self, input_tokens: int, cached_tokens: int) -> None:
        """The upstream counted the prompt; 0 is no count, because no prompt has no tokens."""
        usage = replace(self._usage, input_tokens=input_tokens, cached_tokens=min(cached_tokens, input_tokens))
        if input_tokens and usage != self._usage:
            self._usage, self._news = usage, True

    def with_output(self, said_bytes: int) -> Usage:
        """The prompt as it is known, and so many bytes of an answer."""
        return replace(self._usage, output_tokens=min(said_bytes, self._output_max))

    def before(self, chunks: list[Chunk], said_bytes: int) -> list[Chunk]:
        """The chunks of one event, after the prompt's count where that is news; `said_bytes`: before this event."""
        self._begun = self._begun or bool(chunks)
        if not (self._begun and self._news):
            return chunks
        self._news = False
        if any(isinstance(chunk, Usage) for chunk in chunks):
            return chunks
        return [self.with_output(said_bytes), *chunks]
