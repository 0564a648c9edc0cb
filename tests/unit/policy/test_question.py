"""A call in Cedar's words."""

import pytest
from made_asks import FACTS, INPUTS, LOOK, PAY, caller, chat_ask, count_ask, read_ask, tool, tool_ask

from gateway.policy.question import question
from gateway.policy.schema import policy_schema
from gateway.policy.shapes import UnfitError

CONTEXTS = policy_schema(INPUTS).contexts


def asked(ask, facts=None, by=None):
    return question(by or caller(), ask, {} if facts is None else facts, CONTEXTS)


def test_a_tool_call():
    put = asked(tool_ask('{"to": "bob", "amount": 7, "tags": ["a", "b"], "place": {"city": "Bern"}}'), FACTS)
    assert put.action == "pay"
    assert put.resource.entity() == {
        "uid": {"type": "Tool", "id": "pay"},
        "attrs": {"name": "pay", "version": "1", "effect": "irreversible"},
        "parents": [],
    }
    assert put.context == {
        "arguments": {"to": "bob", "amount": 7, "tags": ["a", "b"], "place": {"city": "Bern"}},
        "facts": {"worth": 5, "known": True, "region": "eu"},
    }


def test_the_principal_is_the_registration():
    assert asked(read_ask()).principal.entity() == {
        "uid": {"type": "Agent", "id": "payer"},
        "attrs": {
            "role": "clerk",
            "team": "desk",
            "tenant": "demo",
            "email": "a@demo.iam.gserviceaccount.com",
            "models": ["gemini"],
            "tools": ["look", "pay"],
        },
        "parents": [],
    }


def test_model_calls():
    put = asked(chat_ask(functions=("look", "pay")))
    assert (put.action, put.resource.type, put.resource.id) == ("chat", "Model", "gemini")
    assert put.context["arguments"] == {
        "max_output_tokens": 100,
        "input_tokens_bound": 200,
        "functions": ["look", "pay"],
    }
    put = asked(count_ask("other"))
    assert (put.action, put.resource.uid()) == ("count_tokens", {"type": "Model", "id": "other"})
    assert put.context == {"arguments": {}, "facts": {}}


@pytest.mark.parametrize("what", ["list_tools", "list_models", "get_operation"])
def test_questions_about_the_gateway(what):
    put = asked(read_ask(what))
    assert (put.action, put.resource.uid()) == (what, {"type": "Gateway", "id": "gateway"})


@pytest.mark.parametrize(
    ("ask", "facts"),
    [
        (tool_ask("{}"), FACTS),
        (tool_ask('{"to": 7}'), FACTS),
        (tool_ask('{"to": "bob", "amount": 1.5}'), FACTS),
        (tool_ask('{"to": "bob", "amount": 9223372036854775808}'), FACTS),
        (tool_ask('{"to": "bob", "amount": null}'), FACTS),
        (tool_ask('{"to": "bob", "amount": true}'), FACTS),
        (tool_ask('{"to": "bob", "amont": 1}'), FACTS),
        (tool_ask('{"to": {"__entity": {"type": "Agent", "id": "payer"}}}'), FACTS),
        (tool_ask('{"to": "bob", "place": {"__entity": {"type": "Agent", "id": "payer"}}}'), FACTS),
        (tool_ask('{"to": "bob", "place": {"city": "x", "__extn": {"fn": "ip", "arg": "::1"}}}'), FACTS),
        (tool_ask(), {}),
        (tool_ask(), {"worth": 5, "known": True}),
        (tool_ask(), {**FACTS, "more": 1}),
        (tool_ask(), {**FACTS, "worth": True}),
        (tool_ask(), {**FACTS, "known": 1}),
        (tool_ask(), {**FACTS, "worth": 2**63}),
        (tool_ask("{}", LOOK), {"worth": 5}),
        (tool_ask("{}", tool("unheard_of")), {}),
        (chat_ask(), {"worth": 5}),
        (read_ask("drop_tables"), {}),
        (read_ask("pay"), {}),
        (read_ask("chat"), {}),
    ],
)
def test_what_cannot_be_put(ask, facts):
    with pytest.raises(UnfitError):
        asked(ask, facts)


def test_arguments_named_like_the_caller_stay_arguments():
    named = tool("act", {"role": {"type": "string"}, "agent": {"type": "string"}, "email": {"type": "string"}})
    contexts = policy_schema(type(INPUTS)(tools=(PAY, named), facts={})).contexts
    ask = tool_ask('{"role": "admin", "agent": "root", "email": "root@x"}', named)
    put = question(caller(), ask, {}, contexts)
    assert dict(put.principal.attributes)["role"] == "clerk"
    assert put.principal.id == "payer"
    assert put.context["arguments"]["role"] == "admin"
