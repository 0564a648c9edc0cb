"""Generated values conform, judged by a JSON Schema validator that knows nothing of the generator."""

import re
from random import Random

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.vertex.conform import conforming
from localcloud.vertex.errors import ApiError
from localcloud.vertex.patterns import PatternError, writer

ORDER = {
    "type": "object",
    "additionalProperties": False,
    "required": ["symbol", "side", "qty"],
    "properties": {
        "symbol": {"type": "string", "pattern": "^[A-Z]{1,5}$"},
        "side": {"type": "string", "enum": ["buy", "sell"]},
        "qty": {"type": "integer", "minimum": 1, "maximum": 5},
        "price": {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,2})?$"},
        "note": {"type": ["string", "null"], "minLength": 30, "maxLength": 40},
        "legs": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"$ref": "#/$defs/leg"}},
        "final": {"type": "boolean"},
        "ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
        "at": {"type": "string", "format": "date-time"},
        "id": {"type": "string", "format": "uuid"},
        "empty": {"const": None},
    },
    "$defs": {"leg": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "multipleOf": 7}}}},
}
SCHEMAS = {
    "order": ORDER,
    "unique": {"type": "array", "uniqueItems": True, "minItems": 3, "items": {"enum": [1, 2, 3, 4]}},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "boolean"}],
        "items": False,
        "minItems": 2,
    },
    "branches": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
    "merged": {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"type": "boolean"}}}]},
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "required": ["name", "children"],
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
            }
        },
    },
    "negative": {"type": "integer", "maximum": -5},
    "steps": {"type": "number", "multipleOf": 0.5, "minimum": 3, "maximum": 4},
    "limit order": {
        "type": "object",
        "additionalProperties": False,
        "required": ["type", "quantity"],
        "properties": {
            "type": {"enum": ["market", "limit"]},
            "quantity": {"type": "string", "pattern": r"^[0-9](\.[0-9])?$", "not": {"pattern": r"^0(\.0+)?$"}},
            "limit_price": {"type": "integer"},
        },
        "if": {"properties": {"type": {"const": "limit"}}},
        "then": {"required": ["limit_price"]},
        "else": {"properties": {"limit_price": False}},
    },
    "either": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
    "one of two": {
        "type": "array",
        "items": {"$ref": "#/$defs/item"},
        "contains": {"const": 1},
        "$defs": {"item": {"enum": [1, 2]}},
    },
    "named": {"required": ["x"], "properties": {"y": {"type": "integer"}}},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_values_conform(name):
    validator = jsonschema_rs.validator_for(SCHEMAS[name], validate_formats=True)
    for seed in range(40):
        validator.validate(conforming(SCHEMAS[name], seed))


def test_the_seed_decides():
    assert conforming(ORDER, 3) == conforming(ORDER, 3)
    assert len({str(conforming(ORDER, seed)) for seed in range(10)}) > 5


def test_optional_members_are_written():
    assert set(conforming(ORDER, 1)) == set(ORDER["properties"])


def test_openapi_spelling():
    schema = {
        "type": "OBJECT",
        "propertyOrdering": ["b", "a"],
        "required": ["a", "b"],
        "properties": {"a": {"type": "INTEGER"}, "b": {"type": "STRING", "nullable": True}},
    }
    value = conforming(schema, 1)
    assert list(value) == ["b", "a"]
    assert isinstance(value["a"], int)
    assert isinstance(value["b"], str)


@pytest.mark.parametrize(
    "schema, told",
    [
        ({"type": "integer", "minimum": 5, "maximum": 4}, "No multiple"),
        ({"type": "string", "minLength": 5, "maxLength": 4}, "cannot be written"),
        ({"type": "array", "minItems": 5, "maxItems": 4}, "cannot be written"),
        ({"type": "array", "uniqueItems": True, "minItems": 3, "items": {"enum": [1]}}, "different items"),
        ({"type": "string", "pattern": "(?=x)"}, "not supported"),
        ({"type": "string", "pattern": "^abc$", "maxLength": 2}, "No text"),
        ({"type": "string", "not": {"type": "string"}}, "No value was found"),
        ({"type": "string", "not": {"type": "nothing"}}, "not a valid JSON Schema"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"$ref": "https://example.com/schema"}, "leads nowhere"),
        ({"type": "tuple"}, "not known"),
        ({"type": "object", "required": ["a"], "properties": {"a": False}}, "no value at all"),
        ({"$ref": "#"}, "endless recursion"),
    ],
)
def test_schemas_that_cannot_be_satisfied_are_refused(schema, told):
    with pytest.raises(ApiError, match=told):
        conforming(schema, 1)


@pytest.mark.parametrize(
    "pattern",
    [
        "^a+b*c?$",
        "[^a-z]{3}",
        r"\d{4}-\d{2}",
        "(foo|ba[rz]){2,}",
        r"^\$?\w+\.\s\S$",
        "[]x]",
        "[a-]",
        "x{,3}y",
        r"[\d.]+",
        "",
    ],
)
def test_written_texts_match_their_pattern(pattern):
    write = writer(pattern)
    for seed in range(30):
        assert re.search(pattern, write(Random(seed)))


@pytest.mark.parametrize(
    "pattern", ["(", "[a", "a{3,1}", "*a", r"\1", "(?P<n>x)", "[z-a]", "a)", r"\p{L}", "a{5000}", r"x\bx"]
)
def test_patterns_that_are_not_understood_are_refused(pattern):
    with pytest.raises(PatternError):
        writer(pattern)(Random(1))


@settings(max_examples=200, deadline=None)
@given(st.integers(-1000, 1000), st.integers(0, 50), st.integers(1, 9), st.integers(0, 100))
def test_integers_stay_in_bounds(low, width, step, seed):
    schema = {"type": "integer", "minimum": low, "maximum": low + width, "multipleOf": step}
    try:
        value = conforming(schema, seed)
    except ApiError:
        assert not any(number % step == 0 for number in range(low, low + width + 1))
    else:
        jsonschema_rs.validator_for(schema).validate(value)
