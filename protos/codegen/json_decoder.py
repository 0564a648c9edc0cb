"""Writes the functions that read JSON: Python source, two functions a message and one an enum.

A local variable `f_<name>` holds each field until the message is built at the end, `o_<oneof>` the name of the member
that was found. Each field has a bit: `fields_<message>` leads from all of its names to it, `done` holds those seen.
"""

from codegen.contract import Enum, Field, Message
from codegen.source import DEFAULTS, function_of, indented

_READERS = {
    **dict.fromkeys(("int32", "sint32", "sfixed32"), "as_int32"),
    **dict.fromkeys(("int64", "sint64", "sfixed64"), "as_int64"),
    **dict.fromkeys(("uint32", "fixed32"), "as_uint32"),
    **dict.fromkeys(("uint64", "fixed64"), "as_uint64"),
    **{kind: f"as_{kind}" for kind in ("double", "float", "bool", "bytes")},
    "string": "as_text",
}


def json_enum_tables(enum: Enum) -> str:
    """The source of an enum's names and of its reader."""
    members = [f"    {name!r}: {enum.name}({number})," for name, number in enum.values]
    lines = [
        f"members_{enum.name} = {{",
        *members,
        "}",
        f"labels_{enum.name} = labels(members_{enum.name})",
        f"default_{enum.name} = {enum.name}(0)",
        "",
        "",
        f"def read_{enum.name}(value: object) -> {enum.name}:",
        f"    if type(value) is str and value in members_{enum.name}:",
        f"        return members_{enum.name}[value]",
        f"    return as_member(value, {enum.name})",
    ]
    return "\n".join(lines)


def json_names(message: Message) -> str:
    """The source of the table from the names of a message's fields to their bits."""
    names = [
        f"    {name!r}: {1 << place},"
        for place, field in enumerate(message.by_number)
        for name in dict.fromkeys((field.proto_name, field.json_name))
    ]
    return "\n".join([f"fields_{message.name}: dict[str, int] = {{", *names, "}"])


def json_decode_functions(message: Message, package: str) -> str:
    """The source of the public decode function and of the reader below it."""
    public = [
        f"def decode_{message.name}(data: bytes | str, size_max: int = MAX_SIZE) -> {message.name}:",
        f'    """Reads one {message.full_name} from JSON of at most `size_max` bytes."""',
        f"    return read_{message.name}(parsed(data, size_max), MAX_LEVELS - 1, [MAX_MESSAGES])",
    ]
    return "\n\n\n".join([_reader(message, package), "\n".join(public)])


def _reader(message: Message, package: str) -> str:
    oneofs = sorted({field.oneof for field in message.fields if field.oneof})
    body = [
        "if type(found) is not tuple:",
        "    raise not_an_object(found)",
        "room[0] -= 1",
        "if depth < 0 or room[0] < 0:",
        "    raise too_large(depth)",
        *(f"f_{field.name} = {_default(field, package)}" for field in message.fields),
        *(f'o_{oneof} = ""' for oneof in oneofs),
        *_loop(message, package),
        f"return {message.name}({', '.join(f'f_{field.name}' for field in message.fields)})",
    ]
    head = f"def read_{message.name}(found: object, depth: int, room: list[int]) -> {message.name}:"
    return "\n".join([head, *indented(body, 1)])


def _loop(message: Message, package: str) -> list[str]:
    if not message.fields:
        refusal = f"error = refused_name({message.full_name!r}, 0)"
        return ["for key, _ in found:", *indented([refusal, "error.inside(key)", "raise error"], 1)]
    cases: list[str] = []
    for place, field in enumerate(message.by_number):
        cases += [f"{'elif' if place else 'if'} field == {1 << place}:", *indented(_stored(field, package), 1)]
    return [
        "done = 0",
        'key = ""',
        "try:",
        "    for key, value in found:",
        f"        field = fields_{message.name}.get(key, 0)",
        "        if not field or done & field:",
        f"            raise refused_name({message.full_name!r}, field)",
        "        done |= field",
        "        if value is None:",
        "            continue",
        *indented(cases, 2),
        "except json_format.JsonDecodeError as error:",
        "    error.inside(key)",
        "    raise",
    ]


def _stored(field: Field, package: str) -> list[str]:
    alone = []
    if field.oneof:
        alone = [f"if o_{field.oneof}:", f"    raise second_member(o_{field.oneof})", f"o_{field.oneof} = key"]
    return [*alone, f"f_{field.name} = {_value(field, package)}"]


def _value(field: Field, package: str) -> str:
    """An expression that reads the field's whole value."""
    if field.entry:
        key, item = field.entry
        read = _read(item, package)
        if item.kind == "message":
            read = f"lambda item: {read}(item, depth - 1, room)"
        return f"map_of(value, {_read(key, package)}, {read}, room)"
    if field.kind == "message":
        read = _read(field, package)
        return f"messages_of(value, {read}, depth - 1, room)" if field.repeated else f"{read}(value, depth - 1, room)"
    return f"list_of(value, {_read(field, package)})" if field.repeated else f"{_read(field, package)}(value)"


def _read(field: Field, package: str) -> str:
    return _READERS.get(field.kind) or function_of("read", field.type_name, package)


def _default(field: Field, package: str) -> str:
    if field.repeated:
        return "[]"
    if field.presence:
        return "None"
    if field.kind == "enum":
        return function_of("default", field.type_name, package)
    return DEFAULTS.get(field.kind, "0")
