"""The lint of argument schemas: which JSON Schemas (2020-12) an operator may declare a tool with.

The rules are those of the governance study, section 2, and attack rows 11 to 19: everything is closed and bounded,
amounts are decimal strings, and nothing is fetched. A schema that says less than this about its arguments would let an
agent send what nobody thought of.

Two kinds of subschemas are told apart. A *value* (the whole, a property, an item, a definition) must say all there is
to say about a value. A *condition* (`if`, `then`, `not`, `oneOf` and so on) only narrows a value further.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import jsonschema_rs

from gateway.terms.limits import ARGUMENTS_BYTES_MAX
from gateway.terms.money import LONG_MAX
from gateway.terms.strict_json import JsonValue
from gateway.terms.verdict import Violation
from gateway.tools.patterns import fault_of

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ITEMS_MAX: Final = 1_000
PROPERTIES_MAX: Final = 100
ENUM_MAX: Final = 256
WEIGHT_MAX: Final = 10_000
"""Subschemas when every `$ref` is written out: references of references multiply."""

RESERVED: Final = frozenset({"dry_run", "principal"})
"""What is decided by the operator's word and the token can be no argument (invariant 3, attack rows 17 and 20)."""

FORMATS: Final = frozenset({"date", "date-time", "time", "uuid", "email", "ipv4", "ipv6", "hostname", "uri"})

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_REFERENCE: Final = re.compile(r"#/\$defs/([A-Za-z][A-Za-z0-9_]{0,63})")
_TEXTS: Final = frozenset({"title", "description", "$comment", "examples"})
_SINGLE: Final = frozenset({"not", "if", "then", "else"})
_SEVERAL: Final = frozenset({"allOf", "anyOf", "oneOf"})
_OF_TYPE: Final[Mapping[str, frozenset[str]]] = {
    "object": frozenset(
        {"properties", "required", "additionalProperties", "minProperties", "maxProperties", "dependentRequired"}
    ),
    "array": frozenset({"items", "minItems", "maxItems", "uniqueItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format", "enum", "const"}),
    "integer": frozenset({"minimum", "maximum", "multipleOf", "enum", "const"}),
    "boolean": frozenset({"enum", "const"}),
}
_PYTHON_TYPE: Final[Mapping[str, type]] = {"string": str, "integer": int, "boolean": bool}
_IN_CONDITION: Final = frozenset(keyword for of_type in _OF_TYPE.values() for keyword in of_type) - {
    "additionalProperties"
}
_META: Final = jsonschema_rs.Draft202012Validator({"$ref": DIALECT}, offline=True)

Schema = Mapping[str, JsonValue]


def lint(schema: dict[str, JsonValue]) -> tuple[Violation, ...]:
    """Everything that is wrong with a schema, each with the JSON pointer of the place; empty if it may be used."""
    against_meta = tuple(
        Violation(field=pointer(*error.instance_path), description=f"is no JSON Schema: {error.message[:200]}")
        for error in _META.iter_errors(schema)
    )
    # The lint proper may rely on the types that the meta-schema demands.
    return against_meta or tuple(_Lint(schema).violations())


def pointer(*steps: str | int) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


