"""Deciding with the real engine, and every trap of it that the governance study found (section 1.4)."""

import dataclasses
import shutil

import cedarpy
import pytest
from made_asks import ANYTHING, FACTS, INPUTS, LOOK, PAY, caller, chat_ask, count_ask, policy, read_ask, tool, tool_ask

import policies
from gateway.policy.cedar import ENTITIES_REMEMBERED_MAX, CedarPolicy
from gateway.policy.rule_set import PolicyLoadError
from gateway.policy.rules import Answer, Effect, Hearing, Rule
from gateway.policy.schema import PolicySchemaError
from gateway.terms.ids import RuleId
from gateway.terms.verdict import Hold, Permit, Refusal

LARGE = ANYTHING + (
    '@id("large") @advice("approval") forbid (principal, action == Action::"pay", resource)'
    " when { context.facts.worth > 100 };"
    '@id("abroad") @say("Only in the EU.") forbid (principal, action == Action::"pay", resource)'
    ' when { context.facts.region != "eu" };'
)


def decide(rules, ask=None, facts=FACTS, by=None):
    return rules.decide_now(by or caller(), ask or tool_ask(), facts)


def reason(verdict):
    assert isinstance(verdict, Refusal), verdict
    return verdict.reason, verdict.rules


async def test_the_three_verdicts():
    rules, ask = policy(LARGE), tool_ask()
    permit = await rules.decide(caller(), ask, FACTS)
    assert isinstance(permit, Permit)
    assert (permit.ask, permit.rules, permit.policy_hash) == (ask, ("anything",), rules.hash)
    held = await rules.decide(caller(), ask, {**FACTS, "worth": 101})
    assert isinstance(held, Hold)
    assert (held.rules, held.policy_hash) == (("large",), rules.hash)
    refusal = await rules.decide(caller(), ask, {**FACTS, "worth": 101, "region": "us"})
    assert reason(refusal) == ("policy.denied", ("abroad", "large"))
    assert refusal.sentence == "Only in the EU."


@pytest.mark.parametrize("ask", [tool_ask("{}", LOOK), chat_ask(), count_ask(), read_ask("get_operation")])
def test_every_kind_of_ask_can_be_decided(ask):
    assert isinstance(decide(policy(ANYTHING), ask, {}), Permit)


@pytest.mark.parametrize("text", ["", "// nothing", '@id("n") forbid (principal, action, resource) when { false };'])
@pytest.mark.parametrize("ask", [tool_ask(), chat_ask(), read_ask()])
def test_without_a_permit_the_answer_is_no(text, ask):
    facts = FACTS if ask == tool_ask() else {}
    assert reason(decide(policy(text), ask, facts)) == ("policy.no_permit", ())


def test_an_approval_cannot_stand_in_for_a_permit():
    only_forbid = '@id("ask") @advice("approval") forbid (principal, action, resource);'
    assert reason(decide(policy(only_forbid))) == ("policy.no_permit", ())
    for_others = '@id("other") permit (principal, action, resource) when { principal.role == "boss" };'
    assert reason(decide(policy(only_forbid + for_others))) == ("policy.no_permit", ())
    assert isinstance(decide(policy(only_forbid + for_others), by=caller(role="boss")), Hold)


def test_a_permit_with_an_unknown_obligation_is_worth_nothing():
    obliging = '@id("careful") @obligation("redact:pii") permit (principal, action, resource);'
    assert reason(decide(policy(obliging))) == ("policy.unknown_obligation", ("careful",))
    assert reason(decide(policy(obliging + ANYTHING))) == ("policy.unknown_obligation", ("careful",))


OVERFLOWING = (
    '@id("product") forbid (principal, action == Action::"pay", resource) when { context.facts.worth * 10 > 5 };'
)


def raw_answer(text, context):
    """What the engine itself says, without schema and without us."""
    request = {"principal": 'Agent::"a"', "action": 'Action::"pay"', "resource": 'Tool::"pay"', "context": context}
    return cedarpy.is_authorized(request, text, [])


def test_trap_overflow_in_a_forbid_would_permit():
    """The engine allows, and mentions the error in passing; the answer here is no, with the names of both rules."""
    said = raw_answer(ANYTHING + OVERFLOWING, {"facts": {"worth": 9 * 10**18}})
    assert said.decision is cedarpy.Decision.Allow
    assert said.diagnostics.errors
    verdict = decide(policy(ANYTHING + OVERFLOWING), facts={**FACTS, "worth": 9 * 10**18})
    assert reason(verdict) == ("policy.error", ("anything", "product"))
    assert reason(decide(policy(ANYTHING + OVERFLOWING))) == ("policy.denied", ("product",))


