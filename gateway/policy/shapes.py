"""The types that a policy can rely upon, and the values that fit them.

Cedar would take an object with the key `__entity` for an entity, the last of two equal keys, and a decision over a
missing attribute for an error that lets a `forbid` fall silent (governance study, section 1.4). So no JSON of a caller
reaches it: a context is built here, member by member, along the types of the schema.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from gateway.terms.money import LONG_MAX
from gateway.terms.strict_json import FrozenJson

CedarJson = str | int | bool | list["CedarJson"] | dict[str, "CedarJson"]
"""What goes to Cedar: no null, no fraction, no integer beyond 64 bits."""


class Scalar(Enum):
    """A type without parts, under its name in a Cedar schema."""

    STRING = "String"
    LONG = "Long"
    BOOL = "Boolean"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOf:
    """Values of one type; a policy sees neither their order nor their number."""

    element: "Shape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One member of a record."""

    shape: "Shape"
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Named members and no others."""

    fields: Mapping[str, Field]


Shape = Scalar | SetOf | Record

EMPTY: Final = Record(fields=MappingProxyType({}))
_LONG_MIN: Final = -(2**63)


class UnfitError(ValueError):
    """A value that its type cannot hold; the message names the place, never the value."""


def declared(shape: Shape, *, required: bool = True) -> dict[str, CedarJson]:
    """The type in the JSON form of a Cedar schema."""
    said = _declared(shape)
    return said if required else said | {"required": False}


def fitted(value: FrozenJson, shape: Shape, place: str) -> CedarJson:
    """The value as Cedar may have it, or raise `UnfitError`: true is no 1, 1.0 is no 1, null is nothing."""
    match shape:
        case Scalar():
            return _scalar(value, shape, place)
        case SetOf():
            if not isinstance(value, tuple):
                raise UnfitError(f"{place} is not an array")
            return [fitted(item, shape.element, f"{place}[]") for item in value]
        case Record():
            if not isinstance(value, Mapping):
                raise UnfitError(f"{place} is not an object")
            return record(value, shape, place)


def record(members: Mapping[str, FrozenJson], shape: Record, place: str) -> dict[str, CedarJson]:
    """All members fitted; one that is unknown or missing raises `UnfitError`."""
    fields = shape.fields
    if not members.keys() <= fields.keys():
        raise UnfitError(f"{place} has a member that its type does not have")
    if len(members) < len(fields):
        for name, field in fields.items():
            if field.required and name not in members:
                raise UnfitError(f"{place}.{name} is missing")
    return {name: fitted(value, fields[name].shape, f"{place}.{name}") for name, value in members.items()}


def _declared(shape: Shape) -> dict[str, CedarJson]:
    match shape:
        case Scalar():
            return {"type": shape.value}
        case SetOf():
            return {"type": "Set", "element": declared(shape.element)}
        case Record():
            members: dict[str, CedarJson] = {
                name: declared(field.shape, required=field.required) for name, field in shape.fields.items()
            }
            return {"type": "Record", "attributes": members}


def _scalar(value: FrozenJson, shape: Scalar, place: str) -> str | int | bool:
    # The exact type, because in Python a bool is an int.
    if shape is Scalar.LONG:
        if type(value) is int:
            if not _LONG_MIN <= value <= LONG_MAX:
                raise UnfitError(f"{place} does not fit into 64 bits")
            return value
    elif shape is Scalar.STRING:
        if type(value) is str:
            return value
    elif type(value) is bool:
        return value
    raise UnfitError(f"{place} is not a {shape.value}")
