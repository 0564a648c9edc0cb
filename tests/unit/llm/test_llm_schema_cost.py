"""What a caller's schema may cost, and how large an answer may be that is verified against it."""

import json
import time

import pytest

from gateway.llm.constraint import TEXT_LENGTH_MAX, UnusableConstraintError, Verification, verifier_of
from gateway.llm.schema_cost import SchemaCost
from gateway.terms.conversation import ChoiceConstraint, JsonSchemaConstraint, RegexConstraint


def schema(**members):
    return verifier_of(JsonSchemaConstraint(schema_json=json.dumps(members)))


def nested(depth):
    return '{"c":' * depth + "1" + "}" * depth


TREE = {"$defs": {"n": {"properties": {"c": {"items": {"$ref": "#/$defs/n"}}}}}, "$ref": "#/$defs/n"}
TWICE = {"allOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}]}


def test_a_schema_that_refers_to_itself_below_is_cheap():
    tree = schema(**TREE)
    assert tree.holds('{"c":[{"c":[{}]}]}')
    assert schema(properties={"a": {"type": "integer"}}).holds('{"a":1}')


def test_references_of_references_multiply_and_are_not_evaluated():
    """2^30 evaluations at one place would hold the whole gateway for minutes."""
    doubling = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)}
    bomb = schema(**{"$defs": doubling | {"d30": {"type": "string"}}, "$ref": "#/$defs/d0"})
    began = time.monotonic()
    assert not bomb.holds('"x"')
    assert time.monotonic() - began < 1


def test_what_doubles_with_every_level_holds_only_for_shallow_values():
    deep = schema(**{"$defs": {"n": {"properties": {"c": TWICE}}}, "$ref": "#/$defs/n"})
    assert deep.holds(nested(5))
    assert not deep.holds(nested(25))


def test_the_bound_counts_what_is_listed():
    small, large = SchemaCost({"enum": [1]}), SchemaCost({"enum": list(range(500))})
    assert small.of(1) < large.of(1)
    assert SchemaCost({"items": {"type": "integer"}}).of([1] * 100) >= 100


@pytest.mark.parametrize(
    "members, told",
    [
        ({"$ref": "#"}, "refers to itself at the same place"),
        ({"anyOf": [{"not": {"$ref": "#"}}]}, "refers to itself at the same place"),
        ({"$ref": "https://example.com/x"}, "$ref to elsewhere"),
        ({"$ref": "other.json"}, "$ref to elsewhere"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"properties": {"a": {"$ref": "#/%24defs/a"}}}, "an escape"),
        ({"$id": "https://example.com/x"}, "$id"),
        ({"items": {"$dynamicRef": "#x"}}, "$dynamicRef"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "another $schema"),
        ({"anyOf": [{"minimum": n} for n in range(501)]}, "more than 500 subschemas"),
        ({"type": "integre"}, "is no JSON Schema"),
        ({"pattern": "(?=a)"}, "is no JSON Schema"),
        ({"format": "postcode"}, "is no JSON Schema"),
    ],
)
def test_a_schema_that_cannot_be_verified(members, told):
    with pytest.raises(UnusableConstraintError) as caught:
        schema(**members)
    assert told in str(caught.value)


def test_names_of_properties_are_no_keywords():
    assert schema(properties={"$id": {"type": "string"}}).holds('{"$id":"x"}')


def test_formats_and_decimals_count():
    assert not schema(format="date").holds('"yesterday"')
    assert schema(minimum=1.5).holds("1.75")
    assert not schema(minimum=1.5).holds("1.25")
    assert not schema(type="number").holds("NaN")


def test_an_expression_that_would_take_too_long_over_an_answer_does_not_hold():
    wide = verifier_of(RegexConstraint(pattern="[a-z]{1,900}"))
    assert wide.holds("abc")
    assert not wide.holds("a" * 100_000)


def test_an_answer_is_collected_up_to_a_bound():
    for length, met in ((TEXT_LENGTH_MAX, True), (TEXT_LENGTH_MAX + 1, False)):
        collected = Verification(verifier_of(RegexConstraint(pattern="a*")))
        for start in range(0, length, 1_000):
            collected.take("a" * min(1_000, length - start))
        assert collected.met is met


def test_a_choice_is_to_the_letter():
    choice = verifier_of(ChoiceConstraint(texts=("ja", "né")))
    assert choice.holds("né")
    assert not choice.holds("ne\u0301")
