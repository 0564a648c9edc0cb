"""What of a call's context the rules look at.

Only that is put to the engine, which takes most of the time of a decision to read the context and to check it against
the schema. Every member is fitted to its type all the same before (`gateway.policy.shapes`), also one that no rule
looks at.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.policy.shapes import CedarJson, Field, Record, Shape
from gateway.terms.strict_json import JsonValue

_CONTEXT: Final = {"Var": "context"}
_WHOLE: Final = ""
"""In the place of a name: all of it. No attribute is called so."""


@dataclass(frozen=True, slots=True)
class Looks:
    """The parts of the context (`arguments`, `facts`) with their members that some rule looks at."""

    members: frozenset[tuple[str, str]]

    def shape(self, context: Record) -> Record:
        """The type of a context that has nothing else. What a member that is a record has in it, it keeps."""
        if (_WHOLE, _WHOLE) in self.members:
            return context
        parts = {name: Field(shape=self._part(name, part.shape)) for name, part in context.fields.items()}
        return Record(fields=MappingProxyType(parts))

    def _part(self, name: str, shape: Shape) -> Shape:
        if not isinstance(shape, Record) or (name, _WHOLE) in self.members:
            return shape
        kept = {member: field for member, field in shape.fields.items() if (name, member) in self.members}
        return Record(fields=MappingProxyType(kept))


def looks(rules: Iterable[JsonValue]) -> Looks:
    """Of rules in the JSON form of Cedar's policies."""
    return Looks(frozenset(_looks(list(rules))))


def put(context: Mapping[str, CedarJson], shape: Record) -> dict[str, CedarJson]:
    """The context with the members of its parts that the shape has."""
    told: dict[str, CedarJson] = {}
    for name, part in shape.fields.items():
        value = context[name]
        if isinstance(value, dict) and isinstance(part.shape, Record):
            value = {member: value[member] for member in part.shape.fields if member in value}
        told[name] = value
    return told


def _looks(body: JsonValue) -> Iterator[tuple[str, str]]:
    """Part and member of everything that is looked at; what is not looked into is looked at as a whole."""
    waiting = [body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif node == _CONTEXT:
            yield _WHOLE, _WHOLE
        elif isinstance(node, dict):
            into = _into(node)
            if into is None:
                waiting.extend(node.values())
                continue
            left, name = into
            inner = _into(left) if isinstance(left, dict) else None
            if left == _CONTEXT:
                yield name, _WHOLE
            elif inner is not None and inner[0] == _CONTEXT:
                yield inner[1], name
            else:
                waiting.append(left)


def _into(node: Mapping[str, JsonValue]) -> tuple[JsonValue, str] | None:
    """What a node looks into, and for which name: `{".": {"left": ..., "attr": NAME}}`, or `has` in its place."""
    if len(node) != 1:
        return None
    [(operator, operands)] = node.items()
    if operator not in {".", "has"} or not isinstance(operands, dict) or operands.keys() != {"left", "attr"}:
        return None
    name = operands["attr"]
    return (operands["left"], name) if isinstance(name, str) else None
