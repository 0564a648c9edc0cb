"""Anthropic's wire: server-sent events with names, errors in Anthropic's form, and what faults make of both."""

from typing import Final

import msgspec

from localcloud.vertex.errors import ApiError
from localcloud.vertex.wire import Wire

TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
GOOGLES: Final = frozenset({401, 403, 404})
"""What Google's front end answers by itself, in its own form, before Anthropic's server is asked."""


class _Typed(msgspec.Struct):
    type: str = ""


class NamedEvents:
    """Frames that name what they carry: the document's own type, again."""

    value = "text/event-stream; charset=utf-8"

    def next(self, document: bytes) -> bytes:
        """An event."""
        try:
            name = msgspec.json.decode(document, type=_Typed).type
        except msgspec.DecodeError:
            name = "content_block_delta"  # a document that a fault has cut
        return b"event: " + name.encode() + b"\ndata: " + document + b"\n\n"

    def frames(self, documents: list[bytes], *, complete: bool) -> list[bytes]:  # noqa: ARG002 - one form for both
        """All events: an interrupted stream looks like any other up to its end."""
        return [self.next(document) for document in documents]


def error_document(error: ApiError) -> bytes:
    """An error in Anthropic's form."""
    told = {"type": TYPES.get(error.code, "api_error"), "message": error.message}
    return msgspec.json.encode({"type": "error", "error": told, "request_id": "req_vrtx_0"})


def _gigantic(size: int) -> bytes:
    delta = b'{"type":"text_delta","text":"' + b"x" * size + b'"}'
    return b'{"type":"content_block_delta","index":0,"delta":' + delta + b"}"


def _repeated(documents: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The message and its first block begin once; the block's first delta comes for ever."""
    place = next(place for place, document in enumerate(documents) if b'"content_block_delta"' in document)
    return documents[:place], [documents[place]]


CLAUDE: Final = Wire(
    framing=NamedEvents(),
    wrong_shape=b'{"type":"content_block_delta","index":"zero","delta":[]}',
    gigantic=_gigantic,
    error=error_document,
    repeated=_repeated,
    doubled=lambda documents: [*documents, documents[-1]],
)
