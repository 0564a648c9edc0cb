"""What a proto may not say, because the message library would handle it wrongly or the codec cannot carry it."""

import builtins
from collections import Counter
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from codegen.contract import DESCRIBED_ONLY, class_name, enums_of, kind_of, messages_of


def refusals(files: FileDescriptorSet) -> list[str]:
    """One sentence for each thing to change in the protos before code can be generated from them."""
    own = [file for file in files.file if not file.package.startswith(DESCRIBED_ONLY)]
    return [sentence for file in own for sentence in _of_file(file)] + _of_classes(own)


def _of_file(file: FileDescriptorProto) -> Iterator[str]:
    if file.syntax != "proto3":
        yield f'{file.name}: say syntax = "proto3"; others have required fields, groups and closed enums.'
    if not file.package:
        yield f"{file.name}: declare a package; the generated code stands in its folder."
    yield from _of_fields(file)
    for service in file.service:
        yield from _of_service(f"{file.package}.{service.name}", service)
    for imported in file.dependency:
        if imported.startswith("google/"):
            yield f"{file.name}: remove the import of {imported}, whose types are not handled exactly."


def _of_fields(file: FileDescriptorProto) -> Iterator[str]:
    messages = list(messages_of(file))
    # A map's entry is a message that nobody wrote; whoever must change it looks for the map's own name.
    maps = {field.type_name: f"{full_name}.{field.name}" for full_name, message in messages for field in message.field}
    for full_name, message in messages:
        yield from _of_json_names(full_name, message)
        for field in message.field:
            sentence = _of_field(message, field)
            if sentence:
                name = maps[f".{full_name}"] if message.options.map_entry else f"{full_name}.{field.name}"
                yield f"{name}: {sentence}"


def _of_field(message: DescriptorProto, field: FieldDescriptorProto) -> str | None:
    if field.type_name.startswith(f".{DESCRIBED_ONLY}"):
        return f"{field.type_name[1:]} is not handled exactly; use an integer in a declared unit or an own message."
    if kind_of(field) == "group" or field.label == FieldDescriptorProto.LABEL_REQUIRED:
        return "groups and required fields belong to proto2; use a message or an ordinary field."
    if message.options.map_entry and field.name == "key" and kind_of(field) == "bool":
        return "a bool as the key of a map is not handled exactly; use a string or an integer."
    return None


def _of_json_names(full_name: str, message: DescriptorProto) -> Iterator[str]:
    """Protoc lets this pass where the names are given; google's readers of descriptors (upb) do not."""
    for field in message.field:
        for other in message.field:
            if field.json_name == other.name and field.name != other.name:
                yield f"{full_name}.{field.name}: rename it in JSON; {other.name} is the name of another field."


def _of_service(full_name: str, service: ServiceDescriptorProto) -> Iterator[str]:
    for method in service.method:
        for type_name in (method.input_type, method.output_type):
            if type_name.startswith(f".{DESCRIBED_ONLY}"):
                yield f"{full_name}.{method.name}: {type_name[1:]} is not handled exactly; declare an own message."


def _of_classes(files: list[FileDescriptorProto]) -> list[str]:
    """Types whose Python classes would hide one another, or one of Python's own."""
    count = Counter(
        (file.package, class_name(file.package, full_name))
        for file in files
        for full_name in [
            *(name for name, message in messages_of(file) if not message.options.map_entry),
            *(name for name, _ in enums_of(file)),
        ]
    )
    return [
        f"{package}: rename a type; the Python class {name} would hide another one."
        for (package, name), times in sorted(count.items())
        if times > 1 or hasattr(builtins, name)
    ]
