"""Writes the decode functions: Python source, two functions a message, that read what upb reads.

The generated reader walks over the whole message's bytes without copying inner messages; a local variable `f_<name>`
holds each field until the message is built at the end. `seen` is the value that the field has already, to merge with;
`room` is how many messages may still come.
"""

from codegen.contract import Field, Message
from codegen.source import DEFAULTS, STRUCTS, WIRE_TYPES, class_of, function_of, indented


def decode_functions(message: Message, package: str) -> str:
    """The source of the public decode function, of the reader below it, and of readers for the entries of its maps."""
    entries = [_entry_reader(message, field, field.entry, package) for field in message.fields if field.entry]
    public = [
        f"def decode_{message.name}(data: bytes) -> {message.name}:",
        f'    """Reads one {message.full_name}."""',
        "    if type(data) is not bytes:",
        "        data = buffer(data)",
        f"    return read_{message.name}(data, 0, len(data), MAX_DEPTH, None, [MAX_MESSAGES])",
    ]
    return "\n\n\n".join([*entries, _reader(message, package), "\n".join(public)])


def _reader(message: Message, package: str) -> str:
    names = [field.name for field in message.fields]
    body = _loop(message.full_name, _cases_of(message, message.by_number, package), [])
    if names:
        body = [
            "if seen is None:",
            *(f"    f_{field.name} = {_default(field, package)}" for field in message.fields),
            "else:",
            *(f"    f_{name} = seen.{name}" for name in names),
            *body,
        ]
    arguments = ", ".join(f"f_{name}" for name in names)
    signature = f"data: bytes, at: int, end: int, depth: int, seen: {message.name} | None, room: list[int]"
    head = f"def read_{message.name}({signature}) -> {message.name}:"
    return "\n".join([head, *indented([*body, f"return {message.name}({arguments})"], 1)])


def _entry_reader(message: Message, field: Field, entry: tuple[Field, Field], package: str) -> str:
    """A reader for one entry of a map. Like upb it leaves out an entry that holds an unknown field."""
    key, value = entry
    body = [
        f"f_key = {_default(key, package)}",
        f"f_value = {_default(value, package)}",
        "whole = True",
        *_loop(field.full_name, _cases_of(message, entry, package), ["whole = False"]),
    ]
    if value.kind == "message":
        body += ["if f_value is None:", f"    f_value = {class_of(value.type_name, package)}()"]
    body += ["if whole:", "    into[f_key] = f_value"]
    signature = "data: bytes, at: int, end: int, depth: int, into: dict, room: list[int]"
    return "\n".join([f"def read_{message.name}_{field.name}({signature}) -> None:", *indented(body, 1)])


_Cases = dict[int, list[str]]
"""Tag -> lines that read its field."""


def _cases_of(message: Message, fields: tuple[Field, ...], package: str) -> _Cases:
    cases = {}
    for field in fields:
        wire_type = WIRE_TYPES[field.kind]
        if wire_type == 0:
            lines, value = _converted(field, package)
            cases[field.number << 3] = [*lines, *_store(message, field, value)]
        elif wire_type == 2:
            cases[field.number << 3 | 2] = _sized(message, field, package)
        else:
            struct, size = STRUCTS[field.kind]
            lines = ["if at + {size} > end:", "    raise cut_off({name}, tag, end)"]
            lines = [line.format(size=size, name=repr(message.full_name)) for line in lines]
            lines += [*_store(message, field, f"{struct}.unpack_from(data, at)[0]"), f"at += {size}"]
            cases[field.number << 3 | wire_type] = lines
        if field.repeated and wire_type != 2:
            cases[field.number << 3 | 2] = _packed(message, field, package)
    return cases


