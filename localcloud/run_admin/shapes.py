"""JSON as this double takes and gives it, and the check that a document has the names and types of its message."""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from localcloud.run_admin.errors import Violation

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, Json]


class Texts:
    """The shape of a map whose values are all strings: labels, annotations, limits."""


# A type, Texts, a list of one shape, a mapping of names, or None for what is taken as it is.
Shape: TypeAlias = "type | list[Shape] | Mapping[str, Shape] | None"

_WRITTEN: Final = {str: "a string", int: "an integer", bool: "a boolean"}


def misfits(value: Json, shape: Shape, path: str = "") -> Iterator[Violation]:
    """Say where a document has another shape. Google's JSON parser refuses unknown names and other types alike."""
    if shape is None:
        return
    if shape is Texts:
        yield from _texts(value, path)
    elif isinstance(shape, type):
        if not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
            yield Violation(path, f"Invalid value, expected {_WRITTEN[shape]}")
    elif isinstance(shape, list):
        yield from _members(value, shape[0], path)
    elif not isinstance(value, dict):
        yield Violation(path, "Invalid value, expected an object")
    else:
        for name, inner in value.items():
            if name not in shape:
                yield Violation(path, f'Unknown name "{name}": Cannot find field.')
            else:
                yield from misfits(inner, shape[name], f"{path}.{name}" if path else name)


def _members(value: Json, shape: Shape, path: str) -> Iterator[Violation]:
    if not isinstance(value, list):
        yield Violation(path, "Invalid value, expected a list")
        return
    for index, inner in enumerate(value):
        yield from misfits(inner, shape, f"{path}[{index}]")


def _texts(value: Json, path: str) -> Iterator[Violation]:
    if not isinstance(value, dict):
        yield Violation(path, "Invalid value, expected an object")
        return
    for name, inner in value.items():
        if not isinstance(inner, str):
            yield Violation(f"{path}[{name}]", "Invalid value, expected a string")


def table(holder: Mapping[str, Json], name: str) -> JsonObject:
    """The object under a name; an empty one where there is none."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def rows(holder: Mapping[str, Json], name: str) -> list[JsonObject]:
    """The objects in the list under a name; none where there is no list."""
    value = holder.get(name)
    return [member for member in value if isinstance(member, dict)] if isinstance(value, list) else []


def text(holder: Mapping[str, Json], name: str) -> str:
    """The string under a name; empty where there is none."""
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def texts(holder: Mapping[str, Json], name: str) -> dict[str, str]:
    """The map of strings under a name; empty where there is none."""
    return {key: value for key, value in table(holder, name).items() if isinstance(value, str)}


def number(holder: Mapping[str, Json], name: str, otherwise: int) -> int:
    """The integer under a name, or the API's default."""
    value = holder.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
