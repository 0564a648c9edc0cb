"""The messages of the official conformance suite, made at run time from its own descriptors, and their framing."""

import struct
from pathlib import Path
from typing import BinaryIO

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, empty_pb2, message_factory, struct_pb2
from google.protobuf.message import Message

PACKAGE = "connectrpc.conformance.v1"
SERVICE = f"{PACKAGE}.ConformanceService"

_SIZE = struct.Struct(">I")
_KNOWN = {module.DESCRIPTOR.name for module in (any_pb2, empty_pb2, struct_pb2)}
"""Files that google.protobuf brings itself."""


class Suite:
    """The suite's message classes by their short names."""

    def __init__(self, descriptors: Path) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
        self._pool = descriptor_pool.Default()
        for file in files.file:
            if file.name not in _KNOWN:
                self._pool.AddSerializedFile(file.SerializeToString())

    def __getattr__(self, name: str) -> type[Message]:
        """The class of a message, such as `UnaryRequest`; KeyError for one that the suite has not."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))

    def methods(self):
        """The descriptors of the service's methods."""
        return self._pool.FindServiceByName(SERVICE).methods


def read_message(source: BinaryIO, kind: type[Message]) -> Message | None:
    """The next message of a file in which each stands behind its length; None at the end."""
    prefix = source.read(_SIZE.size)
    if not prefix:
        return None
    return kind.FromString(source.read(_SIZE.unpack(prefix)[0]))


def write_message(target: BinaryIO, message: Message) -> None:
    """The same, written."""
    data = message.SerializeToString()
    target.write(_SIZE.pack(len(data)) + data)
    target.flush()


def packed(message: Message) -> any_pb2.Any:
    """A message in an Any."""
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return wrapped
