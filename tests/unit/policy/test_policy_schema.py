"""The schema that is generated from the tools."""

import json
from dataclasses import replace

import cedarpy
import pytest
from made_asks import INPUTS, LOOK, PAY, tool

from gateway.policy.schema import PolicyInputs, PolicySchemaError, policy_schema
from gateway.policy.shapes import Scalar, SetOf
from gateway.terms.ids import ToolName


def inputs(*tools, **facts):
    return PolicyInputs(tools=tools, facts={ToolName(name): types for name, types in facts.items()})


def arguments_of(*tools):
    contexts = policy_schema(inputs(*tools)).contexts
    return contexts[tools[0].name].fields["arguments"].shape


def test_tools_become_actions_with_typed_arguments():
    fields = arguments_of(PAY).fields
    assert {name: field.required for name, field in fields.items()} == {
        "to": True,
        "amount": False,
        "urgent": False,
        "tags": False,
        "place": False,
    }
    assert fields["to"].shape is Scalar.STRING
    assert fields["amount"].shape is Scalar.LONG
    assert fields["urgent"].shape is Scalar.BOOL
    assert fields["tags"].shape == SetOf(element=Scalar.STRING)
    assert fields["place"].shape.fields["city"].required


def test_cedar_takes_it():
    text = str(cedarpy.Schema.from_json_str(policy_schema(INPUTS).text))
    for action in ("pay", "look", "chat", "count_tokens", "get_operation", "list_models", "list_tools"):
        assert f'action "{action}"' in text
    assert "tags?: Set<__cedar::String>" in text


def test_facts_are_required():
    facts = policy_schema(INPUTS).contexts["pay"].fields["facts"].shape.fields
    assert {name: (field.shape, field.required) for name, field in facts.items()} == {
        "worth": (Scalar.LONG, True),
        "known": (Scalar.BOOL, True),
        "region": (Scalar.STRING, True),
    }
    assert policy_schema(INPUTS).contexts["look"].fields["facts"].shape.fields == {}


def test_the_same_tools_give_the_same_bytes():
    assert policy_schema(inputs(PAY, LOOK)).text == policy_schema(inputs(LOOK, PAY)).text
    assert policy_schema(inputs(PAY)).text != policy_schema(inputs(LOOK)).text


def test_decimal_strings_stay_texts_and_conditions_change_no_type():
    amount = {"type": "string", "pattern": "^[0-9]+$", "maxLength": 9, "not": {"pattern": "^0$"}}
    narrowed = tool(
        properties={"amount": amount, "kind": {"type": "string", "enum": ["a", "b"]}},
        **{"if": {"properties": {"kind": {"const": "a"}}}, "else": {"properties": {"amount": False}}},
        oneOf=[{"required": ["amount"]}, {"required": ["kind"]}],
    )
    assert arguments_of(narrowed).fields["amount"].shape is Scalar.STRING


def test_references_are_written_out():
    named = tool(
        properties={"a": {"$ref": "#/$defs/name"}, "b": {"type": "array", "items": {"$ref": "#/$defs/name"}}},
        **{"$defs": {"name": {"type": "string"}}},
    )
    assert arguments_of(named).fields["b"].shape == SetOf(element=Scalar.STRING)


def test_names_that_are_no_cedar_words_may_have_dashes():
    assert "client-id" in arguments_of(tool(properties={"client-id": {"type": "string"}})).fields


@pytest.mark.parametrize(
    "name",
    [
        *("if", "then", "else", "in", "is", "like", "has", "true", "false"),
        *("__entity", "__extn", "__cedar", "_x", "", "a b", "\u0430mount", 'a"b', "a\nb", "a" * 200),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_refuses_names_that_mean_something_to_cedar(name, nested):
    properties = {name: {"type": "string"}}
    if nested:
        inner = {"type": "object", "additionalProperties": False, "properties": properties}
        properties = {"inner": {"type": "array", "items": inner}}
    with pytest.raises(PolicySchemaError, match="whose name means something else"):
        policy_schema(inputs(tool(properties=properties)))


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "number"},
        {"type": "null"},
        {"type": ["string", "null"]},
        {"enum": ["a", 1]},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "array"},
        {"type": "array", "items": True},
        {"type": "array", "items": {"type": "string"}, "prefixItems": [{"type": "integer"}]},
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "additionalProperties": False, "patternProperties": {"x": {"type": "string"}}},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#/$defs/loop"},
        {"$ref": "#"},
    ],
)
def test_refuses_what_has_no_type(schema):
    loop = {"loop": {"type": "array", "items": {"$ref": "#/$defs/loop"}}}
    with pytest.raises(PolicySchemaError, match="Tool pay"):
        policy_schema(inputs(tool(properties={"x": schema}, **{"$defs": loop})))


@pytest.mark.parametrize("text", ["", "[]", '{"type":"string"}', '{"a":1,"a":2}'])
def test_refuses_what_is_no_object_schema(text):
    with pytest.raises(PolicySchemaError):
        policy_schema(inputs(replace(PAY, arguments_schema=text)))


@pytest.mark.parametrize("name", ["chat", "count_tokens", "list_tools", "list_models", "get_operation"])
def test_refuses_tools_with_the_names_of_the_gateways_own_actions(name):
    with pytest.raises(PolicySchemaError, match="rename it"):
        policy_schema(inputs(tool(name)))


def test_versions_of_a_tool_must_look_alike():
    same = tool(version="2", properties=json.loads(PAY.arguments_schema)["properties"], required=["to"])
    assert policy_schema(inputs(PAY, same)).contexts["pay"] == policy_schema(inputs(PAY)).contexts["pay"]
    with pytest.raises(PolicySchemaError, match="names of their own"):
        policy_schema(inputs(PAY, tool(version="2")))


@pytest.mark.parametrize("types", [{"x": float}, {"x": dict}, {"if": int}, {"__entity": str}])
def test_refuses_facts_without_a_type(types):
    with pytest.raises(PolicySchemaError, match="fact"):
        policy_schema(inputs(PAY, pay=types))


def test_refuses_facts_of_nothing():
    with pytest.raises(PolicySchemaError, match="not declared"):
        policy_schema(inputs(PAY, other={"x": int}))


def test_lists_every_fault():
    with pytest.raises(PolicySchemaError) as caught:
        policy_schema(inputs(tool("chat"), tool(properties={"if": {"type": "string"}}), other={"x": float}))
    assert len(caught.value.faults) == 4
