"""The wire of chat/completions: data-only events up to `[DONE]`, errors in OpenAI's form, and the faults in both."""

from typing import Final

import msgspec

from localcloud.vertex.errors import ApiError
from localcloud.vertex.wire import Wire

DONE: Final = b"[DONE]"
TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class DataEvents:
    """Frames of data alone."""

    value = "text/event-stream; charset=utf-8"

    def next(self, document: bytes) -> bytes:
        """An event."""
        return b"data: " + document + b"\n\n"

    def frames(self, documents: list[bytes], *, complete: bool) -> list[bytes]:  # noqa: ARG002 - `[DONE]` is a document
        """All events."""
        return [self.next(document) for document in documents]


def error_document(error: ApiError) -> bytes:
    """An error in OpenAI's form, with the status as its code, as vLLM writes it."""
    told = {"message": error.message, "type": TYPES.get(error.code, "server_error"), "param": None, "code": error.code}
    return msgspec.json.encode({"error": told})


def _gigantic(size: int) -> bytes:
    return b'{"choices":[{"index":0,"delta":{"content":"' + b"x" * size + b'"}}]}'


def _doubled(documents: list[bytes]) -> list[bytes]:
    """The chunk with the finish reason comes again before the end."""
    last = next(document for document in reversed(documents) if b'"finish_reason":"' in document)
    return [*documents[:-1], last, documents[-1]]


COMPATIBLE: Final = Wire(
    framing=DataEvents(),
    wrong_shape=b'{"choices":"none","usage":[]}',
    gigantic=_gigantic,
    error=error_document,
    repeated=lambda documents: (documents[:1], documents[1:2]),
    doubled=_doubled,
)
