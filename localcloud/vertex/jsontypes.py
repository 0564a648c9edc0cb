"""The types of JSON values, and the narrow casts that strict reading allows."""

from collections.abc import Mapping
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
JsonObject: TypeAlias = dict[str, Json]


def as_object(value: object) -> JsonObject:
    """The value as an object; an absent or null member reads as an empty one (protobuf's JSON mapping)."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Json]:
    """The value as an array; an absent or null member reads as an empty one (protobuf's JSON mapping)."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """The value as a string; an absent or null member reads as the empty one (protobuf's JSON mapping)."""
    return value if isinstance(value, str) else ""


def strings(value: object) -> tuple[str, ...]:
    """The strings of an array."""
    return tuple(item for item in as_list(value) if isinstance(item, str))


def integer(members: Mapping[str, Json], name: str) -> int | None:
    """An integer member, or None where it is absent."""
    value = members.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(members: Mapping[str, Json], name: str) -> float | None:
    """A number member, or None where it is absent."""
    value = members.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
