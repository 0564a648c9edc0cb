"""What Claude's streamRawPredict says, read into chunks; without I/O.

The stream is Anthropic's Messages stream: a message begins, its blocks follow one another without overlapping, a
message delta says why it ends and what it took, and the message stops.
"""

from typing import Annotated, Final

import msgspec

from gateway.llm.pieces import Calls, Room, malformed, text_of
from gateway.llm.prompt_told import PromptTold
from gateway.llm.signatures import CLAUDE, CLAUDE_REDACTED
from gateway.llm.vertex_error import GoogleError, upstream_error
from gateway.terms.conversation import Chunk, Ending, Finish, Text, Thought, Usage
from gateway.terms.faults import Fault, UpstreamError

SIGNATURE_LENGTH_MAX: Final = 256 * 1024

_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class _Struct(msgspec.Struct, kw_only=True):
    """Members that have no name here are passed over; Anthropic's own rule for its clients."""


class _OutputDetails(_Struct):
    thinking_tokens: _Tokens = 0


class _Usage(_Struct):
    """Cumulative; a member that is absent has not changed."""

    input_tokens: _Tokens | None = None
    cache_creation_input_tokens: _Tokens | None = None
    cache_read_input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    output_tokens_details: _OutputDetails | None = None


class _Message(_Struct):
    model: str = ""
    usage: _Usage | None = None


class _Block(_Struct):
    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Delta(_Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(_Struct):
    type: str
    message: _Message | None = None
    index: int = -1
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: GoogleError | None = None


class _Count(_Struct):
    input_tokens: _Tokens


_event: Final = msgspec.json.Decoder(_Event)
_count: Final = msgspec.json.Decoder(_Count)

_FINISHES: Final = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "max_tokens": Finish.MAX_TOKENS,
    "model_context_window_exceeded": Finish.MAX_TOKENS,
    "tool_use": Finish.TOOL_CALLS,
    "refusal": Finish.SAFETY,
}
"""An open set on Anthropic's side: what is not here is OTHER, with its word beside it."""

