"""Only what the rules look at is put to the engine, and it decides as if it had been given everything."""

import json

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_asks import FACTS, INPUTS, caller, policy, tool_ask

from gateway.policy.looks import looks, put
from gateway.policy.question import question
from gateway.policy.schema import policy_schema

SCHEMA = policy_schema(INPUTS)
PAID = SCHEMA.contexts["pay"]


def looked_at(condition):
    rule = cedarpy.policies_to_json_str(
        f'permit (principal, action == Action::"pay", resource) when {{ {condition} }};'
    )
    return looks([json.loads(rule)["staticPolicies"]])


@pytest.mark.parametrize(
    ("condition", "members"),
    [
        ("true", set()),
        ("principal.role == resource.name", set()),
        ("context.facts.worth > 5", {("facts", "worth")}),
        ("context.arguments has amount", {("arguments", "amount")}),
        ('context["facts"]["region"] like "e*"', {("facts", "region")}),
        (
            'if context.facts.known then ["a", context.arguments.to].contains("a") else !context.arguments.urgent',
            {("facts", "known"), ("arguments", "to"), ("arguments", "urgent")},
        ),
        ('context.arguments.place.city == "x"', {("arguments", "place")}),
        ("context.arguments has place && context.arguments.place has city", {("arguments", "place")}),
        ("context.arguments has place.city", {("arguments", "place")}),
        ("context.facts == {worth: 1}", {("facts", "")}),
        ("{a: context.arguments}.a.to == context.facts.region", {("arguments", ""), ("facts", "region")}),
        ("(if true then context.facts else context.facts).worth == 1", {("facts", "")}),
        ("context has facts", {("facts", "")}),
        ("[context].contains(context)", {("", "")}),
        ("{context: 1}.context == 1", set()),
        ('"context.facts.worth" == "context"', set()),
    ],
)
def test_what_a_condition_looks_at(condition, members):
    assert looked_at(condition).members == members


def test_what_is_put_has_nothing_else():
    context = {"arguments": {"to": "bob", "place": {"city": "Bern"}}, "facts": {"worth": 5, "known": True}}
    seen = looked_at('context.arguments.place.city == "x" && context.arguments has amount && context.facts.worth > 1')
    assert put(context, seen.shape(PAID)) == {"arguments": {"place": {"city": "Bern"}}, "facts": {"worth": 5}}
    assert put(context, looked_at("true").shape(PAID)) == {"arguments": {}, "facts": {}}
    assert put(context, looked_at("context == context").shape(PAID)) == context


CONDITIONS = [
    "context.facts.worth > 100",
    'context.facts.region == "eu"',
    "context.facts.known && context.arguments has urgent && context.arguments.urgent",
    "context.arguments has amount && context.arguments.amount + context.facts.worth < 10",
    'context.arguments has place && context.arguments.place.city == "Bern"',
    'context.arguments has place && context.arguments.place == {city: "Bern"}',
    'context.arguments has tags && context.arguments.tags.containsAny(["a", "z"])',
    'context.facts == {worth: 5, known: true, region: "eu"}',
    '[{a: context.facts}].contains({a: {worth: 5, known: true, region: "eu"}})',
    'principal.role == "clerk"',
    "context.facts.worth * 9223372036854775807 > 1",
]
ARGUMENTS = st.fixed_dictionaries(
    {"to": st.sampled_from(["bob", "eu"])},
    optional={
        "amount": st.integers(-20, 20),
        "urgent": st.booleans(),
        "tags": st.lists(st.sampled_from("abz"), max_size=3),
        "place": st.fixed_dictionaries({"city": st.sampled_from(["Bern", "Rome"])}),
    },
)
KNOWN = st.fixed_dictionaries(
    {"worth": st.sampled_from([0, 1, 5, 101]), "known": st.booleans(), "region": st.sampled_from(["eu", "us"])}
)
RULES = st.lists(st.tuples(st.sampled_from(["permit", "forbid"]), st.sampled_from(CONDITIONS)), min_size=1, max_size=4)


@given(rules=RULES, arguments=ARGUMENTS, facts=KNOWN)
def test_the_engine_decides_as_if_it_had_everything(rules, arguments, facts):
    text = "".join(
        f'@id("r{number}") {effect} (principal, action == Action::"pay", resource) when {{ {condition} }};'
        for number, (effect, condition) in enumerate(rules)
    )
    ask = tool_ask(json.dumps(arguments))
    asked = question(caller(), ask, facts, SCHEMA.contexts)
    request = {
        "principal": asked.principal.uid(),
        "action": {"type": "Action", "id": asked.action},
        "resource": asked.resource.uid(),
        "context": asked.context,
    }
    entities = [asked.principal.entity(), asked.resource.entity()]
    whole = cedarpy.is_authorized(request, text, entities, SCHEMA.text)
    named = {f"policy{number}": f"r{number}" for number in range(len(rules))}
    answer = policy(text).examine(caller(), ask, facts).answer
    assert answer.decision == whole.decision.name
    assert set(answer.determining) == {named[name] for name in whole.diagnostics.reasons}
    assert len(answer.errors) == len(whole.diagnostics.errors)


def test_facts_that_no_rule_looks_at_are_checked_all_the_same():
    rules = policy('@id("any") permit (principal, action, resource);')
    assert rules.examine(caller(), tool_ask(), FACTS).answer.decision == "Allow"
    for wrong in ({**FACTS, "worth": "lots"}, {**FACTS, "more": 1}, {"worth": 5}):
        assert rules.examine(caller(), tool_ask(), wrong).answer.decision == "NoDecision"
