"""Violations name a field and say what is asked for, and never repeat what an agent sent."""

import json

import pytest

from gateway.tools.schema import DESCRIPTION_MAX, FIELD_MAX, VIOLATIONS_MAX, ArgumentsSchema

SCHEMA = ArgumentsSchema(
    json.dumps(
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "not": {"const": "root"}},
                "kind": {"type": "string", "enum": ["a", "b"]},
                "count": {"type": "integer", "minimum": 1, "maximum": 3},
                "born": {"type": "string", "format": "date", "maxLength": 10},
                "list": {"type": "array", "maxItems": 2, "items": {"type": "string", "maxLength": 2}},
            },
            "if": {"properties": {"kind": {"const": "a"}}, "required": ["kind"]},
            "else": {"properties": {"count": False}},
        }
    )
)


@pytest.mark.parametrize(
    "arguments, field, told",
    [
        ({}, "/name", "is required"),
        ({"name": "x", "extra": 1}, "/extra", "is not an argument"),
        ({"name": "X"}, "/name", "does not match"),
        ({"name": "abcdef"}, "/name", "longer than 5"),
        ({"name": "root"}, "/name", "excluded"),
        ({"name": 5}, "/name", 'not of type "string"'),
        ({"name": "x", "kind": "c"}, "/kind", '"a" or "b"'),
        ({"name": "x", "kind": "a", "count": 4}, "/count", "maximum of 3"),
        ({"name": "x", "kind": "a", "count": True}, "/count", "integer"),
        ({"name": "x", "kind": "b", "count": 1}, "/count", "not allowed together"),
        ({"name": "x", "born": "2026-02-30"}, "/born", "date"),
        ({"name": "x", "list": ["a", "bcd"]}, "/list/1", "longer than 2"),
        ({"name": "x", "list": ["a", "b", "c"]}, "/list", "more than 2"),
    ],
)
def test_a_violation_names_its_field(arguments, field, told):
    found = {violation.field: violation.description for violation in SCHEMA.violations(arguments)}
    assert field in found, found
    assert told in found[field]


def test_good_arguments_have_none():
    assert SCHEMA.violations({"name": "x", "kind": "a", "count": 3, "born": "2026-02-28", "list": ["a"]}) == ()


def test_values_are_not_repeated():
    found = SCHEMA.violations({"name": "SECRET", "kind": "SECRET", "born": "SECRET", "count": 987654321})
    assert found
    assert "SECRET" not in repr(found)
    assert "987654321" not in repr(found)


def test_violations_are_bounded_in_number_and_length_and_escaped():
    names = {"\u202e\n\x1b[31m" + "x" * 5_000 + str(number): 1 for number in range(100)}
    found = SCHEMA.violations(names)
    assert len(found) == VIOLATIONS_MAX
    assert all(len(one.field) <= FIELD_MAX and len(one.description) <= DESCRIPTION_MAX for one in found)
    assert all(one.field.isascii() and one.field.isprintable() for one in found)
