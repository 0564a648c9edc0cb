"""One method of the table as the web offers it: what it speaks, by content type."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gateway.wire.config import WireConfig
from gateway.wire.table import Route, Table
from gateway.wire.web.connect_unary import ConnectGet, ConnectUnary
from gateway.wire.web.enveloped import ConnectStream, GrpcWeb
from gateway.wire.web.grpc_web_text import GrpcWebText
from gateway.wire.web.options import WebOptions
from gateway.wire.web.speech import Dialect
from generated.service_table import Cardinality
from generated.wire_format import Codec

_PARAMETERS: Final = frozenset({b"", b"charset=utf-8", b'charset="utf-8"'})
"""What may stand behind a content type: it changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What stands behind one path."""

    route: Route
    by_content_type: Mapping[bytes, Dialect]
    by_codec: Mapping[str, Dialect]
    """Of the methods that may be called by GET, by the name of the codec; empty for the others."""

    @property
    def allow(self) -> bytes:
        """The HTTP methods, for an `allow` header."""
        return b"GET, POST" if self.by_codec else b"POST"

    @property
    def accept_post(self) -> bytes:
        """The content types, for an `accept-post` header."""
        return b", ".join(self.by_content_type)

    def dialect(self, content_type: bytes) -> Dialect | None:
        """What a content type asks for; None for what is not spoken here."""
        found = self.by_content_type.get(content_type)
        if found is None:
            name, _, parameters = content_type.lower().partition(b";")
            if parameters.strip() in _PARAMETERS:
                found = self.by_content_type.get(name.strip())
        return found


def endpoints(table: Table, config: WireConfig, options: WebOptions) -> dict[str, Endpoint]:
    """Every method of a table by its path; raises `TableError` where a message has no codec."""
    return {path: _endpoint(route, config, options) for path, route in table.routes.items()}


def _endpoint(route: Route, config: WireConfig, options: WebOptions) -> Endpoint:
    method = route.method
    requests, replies = options.codecs(method.request), options.codecs(method.reply)
    unary = method.cardinality is Cardinality.UNARY_UNARY
    prefix = "application/" if unary else "application/connect+"
    by_content_type: dict[bytes, Dialect] = {}
    by_codec: dict[str, Dialect] = {}
    for name, codec in requests.items():
        dialect = Dialect(
            route=replace(route, request_codec=Codec(*codec), reply_codec=Codec(*replies[name])),
            speak=ConnectUnary if unary else ConnectStream,
            content_type=f"{prefix}{name}".encode(),
            compress_bytes_min=options.compress_bytes_min,
            message_bytes_max=config.message_bytes_max,
        )
        by_content_type[dialect.content_type] = dialect
        if unary and method.side_effect_free:
            by_codec[name] = replace(dialect, speak=ConnectGet)
        for bare, speak in ((b"application/grpc-web", GrpcWeb), (b"application/grpc-web-text", GrpcWebText)):
            content_type = bare + b"+" + name.encode()
            spoken = replace(dialect, speak=speak, content_type=content_type)
            by_content_type[content_type] = spoken
            if name == "proto":
                by_content_type[bare] = replace(spoken, content_type=bare)
    return Endpoint(route=route, by_content_type=by_content_type, by_codec=by_codec)