def _loop(name: str, cases: _Cases, unknown: list[str]) -> list[str]:
    """Lines that read fields until `end`; `unknown` are lines for fields that are not in `cases`."""
    name = repr(name)
    zero = [
        "elif tag < 8:",
        f"    raise field_zero({name}, at)",
        *(["else:", *indented(unknown, 1)] if unknown else []),
    ]
    other = ["else:", *indented([*unknown, f"at = skip(data, at, tag, depth, {name})"], 1)]
    return [
        "room[0] -= 1",
        "if depth < 0 or room[0] < 0:",
        f"    raise too_large({name}, at, depth)",
        "tag = 0",
        "try:",
        "    while at < end:",
        "        tag = data[at]",
        "        at += 1",
        "        if tag > 127:",
        "            tag, at = long_tag(data, at, tag)",
        "        kind = tag & 7",
        "        if kind == 2:",
        *indented(_read_size(name), 3),
        *indented(_branches({tag: lines for tag, lines in cases.items() if tag & 7 == 2}, zero), 3),
        "            at = stop",
        "        elif kind == 0:",
        *indented(_read_number(), 3),
        *indented(_branches({tag: lines for tag, lines in cases.items() if tag & 7 == 0}, zero), 3),
        *indented(_branches({tag: lines for tag, lines in cases.items() if tag & 7 not in (0, 2)}, other, "elif"), 2),
        "except (IndexError, UnicodeDecodeError) as error:",
        f"    raise unreadable({name}, tag, at, error) from None",
        "if at != end:",
        f"    raise cut_off({name}, tag, end)",
    ]


def _read_size(name: str) -> list[str]:
    return [
        "stop = data[at]",
        "at += 1",
        "if stop > 127:",
        "    stop, at = long_size(data, at, stop)",
        "stop += at",
        "if stop > end:",
        f"    raise cut_off({name}, tag, end)",
    ]


def _read_number() -> list[str]:
    return [
        "number = data[at]",
        "at += 1",
        "if number > 127:",
        "    number, at = long_varint(data, at, number)",
    ]


def _branches(cases: _Cases, last: list[str], word: str = "if") -> list[str]:
    lines = []
    for tag, body in sorted(cases.items()):
        lines += [f"{word} tag == {tag}:", *indented(body, 1)]
        word = "elif"
    return lines + (last if word == "elif" else [last[0].removeprefix("el"), *last[1:]])


def _sized(message: Message, field: Field, package: str) -> list[str]:
    if field.entry:
        return [f"read_{message.name}_{field.name}(data, at, stop, depth - 1, f_{field.name}, room)"]
    if field.kind == "message":
        seen = "None" if field.repeated else f"f_{field.name}"
        reader = function_of("read", field.type_name, package)
        return _store(message, field, f"{reader}(data, at, stop, depth - 1, {seen}, room)")
    return _store(message, field, "data[at:stop].decode()" if field.kind == "string" else "data[at:stop]")


def _packed(message: Message, field: Field, package: str) -> list[str]:
    refusal = f"    raise cut_off({message.full_name!r}, tag, stop)"
    if field.kind in STRUCTS:
        struct, size = STRUCTS[field.kind]
        values = f"[value for (value,) in {struct}.iter_unpack(data[at:stop])]"
        return [f"if (stop - at) % {size}:", refusal, f"f_{field.name} += {values}"]
    lines, value = _converted(field, package)
    each = [*_read_number(), *lines, f"f_{field.name}.append({value})"]
    return ["while at < stop:", *indented(each, 1), "if at != stop:", refusal]


def _converted(field: Field, package: str) -> tuple[list[str], str]:
    """Lines and an expression that make the field's value of the 64 bits in `number`, cut as upb cuts."""
    if field.kind in ("bool", "uint64", "uint32"):
        return [], {"bool": "number != 0", "uint64": "number", "uint32": "number & 0xFFFFFFFF"}[field.kind]
    if field.kind in ("sint32", "sint64"):
        cut = ["number &= 0xFFFFFFFF"] if field.kind == "sint32" else []
        return cut, "number >> 1 ^ -(number & 1)"
    if field.kind == "int64":
        return ["if number > 0x7FFFFFFFFFFFFFFF:", "    number -= 0x10000000000000000"], "number"
    cut = ["if number > 0x7FFFFFFF:", "    number = (number & 0xFFFFFFFF ^ 0x80000000) - 0x80000000"]
    if field.kind == "int32":
        return cut, "number"
    kind, members = class_of(field.type_name, package), function_of("members", field.type_name, package)
    return cut, f"{members}[number] if number in {members} else {kind}(number)"


def _store(message: Message, field: Field, value: str) -> list[str]:
    if field.repeated:
        return [f"f_{field.name}.append({value})"]
    rivals = "".join(f"f_{rival.name} = " for rival in message.rivals(field))
    return [f"f_{field.name} = {value}", *([f"{rivals}None"] if rivals else [])]


def _default(field: Field, package: str) -> str:
    if field.repeated:
        return "[]"
    if field.presence:
        return "None"
    if field.kind == "enum":
        return f"{function_of('members', field.type_name, package)}[0]"
    return DEFAULTS.get(field.kind, "0")
