"""What Vertex AI's streamGenerateContent says, read into chunks; without I/O."""

import base64
import binascii
from typing import Final

import msgspec

from gateway.terms.conversation import Chunk, Ending, Finish, FunctionCall, Text, Thought, Usage
from gateway.terms.faults import Fault, UpstreamError


class _Struct(msgspec.Struct, rename="camel", kw_only=True):
    """Members that have no name here are passed over: Google adds some every month."""


class _FunctionCall(_Struct):
    name: str
    args: msgspec.Raw = msgspec.Raw(b"{}")


class _Part(_Struct):
    text: str | None = None
    thought: bool = False
    thought_signature: str = ""
    function_call: _FunctionCall | None = None


class _Content(_Struct):
    parts: list[_Part] = []


class _Candidate(_Struct):
    content: _Content | None = None
    finish_reason: str = ""


class _Feedback(_Struct):
    block_reason: str = ""


class _Usage(_Struct):
    prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    tool_use_prompt_token_count: int = 0
    cached_content_token_count: int = 0


class _Detail(_Struct):
    retry_delay: str = ""


class _Error(_Struct):
    code: int = 0
    message: str = ""
    status: str = ""
    details: list[_Detail] = []


class _Event(_Struct):
    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    model_version: str = ""
    error: _Error | None = None


class _ErrorBody(_Struct):
    error: _Error


class _Count(_Struct):
    total_tokens: int


_event: Final = msgspec.json.Decoder(_Event)
_error_body: Final = msgspec.json.Decoder(_ErrorBody | list[_ErrorBody])
_count: Final = msgspec.json.Decoder(_Count)

_FINISHES: Final = {
    "STOP": Finish.STOP,
    "MAX_TOKENS": Finish.MAX_TOKENS,
    "SAFETY": Finish.SAFETY,
    "BLOCKLIST": Finish.SAFETY,
    "PROHIBITED_CONTENT": Finish.SAFETY,
    "SPII": Finish.SAFETY,
    "MODEL_ARMOR": Finish.SAFETY,
    "RECITATION": Finish.RECITATION,
    "MALFORMED_FUNCTION_CALL": Finish.MALFORMED_TOOL_CALL,
    "UNEXPECTED_TOOL_CALL": Finish.MALFORMED_TOOL_CALL,
}
"""An open set on Google's side: what is not here is OTHER, with Google's word beside it."""

_FAULTS: Final = {
    400: Fault.REFUSED,
    401: Fault.DENIED,
    403: Fault.DENIED,
    404: Fault.MISSING,
    429: Fault.QUOTA,
}


class Answer:
    """Reads the events of one answer. `chunks` gives the parts as they come, `end` what comes last."""

    def __init__(self, call_ids: str) -> None:
        self._call_ids = call_ids
        self._calls = 0
        self._reason = ""
        self._blocked = ""
        self._version = ""
        self._usage = Usage()

    @property
    def ended(self) -> bool:
        """Whether the upstream gave a reason for its end."""
        return bool(self._reason or self._blocked)

    def chunks(self, data: bytes) -> list[Chunk]:
        """The chunks of one event; raises `UpstreamError` for an error event or anything that is not of the form."""
        try:
            event = _event.decode(data)
        except msgspec.DecodeError as error:
            raise UpstreamError(Fault.MALFORMED, f"event: {error}") from None
        if event.error is not None:
            raise upstream_error(event.error.code, event.error)
        self._version = event.model_version or self._version
        if event.prompt_feedback is not None and event.prompt_feedback.block_reason:
            self._blocked = event.prompt_feedback.block_reason
        chunks: list[Chunk] = []
        for candidate in event.candidates[:1]:
            self._candidate(candidate, chunks)
        if event.usage_metadata is not None:
            self._count(event.usage_metadata, chunks)
        return chunks

    def end(self) -> Ending:
        """How the answer ended; only when `ended`."""
        if self._blocked:
            finish, reason = Finish.PROMPT_BLOCKED, self._blocked
        else:
            finish, reason = _FINISHES.get(self._reason, Finish.OTHER), self._reason
            if finish is Finish.STOP and self._calls:
                finish = Finish.TOOL_CALLS
        return Ending(finish=finish, upstream_reason=reason[:64], model_version=self._version[:128])

    def _candidate(self, candidate: _Candidate, chunks: list[Chunk]) -> None:
        parts = candidate.content.parts if candidate.content else []
        if parts and self.ended:
            raise UpstreamError(Fault.MALFORMED, "parts after the end")
        chunks.extend(chunk for part in parts if (chunk := self._part(part)) is not None)
        if candidate.finish_reason and not self._reason:
            self._reason = candidate.finish_reason

    def _part(self, part: _Part) -> Chunk | None:
        signature = _signature(part.thought_signature)
        if part.function_call is not None:
            self._calls += 1
            return FunctionCall(
                id=f"{self._call_ids}-{self._calls}",
                name=part.function_call.name,
                arguments_json=bytes(part.function_call.args).decode(),
                signature=signature,
            )
        if part.text is None or not (part.text or signature):
            return None
        return (Thought if part.thought else Text)(text=part.text, signature=signature)

    def _count(self, told: _Usage, chunks: list[Chunk]) -> None:
        # Gemini counts thinking beside the candidates; everybody else counts it in. Ours: in.
        usage = Usage(
            input_tokens=told.prompt_token_count + told.tool_use_prompt_token_count,
            output_tokens=told.candidates_token_count + told.thoughts_token_count,
            thinking_tokens=told.thoughts_token_count,
            cached_tokens=told.cached_content_token_count,
        )
        if usage != self._usage:
            self._usage = usage
            chunks.append(usage)


def read_count(body: bytes) -> int:
    """The answer of countTokens."""
    try:
        return _count.decode(body).total_tokens
    except msgspec.DecodeError as error:
        raise UpstreamError(Fault.MALFORMED, f"count: {error}") from None


def read_error(status: int, body: bytes, retry_after: str) -> UpstreamError:
    """The error of an HTTP answer; its body may be Google's form, the same in a list, or anything."""
    try:
        told = _error_body.decode(body)
        error = told[0].error if isinstance(told, list) else told.error
    except (msgspec.DecodeError, IndexError):
        error = _Error(message=repr(body[:200]))
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 6:
        error.details.append(_Detail(retry_delay=f"{retry_after}s"))
    return upstream_error(status, error)


def upstream_error(status: int, error: _Error) -> UpstreamError:
    """What an error of Google's means for the call."""
    fault = _FAULTS.get(status, Fault.UNREACHABLE if status >= 500 or not status else Fault.REFUSED)
    delays = [delay for detail in error.details if (delay := _delay_ms(detail.retry_delay)) is not None]
    detail = f"{status} {error.status}: {error.message[:500]}"
    return UpstreamError(fault, detail, retry_after_ms=max(delays, default=None))


def _delay_ms(text: str) -> int | None:
    """A `google.protobuf.Duration` in JSON, such as `7s` or `0.5s`, in milliseconds."""
    whole, _, fraction = text.removesuffix("s").partition(".")
    if not text.endswith("s") or not (whole + fraction).isascii() or not (whole + fraction).isdigit():
        return None
    return min(int(whole[:6] or "0") * 1000 + int(fraction[:3].ljust(3, "0") or "0"), 3_600_000)


def _signature(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if text else b""
    except binascii.Error as error:
        raise UpstreamError(Fault.MALFORMED, f"thought signature: {error}") from None
