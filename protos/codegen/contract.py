"""The contract: what the protos declare, as values that the writers of source code read."""

from collections.abc import Iterator
from dataclasses import dataclass

from betterproto2_compiler.compile.naming import pythonize_class_name, pythonize_field_name
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodOptions,
    ServiceDescriptorProto,
)

DESCRIBED_ONLY = "google."
"""Packages that begin so are described to clients by reflection; no code is made of them."""

_KINDS = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeName:
    """A message or enum class of a generated package."""

    package: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. `kind` is the protobuf type in lower case; a map's kind is "map"."""

    full_name: str
    name: str
    json_name: str
    number: int
    kind: str
    repeated: bool
    # Whether "not set" and the default value are told apart: `optional`, members of oneofs, messages.
    presence: bool
    oneof: str | None
    # The message or enum; empty for scalars and maps.
    type_name: TypeName
    # Key and value of a map.
    entry: tuple["Field", "Field"] | None

    @property
    def proto_name(self) -> str:
        """The name as the proto says it."""
        return self.full_name.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, its fields in the order of declaration, which is the order of the constructor's arguments."""

    full_name: str
    name: str
    fields: tuple[Field, ...]

    @property
    def by_number(self) -> tuple[Field, ...]:
        """The fields in the order in which they are written."""
        return tuple(sorted(self.fields, key=lambda field: field.number))

    def rivals(self, field: Field) -> tuple[Field, ...]:
        """The other members of a field's oneof, in the order in which they are written."""
        if field.oneof is None:
            return ()
        return tuple(other for other in self.by_number if other.oneof == field.oneof and other != field)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enum:
    """One enum, its values in the order of declaration; the first is 0. Two names may stand for one number."""

    full_name: str
    name: str
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of a service."""

    path: str
    # A name of `Cardinality` in `service_table.py`.
    cardinality: str
    request: TypeName
    reply: TypeName
    side_effect_free: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Everything that one protobuf package declares."""

    name: str
    sources: tuple[str, ...]
    messages: tuple[Message, ...]
    enums: tuple[Enum, ...]
    methods: tuple[Method, ...]


@dataclass(frozen=True, slots=True)
class _Names:
    """What the names in descriptors stand for."""

    types: dict[str, TypeName]
    entries: dict[str, DescriptorProto]


def read(files: FileDescriptorSet) -> tuple[Package, ...]:
    """The packages of a descriptor set without refusals (see `refusals.py`), in the order of their names."""
    own = [file for file in files.file if not file.package.startswith(DESCRIBED_ONLY)]
    names = _Names(
        types={name: type_name for file in own for name, type_name in _type_names(file)},
        entries={
            f".{full_name}": message
            for file in own
            for full_name, message in messages_of(file)
            if message.options.map_entry
        },
    )
    packages = sorted({file.package for file in own})
    return tuple(_package(name, [file for file in own if file.package == name], names) for name in packages)


def messages_of(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    """Every message of a file with its full name, nested ones behind their holder, map entries included."""

    def walk(prefix: str, messages: list[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
        for message in messages:
            full_name = f"{prefix}.{message.name}".lstrip(".")
            yield full_name, message
            yield from walk(full_name, list(message.nested_type))

    return walk(file.package, list(file.message_type))


def enums_of(file: FileDescriptorProto) -> Iterator[tuple[str, EnumDescriptorProto]]:
    """Every enum of a file with its full name."""
    for enum in file.enum_type:
        yield f"{file.package}.{enum.name}".lstrip("."), enum
    for full_name, message in messages_of(file):
        for enum in message.enum_type:
            yield f"{full_name}.{enum.name}", enum


def kind_of(field: FieldDescriptorProto) -> str:
    """The protobuf type in lower case, such as "int32"."""
    return _KINDS[field.type]


def class_name(package: str, full_name: str) -> str:
    """The class that betterproto2 makes of a message or an enum: nested names are joined."""
    name: str = pythonize_class_name(full_name.removeprefix(f"{package}."))
    return name


def _type_names(file: FileDescriptorProto) -> Iterator[tuple[str, TypeName]]:
    for full_name in [*(name for name, _ in messages_of(file)), *(name for name, _ in enums_of(file))]:
        yield f".{full_name}", TypeName(package=file.package, name=class_name(file.package, full_name))


def _package(name: str, files: list[FileDescriptorProto], names: _Names) -> Package:
    messages = [
        Message(
            full_name=full_name,
            name=names.types[f".{full_name}"].name,
            fields=tuple(_field(full_name, message, field, names) for field in message.field),
        )
        for file in files
        for full_name, message in messages_of(file)
        if not message.options.map_entry
    ]
    enums = [
        Enum(
            full_name=full_name,
            name=names.types[f".{full_name}"].name,
            values=tuple((value.name, value.number) for value in enum.value),
        )
        for file in files
        for full_name, enum in enums_of(file)
    ]
    return Package(
        name=name,
        sources=tuple(sorted(file.name for file in files)),
        messages=tuple(sorted(messages, key=lambda message: message.name)),
        enums=tuple(sorted(enums, key=lambda enum: enum.name)),
        methods=tuple(
            method for file in files for service in file.service for method in _methods(name, service, names)
        ),
    )


def _field(owner: str, message: DescriptorProto, field: FieldDescriptorProto, names: _Names) -> Field:
    full_name = f"{owner}.{field.name}"
    entry = names.entries.get(field.type_name)
    kind = "map" if entry else kind_of(field)
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    in_oneof = field.HasField("oneof_index") and not field.proto3_optional
    return Field(
        full_name=full_name,
        name=pythonize_field_name(field.name),
        json_name=field.json_name,
        number=field.number,
        kind=kind,
        repeated=repeated and not entry,
        presence=not repeated and (in_oneof or field.proto3_optional or kind == "message"),
        oneof=message.oneof_decl[field.oneof_index].name if in_oneof else None,
        type_name=names.types[field.type_name] if kind in ("message", "enum") else TypeName(package="", name=""),
        entry=_entry(full_name, entry, names) if entry else None,
    )


def _entry(full_name: str, entry: DescriptorProto, names: _Names) -> tuple[Field, Field]:
    key, value = entry.field
    return _field(full_name, entry, key, names), _field(full_name, entry, value, names)


def _methods(package: str, service: ServiceDescriptorProto, names: _Names) -> Iterator[Method]:
    for method in service.method:
        sides = (method.client_streaming, method.server_streaming)
        yield Method(
            path=f"/{package}.{service.name}/{method.name}",
            cardinality="_".join("STREAM" if streams else "UNARY" for streams in sides),
            request=names.types[method.input_type],
            reply=names.types[method.output_type],
            side_effect_free=method.options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS,
        )
