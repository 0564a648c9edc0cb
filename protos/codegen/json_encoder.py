"""Writes the functions that write JSON: Python source, two functions a message, in the form of `encoder.py`.

The inner function gives text; the public one makes it UTF-8 once. `out` collects the members of the object.
"""

import json

from codegen.contract import Field, Message
from codegen.encoder import alone, checked
from codegen.source import function_of, indented

_QUOTED = ("int64", "uint64", "sint64", "fixed64", "sfixed64")


def json_encode_functions(message: Message, package: str) -> str:
    """The source of the public encode function and of the writer below it."""
    public = [
        f"def encode_{message.name}(message: {message.name}) -> bytes:",
        f'    """Writes one {message.full_name} as JSON."""',
        "    try:",
        f"        return write_{message.name}(message, MAX_LEVELS - 1).encode()",
        "    except UnicodeEncodeError:",
        f"        raise half_pair(message, {message.full_name!r}) from None",
    ]
    return "\n\n\n".join([_writer(message, package), "\n".join(public)])


def _writer(message: Message, package: str) -> str:
    lines = [
        f"def write_{message.name}(message: {message.name}, depth: int) -> str:",
        f"    if type(message) is not {message.name} and not isinstance(message, {message.name}):",
        f"        raise wrong_type(message, {message.name!r}, {message.full_name!r})",
        "    if depth < 0:",
        f"        raise nested_too_deep({message.full_name!r})",
    ]
    if not message.fields:
        return "\n".join([*lines, '    return "{}"'])
    body = [line for field in message.by_number for line in _field(message, field, package)]
    return "\n".join([*lines, "    out: list[str] = []", *indented(body, 1), '    return "{" + ",".join(out) + "}"'])


def _field(message: Message, field: Field, package: str) -> list[str]:
    load = f"value = message.{field.name}"
    if field.entry:
        return [load, *_map(field, field.entry, package)]
    if field.repeated:
        return [load, *_repeated(field, package)]
    checks = _checked(field, package)
    key = _key(field).replace("{", "{{").replace("}", "}}")
    write = f"out.append(f{key + ':' + _value(field, package)!r})"
    if field.presence:
        return [load, "if value is not None:", *indented([*alone(message, field), *checks, write], 1)]
    test = "value or copysign(1.0, value) < 0" if field.kind in ("double", "float") else "value"
    return [load, *checks, f"if {test}:", f"    {write}"]


def _repeated(field: Field, package: str) -> list[str]:
    return [
        "if type(value) is not list:",
        f"    value = items(value, {field.full_name!r})",
        "if value:",
        "    parts = []",
        "    for value in value:",
        *indented(_checked(field, package), 2),
        f"        parts.append({_item(field, package)})",
        f"    out.append({_joined(field, '[', ']')})",
    ]


def _map(field: Field, entry: tuple[Field, Field], package: str) -> list[str]:
    key, item = entry
    write_key = "quote(value)" if key.kind == "string" else """f'"{value}"'"""
    return [
        "if type(value) is not dict:",
        f"    raise wrong_type(value, 'dict', {field.full_name!r})",
        "if value:",
        "    parts = []",
        "    for value, item in value.items():",
        *indented(_checked(key, package), 2),
        f"        key = {write_key}",
        "        value = item",
        *indented(_checked(item, package), 2),
        f"        parts.append(f{'{key}:' + _value(item, package)!r})",
        f"    out.append({_joined(field, '{', '}')})",
    ]


def _item(field: Field, package: str) -> str:
    """An expression for the text of the checked `value`; not an f-string where a function gives the text."""
    value = _value(field, package)
    return value[1:-1] if field.kind in ("string", "double", "float", "message") else f"f{value!r}"


def _joined(field: Field, opening: str, closing: str) -> str:
    return f'{_key(field) + ":" + opening!r} + ",".join(parts) + {closing!r}'


def _checked(field: Field, package: str) -> list[str]:
    lines = checked(field, package)
    return [*lines, f"value = narrow(value, {field.full_name!r})"] if field.kind == "float" else lines


def _key(field: Field) -> str:
    return json.dumps(field.json_name, ensure_ascii=False)


def _value(field: Field, package: str) -> str:
    """The JSON of the checked `value`, in the syntax of an f-string."""
    if field.kind in _QUOTED:
        return '"{value}"'
    if field.kind == "message":
        return f"{{{function_of('write', field.type_name, package)}(value, depth - 1)}}"
    if field.kind == "enum":
        return f"{{{function_of('labels', field.type_name, package)}.get(value, value)}}"
    return {
        "string": "{quote(value)}",
        "bytes": '"{base64(value)}"',
        "bool": "{TRUTH[value]}",
        "double": "{number(value)}",
        "float": "{number(value)}",
    }.get(field.kind, "{value}")
