"""How grpclib writes and reads the contract's messages: by the generated codecs, with error details as our own."""

from dataclasses import dataclass
from typing import Final

from grpclib.const import Status
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase

from generated.agentic.gateway.v1.codec import CODECS
from generated.agentic.wire.v1 import BadRequest, ErrorInfo, RetryInfo
from generated.agentic.wire.v1 import Status as WireStatus
from generated.agentic.wire.v1.codec import CODECS as WIRE_CODECS

_TYPES: Final = {
    "type.googleapis.com/google.rpc.ErrorInfo": ErrorInfo,
    "type.googleapis.com/google.rpc.RetryInfo": RetryInfo,
    "type.googleapis.com/google.rpc.BadRequest": BadRequest,
}


class MessageCodec(CodecBase):
    """Strict both ways: see `generated/wire_format.py`."""

    __content_subtype__ = "proto"

    def encode(self, message: object, message_type: type) -> bytes:
        """The bytes of a message."""
        return CODECS[message_type].encode(message)

    def decode(self, data: bytes, message_type: type) -> object:
        """The message of these bytes."""
        return CODECS[message_type].decode(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What an error says beyond its status."""

    info: ErrorInfo | None = None
    retry: RetryInfo | None = None
    bad_request: BadRequest | None = None


class DetailsCodec(StatusDetailsCodecBase):
    """Reads `grpc-status-details-bin`."""

    def encode(self, status: Status, message: str | None, details: object) -> bytes:
        """Clients send none."""
        raise NotImplementedError

    def decode(self, status: Status, message: str | None, data: bytes) -> Details:
        """The details that we know; what cannot be read is as good as absent."""
        del status, message
        found: dict[type, object] = {}
        try:
            told = WIRE_CODECS[WireStatus].decode(data)
            for detail in told.details if isinstance(told, WireStatus) else []:
                kind = _TYPES.get(detail.type_url)
                if kind is not None:
                    found[kind] = WIRE_CODECS[kind].decode(detail.value)
        except ValueError:
            return Details()
        info, retry, bad = found.get(ErrorInfo), found.get(RetryInfo), found.get(BadRequest)
        return Details(
            info=info if isinstance(info, ErrorInfo) else None,
            retry=retry if isinstance(retry, RetryInfo) else None,
            bad_request=bad if isinstance(bad, BadRequest) else None,
        )
