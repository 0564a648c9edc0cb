"""What it can cost to evaluate a caller's JSON Schema, known before it is done.

References multiply: thirty definitions of which each refers twice to the next are 2^30 evaluations in one library call
that nothing can interrupt. The bound here counts, for each depth of a value, how many subschemas can meet at one place.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.terms.strict_json import DEPTH_MAX, JsonValue

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SUBSCHEMAS_MAX: Final = 500
MANY: Final = 1 << 23
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """One subschema, as far as its cost goes. Subschemas are known by their place in the order of evaluation."""

    own: int
    same: tuple[int, ...]
    """Evaluated at the same place of a value."""
    in_object: tuple[int, ...]
    properties: tuple[int, ...]
    """Of these, one at most is evaluated for a member; of all others each."""
    in_array: tuple[int, ...]
    prefix: tuple[int, ...]


class SchemaCost:
    """The bound of one schema; raises `SchemaRefusedError`."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        order = self._in_order()
        numbers = {id(one): number for number, one in enumerate(order)}
        places = [_place(one, self._same(one), numbers) for one in order]
        root = numbers[id(schema)]
        self._levels: list[int] = []
        """For each depth of a value, the evaluations at one place of it."""
        above: list[int] = []
        for depth in range(DEPTH_MAX + 1):
            level: list[int] = []
            for place in places:
                own = place.own if depth == 0 else _below(place, above)
                level.append(min(MANY, own + sum([level[other] for other in place.same])))
            self._levels.append(level[root])
            if level == above or level[root] == MANY:
                # What is so at two depths is so at all others; and more than many is not counted.
                self._levels += [level[root]] * (DEPTH_MAX - depth)
                break
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


def _place(one: Schema, same: Iterator[Schema], numbers: Mapping[int, int]) -> _Place:
    def numbered(schemas: Iterable[JsonValue]) -> tuple[int, ...]:
        return tuple(numbers[id(schema)] for schema in schemas if isinstance(schema, dict))

    properties, patterns, listed = one.get("properties"), one.get("patternProperties"), one.get("prefixItems")
    each = [one.get(name) for name in (*_IN_OBJECTS, "propertyNames")]
    each += patterns.values() if isinstance(patterns, dict) else []
    return _Place(
        own=_own(one),
        same=numbered(same),
        in_object=numbered(each),
        properties=numbered(properties.values() if isinstance(properties, dict) else ()),
        in_array=numbered(one.get(name) for name in _IN_ARRAYS),
        prefix=numbered(listed if isinstance(listed, list) else ()),
    )


def _below(place: _Place, above: Sequence[int]) -> int:
    """The evaluations at a place one below, given those of every subschema at its own."""
    in_object = sum([above[each] for each in place.in_object])
    in_object += max([above[each] for each in place.properties], default=0)
    in_array = sum([above[each] for each in place.in_array])
    in_array += max([above[each] for each in place.prefix], default=0)
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
