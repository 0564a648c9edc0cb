"""The shape of the file: raw TOML becomes tables, or every place that has another shape is named.

msgspec stops at the first fault; an operator wants all of them, with the names that stand in the file.
"""

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from gateway.settings.file import File
from gateway.settings.forms import NAME, shown
from gateway.settings.table import Table

TEXT_LENGTH_MAX: Final = 4_096


def shaped(raw: object) -> tuple[File | None, list[str]]:
    """The file, if every value has its type; and everything that is wrong with it, its tables' own faults included."""
    faults = list(_table_faults(raw, File, ""))
    try:
        return msgspec.convert(raw, File), faults
    except msgspec.ValidationError as error:
        return None, faults or [str(error)]


_PLAIN: Final[Mapping[type, str]] = {
    int: "write a whole number, without quotes",
    bool: "write true or false, without quotes",
}
"""What is to be written where a value is of another kind."""


def _value_faults(value: object, kind: object, place: str) -> Iterator[str]:
    """The faults of a value that should be of this kind, and of all that is in it."""
    origin = get_origin(kind)
    if origin is UnionType:
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
        origin = get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, Table):
        yield from _table_faults(value, kind, place)
    elif origin is list:
        yield from _list_faults(value, get_args(kind)[0], place)
    elif origin is dict:
        yield from _named_tables_faults(value, get_args(kind)[1], place)
    elif origin is Literal:
        if value not in get_args(kind):
            yield f"{place}: write one of {', '.join(map(repr, get_args(kind)))}"
    elif isinstance(kind, type) and type(value) is not kind:
        yield f"{place}: {_PLAIN.get(kind, 'write a text in quotes')}"
    elif isinstance(value, str) and not (value.isprintable() and len(value) <= TEXT_LENGTH_MAX):
        yield f"{place}: write one line of at most {TEXT_LENGTH_MAX} visible characters"


def _table_faults(value: object, kind: type[Table], place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: write a table, [{place}]"
        return
    inside = f"{place}." if place else ""
    hints = get_type_hints(kind)
    faults = [
        f"{inside}{_key(name)}: is not known here: write {', '.join(hints)}" for name in value if name not in hints
    ]
    for field in msgspec.structs.fields(kind):
        if field.name in value:
            faults += _value_faults(value[field.name], hints[field.name], inside + field.name)
        elif field.required:
            faults.append(f"{inside}{field.name}: is missing: write it")
    yield from faults
    yield from _own_faults(value, kind, inside)


def _own_faults(value: Mapping[str, object], kind: type[Table], inside: str) -> Iterator[str]:
    """What a table says about itself, if it has the shape to be asked."""
    try:
        table = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return
    for fault in table.faults():
        yield inside + fault


def _list_faults(value: object, kind: object, place: str) -> Iterator[str]:
    of_tables = isinstance(kind, type) and issubclass(kind, Table)
    if not isinstance(value, list):
        yield f"{place}: write " + (f"tables, [[{place}]]" if of_tables else 'a list such as ["one", "two"]')
        return
    for number, member in enumerate(value, 1):
        name = member.get("name") if isinstance(member, dict) else None
        named = isinstance(name, str) and NAME.pattern.fullmatch(name)
        yield from _value_faults(member, kind, f"{place}.{name}" if named else f"{place}#{number}")


def _named_tables_faults(value: object, kind: object, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: write tables, [{place}.NAME]"
        return
    for name, member in value.items():
        yield from NAME.faults(f"{place}.{_key(name)}", name)
        yield from _value_faults(member, kind, f"{place}.{_key(name)}")


def _key(name: str) -> str:
    return name if NAME.pattern.fullmatch(name) else shown(name)