def test_trap_an_error_is_no_hold_either():
    approval = OVERFLOWING.replace('@id("product")', '@id("product") @advice("approval")')
    held = '@id("ask") @advice("approval") forbid (principal, action, resource);'
    verdict = decide(policy(ANYTHING + held + approval), facts={**FACTS, "worth": 9 * 10**18})
    assert reason(verdict) == ("policy.error", ("ask", "product"))


@pytest.mark.parametrize("context", [{"facts": {}}, {"facts": {"worth": "lots"}}])
def test_trap_a_forbid_over_a_missing_or_mistyped_attribute_would_permit(context):
    said = raw_answer(ANYTHING + OVERFLOWING, context)
    assert said.decision is cedarpy.Decision.Allow
    rules = {
        name: Rule(id=RuleId(name), effect=effect)
        for name, effect in (("policy0", Effect.PERMIT), ("policy1", Effect.FORBID))
    }
    hearing = Hearing(caller=caller(), ask=tool_ask(), rules=rules, policy_hash="")
    answer = Answer(
        decision=said.decision.value,
        determining=tuple(said.diagnostics.reasons),
        errors=tuple(said.diagnostics.errors),
    )
    assert reason(hearing.verdict(answer, lambda: answer)) == ("policy.error", ("policy0", "policy1"))
    assert reason(decide(policy(ANYTHING + OVERFLOWING), facts=context["facts"])) == ("policy.undecided", ())


@pytest.mark.parametrize("amount", ["1.5", "1.0", "1e2", "9223372036854775808", "-9223372036854775809", "null", '"5"'])
def test_trap_numbers_that_are_no_longs(amount):
    verdict = decide(policy(ANYTHING), tool_ask(f'{{"to": "bob", "amount": {amount}}}'))
    assert reason(verdict) == ("policy.undecided", ())
    assert verdict.sentence.startswith("The call is refused, because the rules cannot decide on it: arguments.amount ")


@pytest.mark.parametrize(
    "arguments",
    [
        '{"to": {"__entity": {"type": "Agent", "id": "payer"}}}',
        '{"to": {"__extn": {"fn": "ip", "arg": "10.0.0.1"}}}',
        '{"to": "bob", "__entity": {"type": "Agent", "id": "payer"}}',
        '{"to": "bob", "tags": [{"__entity": {"type": "Agent", "id": "payer"}}]}',
        '{"to": "bob", "place": {"__entity": {"type": "Agent", "id": "payer"}}}',
    ],
)
def test_trap_entities_in_arguments(arguments):
    """Attack row 17. Without a schema the engine takes such an object for the entity itself."""
    assert reason(decide(policy(ANYTHING), tool_ask(arguments))) == ("policy.undecided", ())


def test_trap_duplicate_keys_cannot_reach_the_engine():
    """It would take the last. What it gets is built from the frozen arguments, not from anyone's text."""
    rules = policy(
        ANYTHING
        + '@id("bob") forbid (principal, action == Action::"pay", resource) when { context.arguments.to == "bob" };'
    )
    ask = dataclasses.replace(tool_ask(), arguments_bytes=b'{"to": "bob", "to": "carol"}')
    assert reason(decide(rules, ask)) == ("policy.denied", ("bob",))


@pytest.mark.parametrize("name", ['x", principal == Agent::"root', 'a"b', "a\nb", "a\\", "", "\u202eroot", "Agent::x"])
def test_trap_names_with_quotes(name):
    """Nothing is put together from texts, so nothing can be broken out of."""
    only_root = '@id("root") permit (principal == Agent::"root", action, resource);'
    assert reason(decide(policy(only_root), by=caller(agent=name))) == ("policy.no_permit", ())
    assert isinstance(decide(policy(only_root), by=caller(agent="root")), Permit)
    one_model = '@id("one") permit (principal, action == Action::"chat", resource == Model::"gemini");'
    assert reason(decide(policy(one_model), chat_ask(name), {})) == ("policy.no_permit", ())
    assert isinstance(decide(policy(one_model), chat_ask("gemini"), {}), Permit)


def test_arguments_with_quotes_stay_texts():
    rules = policy(
        '@id("q") permit (principal, action == Action::"pay", resource)'
        ' when { context.arguments.to == "a\\"}, \\"role\\": \\"admin\\u{0}" };'
    )
    said = '{"to": "a\\"}, \\"role\\": \\"admin\\u0000"}'
    assert isinstance(decide(rules, tool_ask(said)), Permit)
    assert isinstance(decide(rules, tool_ask('{"to": "b"}')), Refusal)


