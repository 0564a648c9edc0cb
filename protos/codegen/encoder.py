"""Writes the encode functions: Python source, one function a message, that refuse what a field cannot carry."""

from codegen.contract import Field, Message
from codegen.source import RANGES, STRUCTS, WIRE_TYPES, class_of, function_of, indented


def encode_function(message: Message, package: str) -> str:
    """The source of one encode function."""
    lines = [
        f"def encode_{message.name}(message: {message.name}, depth: int = MAX_DEPTH) -> bytes:",
        f'    """Writes one {message.full_name}."""',
        f"    if type(message) is not {message.name} and not isinstance(message, {message.name}):",
        f"        raise wrong_type(message, {message.name!r}, {message.full_name!r})",
        "    if depth < 0:",
        f"        raise nested_too_deep({message.full_name!r})",
    ]
    if not message.fields:
        return "\n".join([*lines, '    return b""'])
    body = [line for field in message.by_number for line in _field(message, field, package)]
    faults = _faults(message)
    if faults:
        call = f"raise unwritable(message, {message.full_name!r}, error) from None"
        body = ["try:", *indented(body, 1), f"except ({', '.join(faults)}) as error:", f"    {call}"]
    return "\n".join([*lines, "    out: list[bytes] = []", *indented(body, 1), '    return b"".join(out)'])


def _faults(message: Message) -> list[str]:
    """Exceptions of Python's own that writing can raise where every type is right."""
    kinds = {part.kind for field in message.fields for part in (field.entry or (field,))}
    return ["UnicodeEncodeError"] * ("string" in kinds) + ["OverflowError"] * ("float" in kinds)


def _field(message: Message, field: Field, package: str) -> list[str]:
    load = f"value = message.{field.name}"
    if field.entry:
        return [load, *_map(field, field.entry, package)]
    if field.repeated:
        return [load, *_repeated(field, package)]
    lines = [*checked(field, package), *_written(field, package)]
    if field.presence:
        return [load, "if value is not None:", *indented([*alone(message, field), *lines], 1)]
    test = "value or copysign(1.0, value) < 0" if field.kind in ("double", "float") else "value"
    return [load, *checked(field, package), f"if {test}:", *indented(_written(field, package), 1)]


def alone(message: Message, field: Field) -> list[str]:
    """Lines that refuse members of the same oneof which would be written after this one."""
    rivals = message.rivals(field)
    later = [f"message.{rival.name} is not None" for rival in rivals if rival.number > field.number]
    if not later:
        return []
    names = ", ".join(member.name for member in message.by_number if member.oneof == field.oneof)
    return [f"if {' or '.join(later)}:", f"    raise too_many('{message.full_name}.{field.oneof}', {names!r})"]


def _repeated(field: Field, package: str) -> list[str]:
    lines = ["if type(value) is not list:", f"    value = items(value, {field.full_name!r})"]
    if WIRE_TYPES[field.kind] == 2:
        each = [*checked(field, package), *_written(field, package)]
        return [*lines, "for value in value:", *indented(each, 1)]
    return [
        *lines,
        "if value:",
        "    packed: list[bytes] = []",
        "    for value in value:",
        *indented(checked(field, package), 2),
        f"        packed.append({_scalar(field)})",
        '    body = b"".join(packed)',
        *indented(_sized("body", field), 1),
    ]


def _map(field: Field, entry: tuple[Field, Field], package: str) -> list[str]:
    key, item = entry
    return [
        "if type(value) is not dict:",
        f"    raise wrong_type(value, 'dict', {field.full_name!r})",
        "if value:",
        "    whole = out",
        "    for key, item in value.items():",
        "        out = []",
        *indented(["value = key", *checked(key, package), *_written(key, package)], 2),
        *indented(["value = item", *checked(item, package), *_written(item, package)], 2),
        '        body = b"".join(out)',
        "        out = whole",
        *indented(_sized("body", field), 2),
    ]


def checked(field: Field, package: str) -> list[str]:
    """Lines behind which `value` has the field's Python type and range."""
    name = repr(field.full_name)
    if field.kind == "message":
        return []  # its own function looks
    if field.kind in RANGES:
        return [*_of_type("int", f"integer(value, {name})"), *_in_range(field)]
    if field.kind == "enum":
        kind = class_of(field.type_name, package)
        return [*_of_type("int", f"member(value, {kind}, {name})"), *_in_range(field)]
    if field.kind in ("double", "float"):
        return _of_type("float", f"real(value, {name})")
    if field.kind == "string":
        return _of_type("str", f"text(value, {name})")
    return [f"if type(value) is not {field.kind}:", f"    raise wrong_type(value, {field.kind!r}, {name})"]


def _of_type(kind: str, otherwise: str) -> list[str]:
    return [f"if type(value) is not {kind}:", f"    value = {otherwise}"]


def _in_range(field: Field) -> list[str]:
    low, high = RANGES["int32" if field.kind == "enum" else field.kind]
    refusal = f"raise out_of_range(value, {low}, {high}, {field.full_name!r})"
    return [f"if not {low} <= value <= {high}:", f"    {refusal}"]


def _written(field: Field, package: str) -> list[str]:
    """Lines that append the tag and the checked `value`."""
    if field.kind == "string":
        return ["body = value.encode()", *_sized("body", field)]
    if field.kind == "bytes":
        return _sized("value", field)
    if field.kind == "message":
        function = function_of("encode", field.type_name, package)
        return [f"body = {function}(value, depth - 1)", *_sized("body", field)]
    return [f"out += ({_tag(field.number, WIRE_TYPES[field.kind])}, {_scalar(field)})"]


def _sized(body: str, field: Field) -> list[str]:
    size = f"SIZE[size] if size < 128 else length(size, {field.full_name!r})"
    return [f"size = len({body})", f"out += ({_tag(field.number, 2)}, {size}, {body})"]


def _scalar(field: Field) -> str:
    """An expression for the bytes of the checked `value`."""
    if field.kind in STRUCTS:
        return f"{STRUCTS[field.kind][0]}.pack(value)"
    if field.kind == "bool":
        return "SIZE[value]"
    if field.kind in ("sint32", "sint64"):
        return f"varint(value << 1 ^ value >> {31 if field.kind == 'sint32' else 63})"
    return "SIZE[value] if 0 <= value < 128 else varint(value)"


def _tag(number: int, wire_type: int) -> str:
    value, out = number << 3 | wire_type, bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return repr(bytes([*out, value]))
