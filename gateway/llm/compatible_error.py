"""What an error of an OpenAI-compatible server means for the call; without I/O."""

from typing import Final

import msgspec

from gateway.llm.vertex_error import GoogleError, read_error, upstream_error
from gateway.terms.faults import UpstreamError


class _Struct(msgspec.Struct, kw_only=True):
    """Members that have no name here are passed over."""


class Told(_Struct):
    """An error in the form of OpenAI's."""

    message: str = ""
    type: str | None = None
    code: str | int | None = None


class _Body(_Struct):
    """OpenAI's form; Ollama's own, with a sentence alone; and vLLM's of old, without an envelope."""

    error: Told | str | None = None
    object: str = ""
    message: str = ""
    type: str | None = None
    code: str | int | None = None


_body: Final = msgspec.json.Decoder(_Body)

_STATUSES: Final = {
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "NotFoundError": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "tokens": 429,
    "requests": 429,
}
"""For an error inside of a stream, which has no status of its own. Every other one is the server's trouble."""


def read_compatible_error(status: int, body: bytes, retry_after: str) -> UpstreamError:
    """The error of an HTTP reply that is not 200; see `gateway.llm.vertex_error.read_error`."""
    try:
        told = _told(_body.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = None
    if told is None:
        # Vertex AI's endpoint answers in Google's form; anything else is quoted.
        return read_error(status, body, retry_after)
    document = msgspec.json.encode({"error": {"message": told.message, "type": told.type or ""}})
    return read_error(status, document, retry_after)


def stream_error(told: Told | str) -> UpstreamError:
    """An error event of a stream that had begun."""
    if isinstance(told, str):
        told = Told(message=told)
    status = told.code if isinstance(told.code, int) else 0
    for name in (told.code, told.type):
        if isinstance(name, str):
            status = _STATUSES.get(name, status)
    return upstream_error(status, GoogleError(message=told.message, type=str(told.type or told.code or "")))


def _told(body: _Body) -> Told | None:
    if isinstance(body.error, str):
        return Told(message=body.error)
    if body.error is None and body.object == "error":
        return Told(message=body.message, type=body.type, code=body.code)
    return body.error if body.error is not None and body.error.type else None
