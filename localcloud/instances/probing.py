"""One question to an instance: is it well? By gRPC's health protocol or by a mere connection, as its manifest asks."""

import asyncio
from typing import Final

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError

from localcloud.instances.wanted import Probe

_CHECK: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"
"""HealthCheckResponse with status SERVING: field 1, value 1."""


class _Raw(CodecBase):
    """Messages as they are: two of a few bytes need no library."""

    __content_subtype__ = "proto"

    def encode(self, message: object, message_type: type) -> bytes:  # noqa: ARG002  # the codec's interface
        """Bytes as they are."""
        return message if isinstance(message, bytes) else b""

    def decode(self, data: bytes, message_type: type) -> bytes:  # noqa: ARG002  # the codec's interface
        """Bytes as they are."""
        return data


async def is_well(probe: Probe, host: str, port: int, seconds: float) -> bool:
    """Whether the instance answers within so many seconds that it serves."""
    try:
        async with asyncio.timeout(seconds):
            return await (_healthy(probe, host, port) if probe.kind == "grpc" else listens(host, port))
    except (OSError, TimeoutError, GRPCError, StreamTerminatedError):
        return False


async def listens(host: str, port: int) -> bool:
    """Whether something takes connections there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


async def _healthy(probe: Probe, host: str, port: int) -> bool:
    name = probe.service.encode()
    question = b"\x0a" + len(name).to_bytes(1) + name if name else b""
    async with Channel(host, port, codec=_Raw()) as channel:
        return await UnaryUnaryMethod(channel, _CHECK, bytes, bytes)(question) == _SERVING