_KNOWN: Final = frozenset(
    {
        *("message_start", "message_delta", "message_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    }
)
"""What is not here is passed over: `ping`, and the events that Anthropic adds."""

_STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 403,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Anthropic's table of errors: an error inside of a stream has no status of its own."""


class Answer:
    """Reads the events of one answer; see `gateway.llm.streamed.Answer`."""

    def __init__(self, call_ids: str, max_output_tokens: int) -> None:
        self._calls = Calls(call_ids)
        self._room = Room(max_output_tokens)
        self._prompt = PromptTold(max_output_tokens)
        self._model: str | None = None
        """None before the message has begun."""
        self._open: _Block | None = None
        self._index = -1
        """Of the block that is open, or was the last one."""
        self._signature_room = SIGNATURE_LENGTH_MAX
        self._pieces: list[str] = []
        """Of the open block's arguments or signature."""
        self._reason = ""
        self._stopped = False
        self._told = _Usage()
        self._usage: Usage | None = None
        self._news = False
        """Whether more was counted than has been told."""
        self._begun = False
        """Whether something was said: before, a count is no news."""

    @property
    def ended(self) -> bool:
        """Whether the upstream gave a reason for its end."""
        return bool(self._reason)

    def chunks(self, data: bytes) -> list[Chunk]:
        """The chunks of one event; raises `UpstreamError`."""
        try:
            event = _event.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(f"event: {error}") from None
        if event.type == "error":
            told = event.error or GoogleError()
            raise upstream_error(_STATUSES.get(told.type, told.code), told)
        chunks: list[Chunk] = []
        said_bytes = self._room.said_bytes
        if event.type in _KNOWN:
            self._read(event, chunks)
        if chunks:
            self._begun = True
        self._count(chunks)
        return self._prompt.before(chunks, said_bytes)

    def end(self) -> Ending:
        """How the answer ended; only when `ended`."""
        if self._open is not None:
            raise malformed("the message ended inside a block")
        finish = _FINISHES.get(self._reason, Finish.OTHER)
        if finish is Finish.STOP and self._calls.number:
            finish = Finish.TOOL_CALLS
        return Ending(finish=finish, upstream_reason=self._reason[:64], model_version=(self._model or "")[:128])

    def _read(self, event: _Event, chunks: list[Chunk]) -> None:
        if (self._model is None) != (event.type == "message_start"):
            raise malformed(f"{event.type} out of its place")
        if self._stopped:
            raise malformed(f"{event.type} after the end")
        match event.type:
            case "content_block_delta":
                self._block_delta(event, chunks)
            case "content_block_start":
                self._block_start(event, chunks)
            case "content_block_stop":
                self._block_stop(event, chunks)
            case "message_start":
                self._message_start(event)
            case "message_delta":
                self._message_delta(event)
            case "message_stop":
                self._message_stop()

    def _message_start(self, event: _Event) -> None:
        message = event.message or _Message()
        self._model = message.model
        if message.usage is not None:
            # Its output is what a message takes without words; only the delta at the end counts the answer.
            self._merge(msgspec.structs.replace(message.usage, output_tokens=None))
            self._prompt.told(*self._input())

    def _block_start(self, event: _Event, chunks: list[Chunk]) -> None:
        block = event.content_block
        if block is None or self._open is not None or event.index != self._index + 1 or self._reason:
            raise malformed("a block out of its place")
        self._open, self._index, self._pieces = block, event.index, []
        match block.type:
            case "text":
                self._say(Text(text=block.text), chunks)
            case "thinking":
                self._say(Thought(text=block.thinking), chunks)
                self._piece(block.signature)
            case "redacted_thinking":
                self._piece(block.data)
            case "tool_use":
                pass  # its arguments follow
            case other:
                raise malformed(f"a block of type {other[:64]!r}, which nobody asked for")

    def _block_delta(self, event: _Event, chunks: list[Chunk]) -> None:
        delta, block = event.delta, self._open
        if delta is None or block is None or event.index != self._index:
            raise malformed("a delta of a block that is not open")
        match block.type, delta.type:
            case "text", "text_delta":
                self._say(Text(text=delta.text), chunks)
            case "text", "citations_delta":
                pass  # where the text is from; it is in no word of ours
            case "thinking", "thinking_delta":
                self._say(Thought(text=delta.thinking), chunks)
            case "thinking", "signature_delta":
                self._piece(delta.signature)
            case "tool_use", "input_json_delta":
                self._room.take(delta.partial_json)
                self._pieces.append(delta.partial_json)
            case _:
                raise malformed(f"a {delta.type[:64]!r} in a block of type {block.type!r}")

    def _block_stop(self, event: _Event, chunks: list[Chunk]) -> None:
        block = self._open
        if block is None or event.index != self._index:
            raise malformed("the end of a block that is not open")
        self._open = None
        collected = "".join(self._pieces)
        match block.type:
            case "tool_use":
                chunks.append(self._calls.whole(block.name, collected or text_of(bytes(block.input))))
            case "thinking" if collected:
                chunks.append(Thought(text="", signature=CLAUDE + collected.encode()))
            case "redacted_thinking":
                chunks.append(Thought(text="", signature=CLAUDE_REDACTED + collected.encode()))

    def _message_delta(self, event: _Event) -> None:
        reason = event.delta.stop_reason if event.delta is not None else None
        if reason:
            if self._reason:
                raise malformed(f"two ends: {self._reason[:64]} and {reason[:64]}")
            self._reason = reason
        self._merge(event.usage)

    def _message_stop(self) -> None:
        if not self._reason:
            raise malformed("the message stopped without a reason")
        self._stopped = True

    def _say(self, words: Text | Thought, chunks: list[Chunk]) -> None:
        if words.text:
            self._room.take(words.text)
            chunks.append(words)

    def _piece(self, text: str) -> None:
        self._pieces.append(text)
        self._signature_room -= len(text)
        if self._signature_room < 0:
            raise UpstreamError(Fault.TOO_LARGE, "the thought signatures")

    def _merge(self, told: _Usage | None) -> None:
        if told is not None:
            self._news = True
            known = {name: value for name, value in msgspec.structs.asdict(told).items() if value is not None}
            self._told = msgspec.structs.replace(self._told, **known)

    def _count(self, chunks: list[Chunk]) -> None:
        if not self._news or not (self._begun or self.ended):
            return
        self._news = False
        told = self._told
        if told.input_tokens is None or told.output_tokens is None:
            return
        details = told.output_tokens_details or _OutputDetails()
        input_tokens, cached_tokens = self._input()
        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=told.output_tokens,
            thinking_tokens=min(details.thinking_tokens, told.output_tokens),
            cached_tokens=cached_tokens,
        )
        if usage != self._usage:
            self._usage = usage
            chunks.append(usage)

    def _input(self) -> tuple[int, int]:
        """Input tokens, and which of them were cached; the former 0 where none were told.

        Claude counts what was written to its cache and read from it beside the input; everybody else in it.
        """
        told = self._told
        if told.input_tokens is None:
            return 0, 0
        cached = told.cache_read_input_tokens or 0
        return told.input_tokens + (told.cache_creation_input_tokens or 0) + cached, cached


def read_count(body: bytes) -> int:
    """The answer of count-tokens."""
    try:
        return _count.decode(body).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"count: {error}") from None
