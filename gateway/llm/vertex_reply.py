"""What Vertex AI's streamGenerateContent says, read into chunks; without I/O."""

from typing import Annotated, Final

import msgspec

from gateway.llm.pieces import Calls, Room, malformed, text_of
from gateway.llm.prompt_told import PromptTold
from gateway.llm.signatures import read_geminis
from gateway.llm.vertex_error import GoogleError, upstream_error
from gateway.terms.conversation import Chunk, Ending, Finish, FunctionCall, Text, Thought, Usage

_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""An int32 that counts something: a negative count would be a refund."""


class _Struct(msgspec.Struct, rename="camel", kw_only=True):
    """Members that have no name here are passed over: Google adds some every month."""


class _FunctionCall(_Struct):
    name: str
    args: msgspec.Raw = msgspec.Raw(b"{}")
    partial_args: msgspec.Raw | None = None
    will_continue: bool = False


class _Part(_Struct):
    text: str | None = None
    thought: bool = False
    thought_signature: str = ""
    function_call: _FunctionCall | None = None
    inline_data: msgspec.Raw | None = None
    file_data: msgspec.Raw | None = None
    function_response: msgspec.Raw | None = None
    executable_code: msgspec.Raw | None = None
    code_execution_result: msgspec.Raw | None = None

    @property
    def foreign(self) -> bool:
        """Whether it holds something that no chunk can carry and nobody asked for."""
        return not (
            self.inline_data is None
            and self.file_data is None
            and self.function_response is None
            and self.executable_code is None
            and self.code_execution_result is None
        )


class _Content(_Struct):
    parts: list[_Part] = []


class _Candidate(_Struct):
    content: _Content | None = None
    finish_reason: str = ""
    index: int = 0


class _Feedback(_Struct):
    block_reason: str = ""


class _Usage(_Struct):
    prompt_token_count: _Tokens = 0
    candidates_token_count: _Tokens = 0
    thoughts_token_count: _Tokens = 0
    tool_use_prompt_token_count: _Tokens = 0
    cached_content_token_count: _Tokens = 0


class _Event(_Struct):
    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    model_version: str = ""
    error: GoogleError | None = None


class _Count(_Struct):
    total_tokens: _Tokens


_event: Final = msgspec.json.Decoder(_Event)
_count: Final = msgspec.json.Decoder(_Count)

_FINISHES: Final = {
    "STOP": Finish.STOP,
    "MAX_TOKENS": Finish.MAX_TOKENS,
    "SAFETY": Finish.SAFETY,
    "BLOCKLIST": Finish.SAFETY,
    "PROHIBITED_CONTENT": Finish.SAFETY,
    "SPII": Finish.SAFETY,
    "MODEL_ARMOR": Finish.SAFETY,
    "IMAGE_SAFETY": Finish.SAFETY,
    "IMAGE_PROHIBITED_CONTENT": Finish.SAFETY,
    "RECITATION": Finish.RECITATION,
    "IMAGE_RECITATION": Finish.RECITATION,
    "MALFORMED_FUNCTION_CALL": Finish.MALFORMED_TOOL_CALL,
    "UNEXPECTED_TOOL_CALL": Finish.MALFORMED_TOOL_CALL,
    "TOO_MANY_TOOL_CALLS": Finish.MALFORMED_TOOL_CALL,
}
"""An open set on Google's side: what is not here is OTHER, with Google's word beside it."""


class Answer:
    """Reads the events of one answer. `chunks` gives the parts as they come, `end` what comes last.

    It ends with an error as soon as it holds more characters than `max_output_tokens` can stand for.
    """

    def __init__(self, call_ids: str, max_output_tokens: int) -> None:
        self._calls = Calls(call_ids)
        self._room = Room(max_output_tokens)
        self._prompt = PromptTold(max_output_tokens)
        self._reason = ""
        self._blocked = ""
        self._version = ""
        self._usage: Usage | None = None

    @property
    def ended(self) -> bool:
        """Whether the upstream gave a reason for its end."""
        return bool(self._reason or self._blocked)

    def chunks(self, data: bytes) -> list[Chunk]:
        """The chunks of one event; raises `UpstreamError` for an error event or anything that is not of the form."""
        try:
            event = _event.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(f"event: {error}") from None
        if event.error is not None:
            raise upstream_error(event.error.code, event.error)
        if event.model_version:
            self._version = event.model_version
        if event.prompt_feedback is not None and event.prompt_feedback.block_reason:
            self._blocked = event.prompt_feedback.block_reason
        chunks: list[Chunk] = []
        said_bytes = self._room.said_bytes
        for candidate in event.candidates:
            self._candidate(candidate, chunks)
        if event.usage_metadata is not None:
            self._count(event.usage_metadata, chunks)
        return self._prompt.before(chunks, said_bytes)

    def end(self) -> Ending:
        """How the answer ended; only when `ended`."""
        if self._blocked:
            finish, reason = Finish.PROMPT_BLOCKED, self._blocked
        else:
            finish, reason = _FINISHES.get(self._reason, Finish.OTHER), self._reason
            if finish is Finish.STOP and self._calls.number:
                finish = Finish.TOOL_CALLS
        return Ending(finish=finish, upstream_reason=reason[:64], model_version=self._version[:128])

    def _candidate(self, candidate: _Candidate, chunks: list[Chunk]) -> None:
        if candidate.index != 0:
            raise malformed("a second candidate that nobody asked for")
        if candidate.content is not None:
            before = len(chunks)
            for part in candidate.content.parts:
                self._part(part, chunks)
            if len(chunks) > before and self.ended:
                raise malformed("parts after the end")
        reason = candidate.finish_reason
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            if self._reason and reason != self._reason:
                raise malformed(f"two ends: {self._reason[:64]} and {reason[:64]}")
            self._reason = reason

    def _part(self, part: _Part, chunks: list[Chunk]) -> None:
        if part.foreign:
            raise malformed("a part that is neither text nor a function call")
        signature = read_geminis(part.thought_signature) if part.thought_signature else b""
        if part.function_call is not None:
            chunks.append(self._call(part.function_call, signature))
        elif part.text or signature:
            text = part.text or ""
            self._room.take(text)
            chunks.append((Thought if part.thought else Text)(text=text, signature=signature))

    def _call(self, call: _FunctionCall, signature: bytes) -> FunctionCall:
        """A whole call, or nothing: what policy is to decide on must have one reading."""
        if call.will_continue or call.partial_args is not None:
            raise malformed("a function call in pieces, which nobody asked for")
        arguments = text_of(bytes(call.args))
        self._room.take(arguments)
        return self._calls.whole(call.name, arguments, signature)

    def _count(self, told: _Usage, chunks: list[Chunk]) -> None:
        # Gemini counts thinking beside the candidates; everybody else counts it in. Ours: in.
        input_tokens = told.prompt_token_count + told.tool_use_prompt_token_count
        output_tokens = told.candidates_token_count + told.thoughts_token_count
        if not (output_tokens or self.ended):
            # What the prompt took says nothing of an answer that has begun.
            if self._usage is None:
                self._prompt.told(input_tokens, told.cached_content_token_count)
            return
        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            thinking_tokens=told.thoughts_token_count,
            cached_tokens=min(told.cached_content_token_count, input_tokens),
        )
        if usage != self._usage:
            self._usage = usage
            chunks.append(usage)


def read_count(body: bytes) -> int:
    """The answer of countTokens."""
    try:
        return _count.decode(body).total_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"count: {error}") from None
