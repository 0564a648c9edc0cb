"""The contract about itself: the compiled descriptors of `generated/`, indexed by file name and by symbol.

Only the names in them are read, by a small scan of the binary format; the descriptors themselves are passed on as they
are. The field numbers come from google/protobuf/descriptor.proto.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from generated import service_table

COMPILED: Final = Path(service_table.__file__).with_name("descriptors.bin")

_LENGTH_DELIMITED: Final = 2
_VARINT: Final = 0

_SET_FILE: Final = 1
_NAME: Final = 1
_FILE_PACKAGE: Final = 2
_FILE_DEPENDENCY: Final = 3
_FILE_MESSAGE: Final = 4
_FILE_ENUM: Final = 5
_FILE_SERVICE: Final = 6
_MESSAGE_NESTED: Final = 3
_MESSAGE_ENUM: Final = 4
_SERVICE_METHOD: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One proto."""

    name: str
    imports: tuple[str, ...]
    descriptor: bytes
    """A serialized google.protobuf.FileDescriptorProto."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """All protos of the contract."""

    files: Mapping[str, File]
    symbols: Mapping[str, File]
    """Services, methods, messages and enums by full name."""
    messages: frozenset[str]

    def closure(self, file: File) -> Iterator[File]:
        """A file, then all that it imports, each once."""
        waiting, seen = [file], {file.name}
        while waiting:
            file = waiting.pop(0)
            yield file
            for name in file.imports:
                if name in self.files and name not in seen:
                    seen.add(name)
                    waiting.append(self.files[name])


def read_descriptors(compiled: Path = COMPILED) -> Descriptors:
    """Index a serialized google.protobuf.FileDescriptorSet. Raises OSError and ValueError for what is none."""
    files: dict[str, File] = {}
    symbols: dict[str, File] = {}
    messages: set[str] = set()
    for number, descriptor in _fields(compiled.read_bytes()):
        if number != _SET_FILE:
            continue
        file = File(
            name=_text(descriptor, _NAME),
            imports=tuple(_texts(descriptor, _FILE_DEPENDENCY)),
            descriptor=descriptor,
        )
        files[file.name] = file
        own = set(_messages(descriptor))
        messages |= own
        symbols.update(dict.fromkeys((*own, *_enums(descriptor), *_services(descriptor)), file))
    return Descriptors(files=files, symbols=symbols, messages=frozenset(messages))


def _messages(file: bytes) -> Iterator[str]:
    package = _text(file, _FILE_PACKAGE)
    for message in _all(file, _FILE_MESSAGE):
        yield from (name for name, _ in _nested(package, message))


def _enums(file: bytes) -> Iterator[str]:
    package = _text(file, _FILE_PACKAGE)
    yield from (_full(package, _text(enum, _NAME)) for enum in _all(file, _FILE_ENUM))
    for message in _all(file, _FILE_MESSAGE):
        for name, nested in _nested(package, message):
            yield from (_full(name, _text(enum, _NAME)) for enum in _all(nested, _MESSAGE_ENUM))


def _services(file: bytes) -> Iterator[str]:
    for service in _all(file, _FILE_SERVICE):
        name = _full(_text(file, _FILE_PACKAGE), _text(service, _NAME))
        yield name
        yield from (_full(name, _text(method, _NAME)) for method in _all(service, _SERVICE_METHOD))


def _nested(scope: str, message: bytes) -> Iterator[tuple[str, bytes]]:
    name = _full(scope, _text(message, _NAME))
    yield name, message
    for inner in _all(message, _MESSAGE_NESTED):
        yield from _nested(name, inner)


def _full(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name


def _all(message: bytes, wanted: int) -> Iterator[bytes]:
    return (value for number, value in _fields(message) if number == wanted)


def _texts(message: bytes, wanted: int) -> Iterable[str]:
    return (value.decode() for value in _all(message, wanted))


def _text(message: bytes, wanted: int) -> str:
    return next(iter(_texts(message, wanted)), "")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of one message; varints are skipped, and nothing else is in a descriptor."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        size, at = _varint(message, at)
        if tag & 7 == _VARINT:
            continue
        if tag & 7 != _LENGTH_DELIMITED or at + size > len(message):
            raise ValueError("not a compiled set of descriptors: run protos/generate.py")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message):
            raise ValueError("compiled descriptors are cut off: run protos/generate.py")
        value |= (message[at] & 0x7F) << shift
        at += 1
        if message[at - 1] < 0x80:
            return value, at
        shift += 7
