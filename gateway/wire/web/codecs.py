"""The codecs of the contract by the names that content types use: `proto` and `json`."""

from collections.abc import Callable, Mapping
from typing import Final

from gateway.wire.table import TableError
from generated.agentic.gateway.v1.codec import CODECS as GATEWAY_CODECS
from generated.agentic.gateway.v1.json_codec import JSON_CODECS as GATEWAY_JSON_CODECS
from generated.grpc.health.v1.codec import CODECS as HEALTH_CODECS
from generated.grpc.health.v1.json_codec import JSON_CODECS as HEALTH_JSON_CODECS
from generated.grpc.reflection.v1.codec import CODECS as REFLECTION_CODECS
from generated.grpc.reflection.v1.json_codec import JSON_CODECS as REFLECTION_JSON_CODECS
from generated.json_format import JsonCodec
from generated.wire_format import Codec

AnyCodec = Codec | JsonCodec
"""`encode` gives bytes; `decode` takes bytes and raises ValueError for what is no message, with a sentence."""

CodecsOf = Callable[[type], Mapping[str, AnyCodec]]
"""The codecs of one message type by name."""

_PROTO: Final[Mapping[type, Codec]] = {**GATEWAY_CODECS, **HEALTH_CODECS, **REFLECTION_CODECS}
_JSON: Final[Mapping[type, JsonCodec]] = {**GATEWAY_JSON_CODECS, **HEALTH_JSON_CODECS, **REFLECTION_JSON_CODECS}


def contract_codecs(message: type) -> Mapping[str, AnyCodec]:
    """The codecs of a message of the contract, of health or of reflection; `TableError` for any other."""
    if message not in _PROTO or message not in _JSON:
        raise TableError(f"no codecs are registered for {message.__module__}.{message.__qualname__}")
    return {"proto": _PROTO[message], "json": _JSON[message]}
