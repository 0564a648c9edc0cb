"""What an OpenAI-compatible chat/completions stream says, read into chunks; without I/O.

A chunk of the wire carries a delta of one choice, or the usage alone, or an error; `[DONE]` is the end. A call comes in
pieces that belong together by their index, and is whole when the choice has its finish reason.
"""

from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from gateway.llm.compatible_error import Told, stream_error
from gateway.llm.pieces import CALLS_MAX, Calls, Room, malformed
from gateway.llm.prompt_told import PromptTold
from gateway.llm.signatures import read_geminis
from gateway.terms.asks import ChatAsk
from gateway.terms.conversation import Chunk, Ending, Finish, FunctionCall, Text, Thought, Usage

DONE: Final = b"[DONE]"

_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class _Struct(msgspec.Struct, kw_only=True):
    """Members that have no name here are passed over: every server adds its own."""


class _Function(_Struct):
    name: str | None = None
    arguments: str | None = None


class _Google(_Struct):
    thought_signature: str | None = None


class _Extra(_Struct):
    google: _Google | None = None


class _ToolCall(_Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: _Extra | None = None
    """Where Google's endpoint puts what Gemini wants back."""


class _Delta(_Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    """What vLLM and Ollama call the thoughts."""
    reasoning_content: str | None = None
    """What others call them, and vLLM did before."""
    tool_calls: list[_ToolCall] | None = None
    function_call: msgspec.Raw | None = None


class _Choice(_Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _PromptDetails(_Struct):
    cached_tokens: _Tokens | None = None


class _CompletionDetails(_Struct):
    reasoning_tokens: _Tokens | None = None


class _Usage(_Struct):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens | None = None
    total_tokens: _Tokens = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Event(_Struct):
    model: str = ""
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Told | str | None = None
    object: str = ""
    message: str = ""
    code: str | int | None = None
    type: str | None = None


_event: Final = msgspec.json.Decoder(_Event)

_FINISHES: Final = {
    "stop": Finish.STOP,
    "length": Finish.MAX_TOKENS,
    "tool_calls": Finish.TOOL_CALLS,
    "content_filter": Finish.SAFETY,
}
"""An open set: what is not here is OTHER, with the upstream's word beside it."""


class _Count(_Struct):
    count: _Tokens


_count: Final = msgspec.json.Decoder(_Count)


@dataclass(slots=True)
class _Pieces:
    """A call that is not whole yet."""

    id: str
    name: str = ""
    signature: str = ""
    arguments: list[str] = field(default_factory=list)

    def whole(self, calls: Calls) -> FunctionCall:
        """The call; raises `UpstreamError`."""
        signature = read_geminis(self.signature) if self.signature else b""
        return calls.whole(self.name, "".join(self.arguments) or "{}", signature)


class Answer:
    """Reads the events of one answer; see `gateway.llm.streamed.Answer`."""

    def __init__(self, call_ids: str, ask: ChatAsk) -> None:
        self._ask = ask
        self._calls = Calls(call_ids)
        self._room = Room(ask.max_output_tokens)
        self._prompt = PromptTold(ask.max_output_tokens, ask.input_tokens_bound)
        self._pieces: dict[int, _Pieces] = {}
        self._model = ""
        self._reason = ""
        self._refused = False
        self._done = False
        self._usage: Usage | None = None

    @property
    def ended(self) -> bool:
        """Whether the upstream gave a reason for its end."""
        return bool(self._reason)

    def chunks(self, data: bytes) -> list[Chunk]:
        """The chunks of one event; raises `UpstreamError`."""
        if self._done:
            raise malformed("an event after the end")
        if data == DONE:
            if not self._reason:
                raise malformed("the stream is done without a finish reason")
            self._done = True
            return []
        try:
            event = _event.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(f"event: {error}") from None
        if event.error is not None:
            raise stream_error(event.error)
        if event.object == "error":
            raise stream_error(Told(message=event.message, type=event.type, code=event.code))
        if event.choices is None and event.usage is None:
            raise malformed("an event with neither choices nor usage")
        self._model = event.model or self._model
        chunks: list[Chunk] = []
        said_bytes = self._room.said_bytes
        if event.usage is not None and self._usage is None:
            self._prompt.told(event.usage.prompt_tokens, _cached(event.usage))
        for choice in event.choices or ():
            self._choice(choice, chunks)
        if event.usage is not None:
            self._count(event.usage, chunks)
        return self._prompt.before(chunks, said_bytes)

    def end(self) -> Ending:
        """How the answer ended; only when `ended`."""
        finish = _FINISHES.get(self._reason, Finish.OTHER)
        if finish is Finish.STOP and self._refused:
            finish = Finish.SAFETY
        elif finish is Finish.STOP and self._calls.number:
            # Ollama, and a call that was asked for by name: the reason is "stop" all the same.
            finish = Finish.TOOL_CALLS
        elif finish is Finish.TOOL_CALLS and not self._calls.number:
            raise malformed("the end says that there are calls, and there are none")
        return Ending(finish=finish, upstream_reason=self._reason[:64], model_version=self._model[:128])

    def _choice(self, choice: _Choice, chunks: list[Chunk]) -> None:
        if choice.index != 0:
            raise malformed("a second choice that nobody asked for")
        if choice.delta is not None:
            self._delta(choice.delta, chunks)
        reason = choice.finish_reason
        if reason:
            if self._reason:
                raise malformed(f"two ends: {self._reason[:64]} and {reason[:64]}")
            self._reason = reason
            chunks.extend(pieces.whole(self._calls) for _, pieces in sorted(self._pieces.items()))
            self._pieces.clear()

    def _delta(self, delta: _Delta, chunks: list[Chunk]) -> None:
        thought = delta.reasoning or delta.reasoning_content
        said = bool(thought or delta.content or delta.refusal or delta.tool_calls)
        if said and self._reason:
            raise malformed("a delta after the end")
        if delta.function_call not in (None, b"null"):
            raise malformed("a function_call of the wire's first version, which nobody asked for")
        if thought:
            self._think(thought, chunks)
        for text in (delta.content, delta.refusal):
            if text:
                self._room.take(text)
                chunks.append(Text(text=text))
        self._refused = self._refused or bool(delta.refusal)
        for piece in delta.tool_calls or ():
            self._piece(piece)

    def _think(self, thought: str, chunks: list[Chunk]) -> None:
        self._room.take(thought)
        if self._ask.conversation.generation.include_thoughts:
            chunks.append(Thought(text=thought))
        elif self._usage is None:
            # Nobody asked to hear it, and it is paid all the same: what is not passed on is counted here.
            chunks.append(self._prompt.with_output(self._room.said_bytes))

    def _piece(self, piece: _ToolCall) -> None:
        function = piece.function or _Function()
        pieces = self._pieces_of(piece)
        if function.name:
            if pieces.name and pieces.name != function.name:
                raise malformed("a call with two names")
            pieces.name = function.name
        extra = piece.extra_content
        if extra is not None and extra.google is not None and extra.google.thought_signature:
            pieces.signature = extra.google.thought_signature
        if function.arguments:
            self._room.take(function.arguments)
            pieces.arguments.append(function.arguments)

    def _pieces_of(self, piece: _ToolCall) -> _Pieces:
        """The call that a piece belongs to: by its index, or a new one if it has another id than the one there.

        Some servers give every call the index 0, or none; a call of theirs is one piece with an id of its own.
        """
        index = piece.index if piece.index is not None else max(self._pieces, default=0)
        known = self._pieces.get(index)
        if known is not None and piece.id and known.id and piece.id != known.id:
            if piece.index not in (None, 0):
                raise malformed("a call with two ids")
            index = max(self._pieces) + 1
            known = None
        if known is None:
            if not 0 <= index < CALLS_MAX:
                raise malformed(f"a call at the place {index}")
            known = self._pieces[index] = _Pieces(piece.id or "")
        return known

    def _count(self, told: _Usage, chunks: list[Chunk]) -> None:
        # Some count thinking only in the total (Gemini behind this wire); all others in the completion.
        output = max(told.completion_tokens or 0, told.total_tokens - told.prompt_tokens)
        details = told.completion_tokens_details
        thinking = (details.reasoning_tokens or 0) if details is not None else 0
        if not (output or self.ended):
            return
        usage = Usage(
            input_tokens=told.prompt_tokens,
            output_tokens=output,
            thinking_tokens=min(thinking, output),
            cached_tokens=min(_cached(told), told.prompt_tokens),
        )
        if usage != self._usage:
            self._usage = usage
            chunks.append(usage)


def _cached(told: _Usage) -> int:
    """Of the prompt's tokens."""
    return (told.prompt_tokens_details or _PromptDetails()).cached_tokens or 0


def read_count(body: bytes) -> int:
    """The answer of vLLM's tokenize."""
    try:
        return _count.decode(body).count
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"count: {error}") from None
