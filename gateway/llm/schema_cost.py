"""What it can cost to evaluate a caller's JSON Schema, known before it is done.

References multiply: thirty definitions of which each refers twice to the next are 2^30 evaluations in one library call
that nothing can interrupt. The bound here counts, for each depth of a value, how many subschemas can meet at one place.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.terms.strict_json import DEPTH_MAX, JsonValue

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SUBSCHEMAS_MAX: Final = 1_000
MANY: Final = 1 << 40
"""Counts are cut here: it is beyond every bound."""

_SAME_ONE: Final = ("not", "if", "then", "else")
_SAME_LIST: Final = ("allOf", "anyOf", "oneOf")
_CHILD_ONE: Final = ("additionalProperties", "unevaluatedProperties", "items", "contains", "unevaluatedItems")
_IN_OBJECTS: Final = ("additionalProperties", "unevaluatedProperties")
_IN_ARRAYS: Final = ("items", "contains", "unevaluatedItems")
_REFUSED: Final = (
    "$id",
    "$anchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$vocabulary",
)

Schema = dict[str, JsonValue]


class SchemaRefusedError(ValueError):
    """A schema whose cost cannot be bounded; the message says why."""


class SchemaCost:
    """The bound of one schema; raises `SchemaRefusedError`."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        order = self._in_order()
        self._levels: list[int] = []
        """For each depth of a value, the evaluations at one place of it."""
        above: dict[int, int] = {}
        for depth in range(DEPTH_MAX + 1):
            level: dict[int, int] = {}
            for one in order:
                own = _own(one) if depth == 0 else _children(one, above)
                level[id(one)] = min(MANY, own + sum(level[id(other)] for other in self._same(one)))
            self._levels.append(level[id(schema)])
            above = level

    def of(self, value: JsonValue) -> int:
        """At most so many evaluations for this value."""
        total, places = 0, [value]
        for level in self._levels:
            total += len(places) * level
            places = [inner for place in places for inner in _inner(place)]
            if not places:
                break
        return total

    def _in_order(self) -> list[Schema]:
        """Every subschema that can be reached, after those that are evaluated at the same place as it."""
        order: list[Schema] = []
        done: dict[int, bool] = {}
        stack: list[tuple[Schema, bool]] = [(self._root, False)]
        while stack:
            one, after = stack.pop()
            if after:
                done[id(one)] = True
                order.append(one)
            elif id(one) not in done:
                if len(done) >= SUBSCHEMAS_MAX:
                    raise SchemaRefusedError(f"has more than {SUBSCHEMAS_MAX} subschemas")
                done[id(one)] = False
                _refuse_keywords(one)
                same = list(self._same(one))
                # Children are begun on a path of their own, once everything at this place is done.
                stack[:0] = [(child, False) for child in _child_schemas(one)]
                stack.append((one, True))
                stack += [(other, False) for other in same]
            elif not done[id(one)]:
                raise SchemaRefusedError("refers to itself at the same place: it could be evaluated for ever")
        return order

    def _same(self, one: Schema) -> Iterator[Schema]:
        """The subschemas that are evaluated at the same place."""
        several = one.get("dependentSchemas")
        found: list[JsonValue] = [one.get(name) for name in _SAME_ONE]
        for name in _SAME_LIST:
            listed = one.get(name)
            found += listed if isinstance(listed, list) else []
        found += several.values() if isinstance(several, dict) else []
        if "$ref" in one:
            found.append(self._target(one["$ref"]))
        yield from (schema for schema in found if isinstance(schema, dict))

    def _target(self, reference: JsonValue) -> JsonValue:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise SchemaRefusedError(
                f"has a $ref to elsewhere: write one that begins with #/, not {str(reference)[:80]!a}"
            )
        target: JsonValue = self._root
        for step in reference[2:].split("/") if reference != "#" else ():
            if "%" in step:
                raise SchemaRefusedError("has a $ref with an escape: name definitions with plain letters")
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or name not in target:
                raise SchemaRefusedError(f"has a $ref that leads nowhere: {reference[:80]!a}")
            target = target[name]
        return target


def _own(one: Schema) -> int:
    """Evaluating a subschema by itself: once, and again for each value or name that it lists."""
    listed = (one.get(name) for name in ("enum", "required", "patternProperties"))
    return 1 + sum(len(some) for some in listed if isinstance(some, list | dict))


def _children(one: Schema, above: Mapping[int, int]) -> int:
    """The evaluations at a place one below, given those of every subschema at its own."""

    def cost(schema: JsonValue) -> int:
        return above.get(id(schema), 0) if isinstance(schema, dict) else 0

    properties, patterns, listed = one.get("properties"), one.get("patternProperties"), one.get("prefixItems")
    in_object = sum(cost(one.get(name)) for name in _IN_OBJECTS)
    in_object += max((cost(schema) for schema in properties.values()), default=0) if isinstance(properties, dict) else 0
    in_object += sum(cost(schema) for schema in patterns.values()) if isinstance(patterns, dict) else 0
    in_object += cost(one.get("propertyNames"))
    in_array = sum(cost(one.get(name)) for name in _IN_ARRAYS)
    in_array += max((cost(schema) for schema in listed), default=0) if isinstance(listed, list) else 0
    return max(in_object, in_array)


def _child_schemas(one: Schema) -> Iterator[Schema]:
    found: list[JsonValue] = [one.get(name) for name in (*_CHILD_ONE, "propertyNames")]
    for name in ("properties", "patternProperties"):
        several = one.get(name)
        found += several.values() if isinstance(several, dict) else []
    listed = one.get("prefixItems")
    found += listed if isinstance(listed, list) else []
    yield from (schema for schema in found if isinstance(schema, dict))


def _refuse_keywords(one: Schema) -> None:
    for name in _REFUSED:
        if name in one:
            raise SchemaRefusedError(f"has the keyword {name}: refer with $ref to #/$defs/NAME instead")
    if one.get("$schema", DIALECT) != DIALECT:
        raise SchemaRefusedError(f"has another $schema than {DIALECT}")


def _inner(value: JsonValue) -> Iterator[JsonValue]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
