"""The lint lists everything that leaves arguments open, each with its JSON pointer."""

import json

import pytest

from gateway.tools.schema import ArgumentsSchema, SchemaRefusedError


def closed(**properties):
    return {"type": "object", "properties": properties, "additionalProperties": False}


def found(schema):
    """Pointers and descriptions of what is wrong."""
    try:
        ArgumentsSchema(json.dumps(schema))
    except SchemaRefusedError as error:
        return {wrong.field: wrong.description for wrong in error.violations}
    return {}


WORD = {"type": "string", "maxLength": 5}
COUNT = {"type": "integer", "minimum": 0, "maximum": 5}


@pytest.mark.parametrize(
    "schema",
    [
        closed(),
        closed(a=WORD, b=COUNT, c={"type": "boolean"}),
        closed(a={"type": "string", "enum": ["x", "y"]}, b={"type": "string", "const": "z"}),
        closed(a={"type": "integer", "enum": [1, 2]}),
        closed(a={"type": "array", "items": WORD, "maxItems": 3, "uniqueItems": True}),
        closed(a=closed(b=closed(c=WORD))),
        closed(a={"$ref": "#/$defs/word", "description": "A word."}) | {"$defs": {"word": WORD}},
        closed(a=WORD, b=WORD) | {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        closed(a=closed(b=WORD)) | {"not": {"properties": {"a": {"properties": {"b": {"const": "x"}}}}}},
        closed(a=WORD, b=WORD) | {"dependentRequired": {"a": ["b"]}},
        closed(a=WORD | {"format": "date"}),
        closed() | {"$schema": "https://json-schema.org/draft/2020-12/schema"},
    ],
)
def test_closed_and_bounded_schemas_pass(schema):
    assert found(schema) == {}


@pytest.mark.parametrize(
    "schema, pointer, told",
    [
        ({"type": "object"}, "/additionalProperties", "must be false"),
        ({"type": "object", "additionalProperties": True}, "/additionalProperties", "must be false"),
        ({"type": "object", "additionalProperties": WORD}, "/additionalProperties", "must be false"),
        (closed(a={"type": "object"}), "/properties/a/additionalProperties", "must be false"),
        (WORD, "", "object"),
        ({"type": ["object"], "additionalProperties": False}, "/type", "must be one of"),
        ({"additionalProperties": False}, "", "object"),
        (closed(a={"type": "string"}), "/properties/a/maxLength", "must be there"),
        (closed(a={"type": "string", "maxLength": 10**9}), "/properties/a/maxLength", "at most 65536"),
        (closed(a={"type": "number", "minimum": 0}), "/properties/a/type", "decimal strings"),
        (closed(a={"type": ["string", "null"], "maxLength": 1}), "/properties/a/type", "must be one of"),
        (closed(a={"type": "null"}), "/properties/a/type", "must be one of"),
        (closed(a={"enum": ["x"]}), "/properties/a/type", "must be one of"),
        (closed(a=True), "/properties/a", "not true or false"),
        (closed(a={"type": "integer", "minimum": 0}), "/properties/a/maximum", "whole number"),
        (closed(a={"type": "integer", "maximum": 0}), "/properties/a/minimum", "whole number"),
        (closed(a=COUNT | {"maximum": 1.5}), "/properties/a/maximum", "whole number"),
        (closed(a=COUNT | {"maximum": 2**63}), "/properties/a/maximum", "64 bits"),
        (closed(a={"type": "array", "items": WORD}), "/properties/a/maxItems", "must be there"),
        (closed(a={"type": "array", "maxItems": 1}), "/properties/a/items", "must describe"),
        (closed(a={"type": "array", "maxItems": 1, "items": {"type": "string"}}), "/properties/a/items/maxLength", ""),
        (closed(a={"type": "string", "enum": ["x", 1]}), "/properties/a/enum", "no string"),
        (closed(a={"type": "integer", "enum": [True]}), "/properties/a/enum", "no integer"),
        (closed(a={"type": "string", "enum": []}), "/properties/a/enum", "1 to 256"),
        (closed(a=WORD | {"pattern": "[0-9]"}), "/properties/a/pattern", "anchored"),
        (closed(a=WORD | {"pattern": "^(a+)+\\1$"}), "/properties/a/pattern", "linear"),
        (closed(a=WORD | {"format": "regex"}), "/properties/a/format", "must be one of"),
        (closed(a=WORD | {"default": "x"}), "/properties/a/default", "not a keyword"),
        (closed(a=WORD) | {"requried": ["a"]}, "/requried", "not a keyword"),
        (closed(a=WORD) | {"patternProperties": {}}, "/patternProperties", "not a keyword"),
        (closed(a=WORD) | {"unevaluatedProperties": False}, "/unevaluatedProperties", "not a keyword"),
        (closed(a=WORD) | {"$id": "https://example.com/"}, "/$id", "not a keyword"),
        (closed(a=WORD) | {"$schema": "https://example.com/dialect"}, "/$schema", "must be https://json-schema.org"),
        (closed(a=WORD) | {"required": ["b"]}, "/required", "'b', which is no property"),
        (closed(a=WORD) | {"dependentRequired": {"a": ["b"]}}, "/dependentRequired", "no property"),
        (closed(a=WORD) | {"if": {"properties": {"b": {"const": 1}}}}, "/if/properties/b", "no declared property"),
        (closed(a=WORD) | {"oneOf": [{"required": ["b"]}]}, "/oneOf/0/required", "no property"),
        (closed(a=WORD | {"not": {"pattern": "b"}}), "/properties/a/not/pattern", "anchored"),
        (closed(a=WORD | {"not": {"type": "number"}}), "/properties/a/not/type", "must be the type"),
        (closed(a=WORD) | {"if": {"$ref": "#"}}, "/if/$ref", "not a keyword"),
        (closed(**{"a-b": WORD}), "/properties/a-b", "no name"),
        (closed(__entity=WORD), "/properties/__entity", "no name"),
        (closed(**{"a/b~c": WORD}), "/properties/a~1b~0c", "no name"),
        (closed(dry_run={"type": "boolean"}), "/properties/dry_run", "decided by the gateway"),
        (closed(a=closed(principal=WORD)), "/properties/a/properties/principal", "decided by the gateway"),
        (closed(a={"$ref": "http://127.0.0.1:1/x"}), "/properties/a/$ref", "nothing is ever fetched"),
        (closed(a={"$ref": "file:///etc/passwd"}), "/properties/a/$ref", "nothing is ever fetched"),
        (closed(a={"$ref": "#"}), "/properties/a/$ref", "#/$defs/NAME"),
        (closed(a={"$ref": "#/$defs/missing"}), "/properties/a/$ref", "#/$defs/NAME"),
        (closed(a={"$ref": "#/$defs/w", "maxLength": 5}) | {"$defs": {"w": WORD}}, "/properties/a/maxLength", "$ref"),
        (closed() | {"$defs": {"w": {"type": "string"}}}, "/$defs/w/maxLength", "must be there"),
        (closed(a={"type": "strin"}), "/properties/a/type", "no JSON Schema"),
        (closed() | {"required": "a"}, "/required", "no JSON Schema"),
        (closed(**{f"p{n}": WORD for n in range(101)}), "/properties", "more than 100"),
    ],
)
def test_what_leaves_arguments_open_is_named_by_its_place(schema, pointer, told):
    wrong = found(schema)
    assert pointer in wrong, wrong
    assert told in wrong[pointer]


def test_every_violation_is_listed():
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}}
    with pytest.raises(SchemaRefusedError) as error:
        ArgumentsSchema(json.dumps(schema))
    assert {wrong.field for wrong in error.value.violations} == {
        "/additionalProperties",
        "/properties/a/maxLength",
        "/properties/b/type",
    }
    assert str(error.value).count("\n") == 2


def test_a_definition_that_refers_to_itself_is_refused():
    tree = closed(child={"$ref": "#/$defs/tree"})
    wrong = found(closed(root={"$ref": "#/$defs/tree"}) | {"$defs": {"tree": tree}})
    assert "refers to itself" in wrong["/$defs/tree"]


def test_references_that_multiply_are_refused():
    definitions = {"d0": closed(a=WORD)}
    for level in range(1, 60):
        below = {"$ref": f"#/$defs/d{level - 1}"}
        definitions[f"d{level}"] = closed(a=below, b=below)
    wrong = found(closed(a={"$ref": "#/$defs/d59"}) | {"$defs": definitions})
    assert "more than 10000" in wrong[""]


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"object","type":"object","additionalProperties":false}',
        '{"type":"object","additionalProperties":false,"title":"' + "x" * 70_000 + '"}',
        "[" * 100_000,
        "not json",
        "[]",
    ],
    ids=["duplicate key", "too large", "too deep", "no JSON", "no object"],
)
def test_a_schema_is_read_as_strictly_as_arguments(text):
    with pytest.raises(SchemaRefusedError):
        ArgumentsSchema(text)
