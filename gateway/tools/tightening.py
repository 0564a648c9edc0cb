"""Schemas of others, made narrower until agents may be held to them: closed, bounded, and told in one type each.

A service's schema says what the service takes. What an agent may send can be less than that and never more, so every
step here only takes possibilities away. What still says too little is refused by the lint, with the place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.terms.money import LONG_MAX
from gateway.terms.strict_json import JsonValue

_SAID: Final = frozenset(
    {"default", "example", "deprecated", "readOnly", "writeOnly", "externalDocs", "xml", "$schema"}
)
"""Annotations that change no value. A default is the service's business: the gateway adds no argument."""

_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-LONG_MAX, LONG_MAX),
}
_NULL: Final = "null"
_TEXTS: Final = frozenset({"title", "description", "$comment", "examples"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the operator sets where the service's schema has no bound; None leaves it to the lint to refuse."""

    string_length_max: int | None = None
    array_items_max: int | None = None
    integer_max: int | None = None
    """The largest number, and with a minus the smallest."""


def tightened(schema: JsonValue, bounds: Bounds) -> JsonValue:
    """The schema with objects closed, null taken away, annotations dropped, and the operator's bounds put in.

    A schema is JSON without cycles; other keywords stay as they are, for the lint to judge.
    """
    if not isinstance(schema, dict):
        return schema
    said = {key: value for key, value in schema.items() if key not in _SAID and not key.startswith("x-")}
    said = _without_null(said)
    for key in ("properties", "$defs"):
        members = said.get(key)
        if isinstance(members, dict):
            said[key] = {name: tightened(member, bounds) for name, member in members.items()}
    if "items" in said:
        said["items"] = tightened(said["items"], bounds)
    return _bounded(said, bounds)


def _without_null(said: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """An argument that may be null may also be left out, and leaving it out is what remains."""
    kind = said.get("type")
    if isinstance(kind, list) and len(kinds := [one for one in kind if one != _NULL]) == 1:
        said = {**said, "type": kinds[0]}
    for key in ("anyOf", "oneOf"):
        options = said.get(key)
        if "type" in said or not isinstance(options, list):
            continue
        others = [one for one in options if not (isinstance(one, dict) and one.get("type") == _NULL)]
        if len(others) == 1 and isinstance(only := others[0], dict) and not (only.keys() & said.keys() - _TEXTS):
            rest = {name: value for name, value in said.items() if name != key}
            said = _without_null({**only, **rest})
    return said


def _bounded(said: dict[str, JsonValue], bounds: Bounds) -> dict[str, JsonValue]:
    free = "enum" not in said and "const" not in said
    match said.get("type"):
        case "object":
            # An object that names no members and is not closed would take everything; closed, it takes nothing.
            said.setdefault("additionalProperties", False)
        case "array" if bounds.array_items_max is not None:
            said.setdefault("maxItems", bounds.array_items_max)
        case "string" if free and bounds.string_length_max is not None:
            said.setdefault("maxLength", bounds.string_length_max)
        case "integer" if free:
            _range(said, bounds)
    if said.get("type") == "integer":
        said.pop("format", None)
    return said


def _range(said: dict[str, JsonValue], bounds: Bounds) -> None:
    least, most = _RANGES.get(str(said.get("format", "")), (None, None))
    if bounds.integer_max is not None:
        least, most = -bounds.integer_max, bounds.integer_max
    lower, upper = said.get("exclusiveMinimum"), said.get("exclusiveMaximum")
    if type(lower) is int and "minimum" not in said:
        said["minimum"] = lower + 1
        del said["exclusiveMinimum"]
    if type(upper) is int and "maximum" not in said:
        said["maximum"] = upper - 1
        del said["exclusiveMaximum"]
    if least is not None and most is not None:
        said.setdefault("minimum", least)
        said.setdefault("maximum", most)
