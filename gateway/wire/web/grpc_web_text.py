"""gRPC-Web for browsers that cannot read bytes: the same body in base64, piece by piece.

The rules: github.com/grpc/grpc, doc/PROTOCOL-WEB.md. Whoever writes may pad wherever it flushes, so that padding can
stand within a body; every group of four characters is decoded on its own.
"""

import binascii

from gateway.terms.verdict import Kind
from gateway.wire.asgi import Event, Receive
from gateway.wire.errors import EndedError, refused
from gateway.wire.web.enveloped import GrpcWeb
from gateway.wire.web.exchange import Exchange
from gateway.wire.web.speech import Dialect


class Base64Text:
    """Decodes base64 as it arrives."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""
        """Less than a group of four."""

    def decoded(self, text: bytes) -> bytes:
        """What the next piece of text adds; raises `EndedError` for what is no base64."""
        text = self._rest + text
        end = len(text) - len(text) % 4
        self._rest = text[end:]
        pieces = []
        at = 0
        while at < end:
            padding = text.find(b"=", at, end)
            stop = end if padding < 0 else padding - padding % 4 + 4
            pieces.append(_strictly(text[at:stop]))
            at = stop
        return b"".join(pieces)

    def finish(self) -> None:
        """The text has ended; raises `EndedError` when it ended within a group."""
        if self._rest:
            raise EndedError(_NOT_BASE64)


class GrpcWebText(GrpcWeb):
    """One call of gRPC-Web in base64."""

    __slots__ = ("_text",)

    def __init__(self, dialect: Dialect, exchange: Exchange) -> None:
        super().__init__(dialect, exchange)
        self._text = Base64Text()
        exchange.receive = self._receiving(exchange.receive)

    def written(self, data: bytes) -> bytes:
        """See `Enveloped`: padded, so that it can be read as soon as it is there."""
        return binascii.b2a_base64(data, newline=False)

    def _receiving(self, receive: Receive) -> Receive:
        async def decoded() -> Event:
            event = await receive()
            if event["type"] == "http.request":
                event = {**event, "body": self._text.decoded(event.get("body", b""))}
                if not event.get("more_body", False):
                    self._text.finish()
            return event

        return decoded


def _strictly(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise EndedError(_NOT_BASE64) from None


_NOT_BASE64 = refused(Kind.MALFORMED, "wire.base64_malformed", "the body is not base64 (RFC 4648, section 4)")