def test_rights_are_the_callers_own_and_not_those_of_the_last_caller():
    """Parsed principals are remembered; another role, grant or tool is another one."""
    granted = policy(
        '@id("granted") permit (principal, action, resource is Tool)'
        ' when { principal.role == "clerk" && principal.tools.contains(resource.name) && resource.effect == "read" };'
    )
    look = tool_ask("{}", LOOK)
    for _ in range(2):
        assert isinstance(decide(granted, look, {}), Permit)
        assert isinstance(decide(granted, look, {}, caller(role="guest")), Refusal)
        assert isinstance(decide(granted, look, {}, caller(tools=frozenset())), Refusal)
        assert isinstance(decide(granted), Refusal)


def test_what_is_remembered_is_bounded():
    rules = policy(ANYTHING)
    for number in range(ENTITIES_REMEMBERED_MAX + 20):
        decide(rules, read_ask(), {}, caller(agent=f"a{number}"))
    assert len(rules._entities) == ENTITIES_REMEMBERED_MAX
    assert isinstance(decide(rules, read_ask(), {}, caller(agent="a0")), Permit)


def test_a_tool_that_the_rules_do_not_know_is_not_decided():
    assert reason(decide(policy(ANYTHING), tool_ask("{}", tool("new_tool")), {})) == ("policy.undecided", ())


def test_a_caller_that_the_engine_cannot_read_is_refused_and_not_raised():
    broken = caller(role="\ud800")
    assert reason(decide(policy(ANYTHING), by=broken))[0] in {"policy.error", "policy.undecided"}


def test_a_tool_that_no_rule_can_be_written_for_is_refused_at_load():
    inputs = dataclasses.replace(INPUTS, tools=(PAY, LOOK, tool("x", {"if": {"type": "string"}})))
    with pytest.raises(PolicySchemaError, match="Tool x"):
        policy(ANYTHING, inputs)


def written(folder, rules, tests):
    (folder / "rules.cedar").write_text(rules)
    (folder / "tests.toml").write_text(tests)
    return folder


A_CLERK = '[principals.clerk]\nrole = "clerk"\n[[cases]]\nname = "one"\nprincipal = "clerk"\nread = "list_tools"\n'


def test_load_proves_the_rules_with_their_own_tests(tmp_path):
    good = A_CLERK + 'expect = "permit"\nrules = ["anything"]'
    assert CedarPolicy.load(written(tmp_path, ANYTHING, good), INPUTS).rules.keys() == {"anything"}
    bad = A_CLERK + 'expect = "refuse"\nrules = []'
    with pytest.raises(
        PolicyLoadError, match=r"test 'one': expected refuse \(policy.no_permit\) by no rule, got permit"
    ):
        CedarPolicy.load(written(tmp_path, ANYTHING, bad), INPUTS)


def test_a_set_without_tests_is_not_loaded(tmp_path):
    (tmp_path / "rules.cedar").write_text(ANYTHING)
    with pytest.raises(PolicyLoadError, match="what it is meant to do"):
        CedarPolicy.load(tmp_path, INPUTS)


def test_an_empty_set_loads_and_refuses_everything(tmp_path):
    tests = A_CLERK + 'expect = "refuse"\nrules = []'
    rules = CedarPolicy.load(written(tmp_path, "// nobody does anything", tests), INPUTS)
    assert reason(decide(rules)) == ("policy.no_permit", ())


def test_a_corrupt_set_leaves_the_old_one_as_it_was(tmp_path):
    """Attack row 23."""
    tests = A_CLERK + 'expect = "permit"\nrules = ["anything"]'
    old = CedarPolicy.load(written(tmp_path, ANYTHING, tests), INPUTS)
    before = old.hash
    for rules in (ANYTHING[:-5], ANYTHING.replace("anything", ""), "\x00", ANYTHING + ANYTHING):
        with pytest.raises(PolicyLoadError):
            CedarPolicy.load(written(tmp_path, rules, tests), INPUTS)
    shutil.rmtree(tmp_path)
    assert isinstance(decide(old, read_ask(), {}), Permit)
    assert old.hash == before


def test_the_schema_can_be_shown():
    assert 'action "pay"' in policy(ANYTHING).schema_text


def test_the_policies_package_knows_where_it_is():
    assert (policies.folder() / "base.cedar").is_file()
