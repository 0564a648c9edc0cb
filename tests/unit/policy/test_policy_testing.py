"""A set's own tests: reading, running and explaining."""

import pytest
from made_asks import ANYTHING, FACTS, INPUTS, LOOK, PAY, caller, chat_ask, policy, tool, tool_ask

from gateway.policy.rule_set import PolicyLoadError
from gateway.policy.testing import explain, read_tests, run_tests

HEAD = """
[principals.clerk]
role = "clerk"
tools = ["pay"]
models = ["gemini"]
"""
PAYS = """
[[cases]]
name = "pays"
principal = "clerk"
tool = "pay"
arguments = { to = "bob", tags = ["a"], place = { city = "Bern" } }
facts = { worth = 5, known = true, region = "eu" }
"""
RULES = ANYTHING + (
    '@id("never") forbid (principal, action == Action::"chat", resource)'
    ' when { context.arguments.functions.contains("x") };'
    '@id("ask") @advice("approval") forbid (principal, action == Action::"pay", resource)'
    " when { context.facts.worth > 100 };"
)


def cases_of(tmp_path, text, tools=INPUTS.tools):
    path = tmp_path / "tests.toml"
    path.write_text(text)
    return read_tests(path, tools)


def failures_of(tmp_path, text):
    return run_tests(policy(RULES), cases_of(tmp_path, HEAD + text))


def test_cases_that_come_out_right(tmp_path):
    text = f"""
{PAYS}
expect = "permit"
rules = ["anything"]
{PAYS.replace("pays", "pays much").replace("= 5", "= 101")}
expect = "hold"
rules = ["ask"]
{PAYS.replace("pays", "without facts").replace("known = true,", "")}
expect = "refuse"
rules = []
reason = "policy.undecided"
[[cases]]
name = "chats"
principal = "clerk"
chat = "gemini"
functions = ["x", "y"]
expect = "refuse"
rules = ["never"]
[[cases]]
name = "counts"
principal = "clerk"
count_tokens = "gemini"
expect = "permit"
rules = ["anything"]
[[cases]]
name = "reads"
principal = "clerk"
read = "get_operation"
expect = "permit"
rules = ["anything"]
"""
    assert len(cases_of(tmp_path, HEAD + text)) == 6
    assert failures_of(tmp_path, text) == ()


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ('expect = "permit"\nrules = []', "expected permit by no rule, got permit by anything"),
        ('expect = "permit"\nrules = ["other"]', "expected permit by other, got permit by anything"),
        ('expect = "hold"\nrules = ["anything"]', "expected hold by anything, got permit by anything"),
        ('expect = "refuse"\nrules = []', "expected refuse (policy.no_permit) by no rule, got permit by anything"),
        ('expect = "permit"\nrules = ["anything"]\nreason = "x"', "expected permit (x) by anything, got permit"),
    ],
)
def test_cases_that_come_out_otherwise(tmp_path, expected, message):
    (failure,) = failures_of(tmp_path, PAYS + expected)
    assert failure.name == "pays"
    assert message in str(failure.fault())


def test_a_call_that_cannot_be_put_is_no_refusal_by_the_rules(tmp_path):
    """Otherwise a misspelt argument would make any "refuse" come true."""
    text = PAYS.replace("to =", "too =") + 'expect = "refuse"\nrules = []'
    (failure,) = failures_of(tmp_path, text)
    assert "got refuse (policy.undecided)" in str(failure.fault())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "principals"),
        ("x =", "tests.toml"),
        (HEAD, "cases"),
        (HEAD + "cases = []", "tests.toml"),
        ("cases = []\n" + HEAD, "0 cases"),
        (HEAD + PAYS, "expect"),
        (HEAD + PAYS + 'expect = "deny"\nrules = []', "deny"),
        (HEAD + PAYS + 'expect = "permit"\nrules = []\ndry_run = true', "dry_run"),
        (HEAD + PAYS.replace("clerk", "boss") + 'expect = "permit"\nrules = []', "[principals.boss]"),
        (HEAD + PAYS.replace('tool = "pay"', 'tool = "pya"') + 'expect = "permit"\nrules = []', "0 tools 'pya'"),
        (HEAD + PAYS + 'version = "9"\nexpect = "permit"\nrules = []', "0 tools 'pay'"),
        (HEAD + PAYS + 'chat = "gemini"\nexpect = "permit"\nrules = []', "exactly one"),
        (HEAD + PAYS.replace('tool = "pay"', "") + 'expect = "permit"\nrules = []', "exactly one"),
        (HEAD + PAYS.replace('"bob"', "1979-05-27") + 'expect = "permit"\nrules = []', "write arguments as"),
        (HEAD + PAYS.replace('"bob"', "nan") + 'expect = "permit"\nrules = []', "pays"),
        (HEAD + (PAYS + 'expect = "permit"\nrules = []\n') * 2, "two tests have the name"),
        (HEAD + PAYS.replace("worth = 5", "worth = 5.5") + 'expect = "permit"\nrules = []', "facts"),
        ("#" * 300_000, "longer than"),
    ],
)
def test_refuses_files_that_say_something_else(tmp_path, text, message):
    with pytest.raises(PolicyLoadError) as caught:
        cases_of(tmp_path, text)
    assert message in str(caught.value)
    assert {fault.file for fault in caught.value.faults} == {"tests.toml"}


def test_refuses_no_file_and_no_text(tmp_path):
    with pytest.raises(PolicyLoadError, match="cannot be read"):
        read_tests(tmp_path / "tests.toml", ())
    (tmp_path / "tests.toml").write_bytes(b"\xff")
    with pytest.raises(PolicyLoadError, match="is refused"):
        read_tests(tmp_path / "tests.toml", ())


def test_a_tool_of_two_versions_must_be_named_with_its_version(tmp_path):
    second = tool(version="2", properties={"to": {"type": "string"}}, required=["to"])
    both = (PAY, second, LOOK)
    expected = 'expect = "permit"\nrules = []'
    with pytest.raises(PolicyLoadError, match="2 tools"):
        cases_of(tmp_path, HEAD + PAYS + expected, both)
    (case,) = cases_of(tmp_path, HEAD + PAYS + 'version = "2"\n' + expected, both)
    assert case.ask.tool is second


def test_explains_a_refusal_with_all_that_went_into_it():
    rules = policy(RULES)
    told = explain(rules, caller(), chat_ask(functions=("x",)), {})
    assert (told.verdict, told.reason, told.rules, told.policy_hash) == (
        "refuse",
        "policy.denied",
        ("never",),
        rules.hash,
    )
    assert told.put["action"] == "chat"
    assert told.put["principal"]["uid"] == {"type": "Agent", "id": "payer"}
    assert told.put["context"]["arguments"]["functions"] == ["x"]
    assert told.answer.decision == "Deny"


def test_explains_permits_and_holds():
    told = explain(policy(RULES), caller(), tool_ask(), FACTS)
    assert (told.verdict, told.reason, told.sentence, told.rules) == ("permit", "", "", ("anything",))
    told = explain(policy(RULES), caller(), tool_ask(), {**FACTS, "worth": 101})
    assert (told.verdict, told.rules) == ("hold", ("ask",))


def test_explains_what_could_not_be_put():
    told = explain(policy(RULES), caller(), tool_ask('{"to": 1}'), FACTS)
    assert (told.verdict, told.reason, dict(told.put)) == ("refuse", "policy.undecided", {})
    assert told.answer.errors == ("arguments.to is not a String",)