class _Lint:
    """One walk over one schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._found: list[Violation] = []
        self._owner = ""
        self._weights: dict[str, int] = {}
        self._references: dict[str, list[str]] = {}

    def violations(self) -> list[Violation]:
        """Walk the whole schema and every definition."""
        definitions = _members(self._schema.get("$defs"))
        for name, definition in definitions.items():
            self._enter(name)
            if not _NAME.fullmatch(name):
                self._find(pointer("$defs", name), "is no name of 1 to 64 ASCII letters, digits and underscores")
            self._value(definition, pointer("$defs", name))
        self._enter("")
        root = {key: value for key, value in self._schema.items() if key not in {"$schema", "$defs"}}
        if self._schema.get("$schema", DIALECT) != DIALECT:
            self._find("/$schema", f"must be {DIALECT} or absent")
        if root.get("type") != "object":
            self._find("", 'must say "type": "object": arguments are one object')
        self._value(root, "")
        if self._written_out("", ()) > WEIGHT_MAX:
            self._find("", f"has more than {WEIGHT_MAX} subschemas when every $ref is written out")
        return self._found

    def _enter(self, owner: str) -> None:
        self._owner = owner
        self._weights[owner] = 0
        self._references[owner] = []

    def _find(self, where: str, description: str) -> None:
        self._found.append(Violation(field=where, description=description))

    def _written_out(self, owner: str, above: tuple[str, ...]) -> int:
        """Subschemas of a definition with its references; a reference to itself is found and counts as too many."""
        if owner in above:
            self._find(pointer("$defs", owner), "refers to itself: arguments have a bounded depth")
            return WEIGHT_MAX + 1
        if len(above) > PROPERTIES_MAX:
            return WEIGHT_MAX + 1
        weight = self._weights.get(owner, 0)
        for name in self._references.get(owner, ()):
            weight += self._written_out(name, (*above, owner))
            if weight > WEIGHT_MAX:
                break
        return weight

    def _value(self, schema: JsonValue, where: str) -> None:
        self._weights[self._owner] += 1
        if not isinstance(schema, dict):
            self._find(where, "must be an object that describes the value, not true or false")
            return
        if "$ref" in schema:
            self._reference(schema, where)
            return
        kind = schema.get("type")
        if not isinstance(kind, str) or kind not in _OF_TYPE:
            self._find(_below(where, "type"), _type_fault(kind))
            return
        self._known(schema, where, _OF_TYPE[kind])
        self._of_type(kind, schema, where)
        self._conditions(schema, where, schema)

    def _of_type(self, kind: str, schema: Schema, where: str) -> None:
        match kind:
            case "object":
                self._object(schema, where)
            case "array":
                self._array(schema, where)
            case "string":
                self._string(schema, where)
            case "integer":
                self._integer(schema, where)
            case _:
                self._enumerated(schema, where)

    def _reference(self, schema: Schema, where: str) -> None:
        text = schema["$ref"]
        match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
        if match is None or match.group(1) not in _members(self._schema.get("$defs")):
            self._find(_below(where, "$ref"), "must be #/$defs/NAME of this very schema; nothing is ever fetched")
        else:
            self._references[self._owner].append(match.group(1))
        for key in schema.keys() - _TEXTS - {"$ref"}:
            self._find(_below(where, key), "must not stand beside $ref")

    def _known(self, schema: Schema, where: str, keywords: frozenset[str]) -> None:
        for key in schema.keys() - keywords - _TEXTS - _SINGLE - _SEVERAL - {"type"}:
            self._find(_below(where, key), "is not a keyword that may be used here")

    def _object(self, schema: Schema, where: str) -> None:
        if schema.get("additionalProperties") is not False:
            self._find(_below(where, "additionalProperties"), "must be false: unknown arguments are refused")
        properties = _members(schema.get("properties"))
        if len(properties) > PROPERTIES_MAX:
            self._find(_below(where, "properties"), f"has more than {PROPERTIES_MAX} members")
        for name, member in properties.items():
            inside = where + pointer("properties", name)
            if not _NAME.fullmatch(name):
                self._find(inside, "is no name of 1 to 64 ASCII letters, digits and underscores")
            if name in RESERVED:
                self._find(inside, "is decided by the gateway and can be no argument")
            self._value(member, inside)
        self._named(schema, where, properties)

    def _named(self, schema: Schema, where: str, properties: Schema) -> None:
        """Every property that is named anywhere must be declared: a typing error would silently demand nothing."""
        named: list[tuple[str, JsonValue]] = [("required", name) for name in _items(schema.get("required"))]
        for given, needed in _members(schema.get("dependentRequired")).items():
            named += [("dependentRequired", other) for other in (given, *_items(needed))]
        for keyword, name in named:
            if name not in properties:
                self._find(_below(where, keyword), f"names {str(name)[:64]!r}, which is no property")

    def _array(self, schema: Schema, where: str) -> None:
        self._bound(schema, where, "maxItems", ITEMS_MAX)
        if "items" in schema:
            self._value(schema["items"], _below(where, "items"))
        else:
            self._find(_below(where, "items"), "must describe the items")

    def _string(self, schema: Schema, where: str) -> None:
        if not self._enumerated(schema, where):
            self._bound(schema, where, "maxLength", ARGUMENTS_BYTES_MAX)
        self._text(schema, where)

    def _text(self, schema: Schema, where: str) -> None:
        pattern = schema.get("pattern")
        fault = fault_of(pattern) if isinstance(pattern, str) else None
        if fault is not None:
            self._find(_below(where, "pattern"), fault)
        if "format" in schema and schema["format"] not in FORMATS:
            self._find(_below(where, "format"), f"must be one of {', '.join(sorted(FORMATS))}")

    def _integer(self, schema: Schema, where: str) -> None:
        if self._enumerated(schema, where):
            return
        for keyword in ("minimum", "maximum"):
            value = schema.get(keyword)
            if type(value) is not int or abs(value) > LONG_MAX:
                self._find(_below(where, keyword), "must be a whole number of at most 64 bits")

    def _enumerated(self, schema: Schema, where: str) -> bool:
        """Whether a fixed list bounds the value; its members must have the declared type."""
        options = [("enum", option) for option in _items(schema.get("enum"))]
        options += [("const", schema["const"])] if "const" in schema else []
        if len(options) > ENUM_MAX or ("enum" in schema and not _items(schema["enum"])):
            self._find(_below(where, "enum"), f"must have 1 to {ENUM_MAX} members")
        for keyword, option in options:
            if type(option) is not _PYTHON_TYPE[str(schema["type"])]:
                self._find(_below(where, keyword), f"has a value that is no {schema['type']}")
        return bool(options)

    def _bound(self, schema: Schema, where: str, keyword: str, most: int) -> None:
        value = schema.get(keyword)
        if type(value) is not int or value > most:
            self._find(_below(where, keyword), f"must be there and at most {most}")

    def _conditions(self, schema: Schema, where: str, value: Schema) -> None:
        for where_inside, condition in _conditions_of(schema, where):
            self._condition(condition, where_inside, value)

    def _condition(self, schema: JsonValue, where: str, value: Schema) -> None:
        """Check a schema that narrows `value`, and may name only what `value` declares."""
        self._weights[self._owner] += 1
        if not isinstance(schema, dict):
            return
        self._known(schema, where, _IN_CONDITION)
        if "type" in schema and schema["type"] != value.get("type"):
            self._find(_below(where, "type"), "must be the type of the value that it narrows, or absent")
        self._text(schema, where)
        properties = _members(value.get("properties"))
        self._named(schema, where, properties)
        for name, member in _members(schema.get("properties")).items():
            inside = where + pointer("properties", name)
            if name not in properties:
                self._find(inside, "is no declared property")
            self._condition(member, inside, self._resolved(properties.get(name)))
        if "items" in schema:
            self._condition(schema["items"], _below(where, "items"), self._resolved(value.get("items")))
        self._conditions(schema, where, value)

    def _resolved(self, schema: JsonValue) -> Schema:
        members = _members(schema)
        match = _REFERENCE.fullmatch(str(members.get("$ref", "")))
        return _members(_members(self._schema.get("$defs")).get(match.group(1))) if match else members


def _below(where: str, *steps: str | int) -> str:
    """A pointer below another one."""
    return where + pointer(*steps)


def _type_fault(kind: JsonValue) -> str:
    if kind == "number":
        return "must not be number: write amounts as decimal strings with a pattern, counts as integer"
    return f"must be one of {', '.join(sorted(_OF_TYPE))}"


def _members(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _items(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _conditions_of(schema: Schema, where: str) -> Iterator[tuple[str, JsonValue]]:
    for keyword in sorted(schema.keys() & _SINGLE):
        yield _below(where, keyword), schema[keyword]
    for keyword in sorted(schema.keys() & _SEVERAL):
        for position, condition in enumerate(_items(schema[keyword])):
            yield _below(where, keyword, position), condition
