"""Reading an engine's answers, whatever it says."""

import pytest
from made_asks import caller, tool_ask

from gateway.policy.rules import Answer, Effect, Hearing, Rule
from gateway.terms.ids import RuleId
from gateway.terms.verdict import Hold, Kind, Permit, Refusal


def rule(name, effect, **said):
    return Rule(id=RuleId(name), effect=effect, **said)


RULES = {
    one.id: one
    for one in (
        rule("may", Effect.PERMIT),
        rule("may-too", Effect.PERMIT),
        rule("may-if", Effect.PERMIT, obligation="redact:pii"),
        rule("never", Effect.FORBID, say="Never do this."),
        rule("not-now", Effect.FORBID),
        rule("ask", Effect.FORBID, advice="approval", say="A person must agree."),
        rule("ask-too", Effect.FORBID, advice="approval"),
    )
}
CALLER, ASK = caller(), tool_ask()
HEARING = Hearing(caller=CALLER, ask=ASK, rules=RULES, policy_hash="h")
ALLOWED = Answer(decision="Allow", determining=("may",))


def allow(*names, errors=()):
    return Answer(decision="Allow", determining=names, errors=errors)


def deny(*names, errors=()):
    return Answer(decision="Deny", determining=names, errors=errors)


def verdict(answer, otherwise=ALLOWED):
    return HEARING.verdict(answer, lambda: otherwise)


def test_a_permit_carries_the_very_ask_and_sorted_rules():
    given = verdict(allow("may-too", "may"))
    assert isinstance(given, Permit)
    assert given.ask is ASK
    assert given.caller is CALLER
    assert (given.rules, given.policy_hash) == (("may", "may-too"), "h")


def test_a_hold_carries_the_approval_rules():
    held = verdict(deny("ask-too", "ask"))
    assert isinstance(held, Hold)
    assert held.ask is ASK
    assert (held.rules, held.policy_hash) == (("ask", "ask-too"), "h")


@pytest.mark.parametrize(
    ("answer", "reason", "rules"),
    [
        (deny(), "policy.no_permit", ()),
        (deny("never"), "policy.denied", ("never",)),
        (deny("not-now", "never"), "policy.denied", ("never", "not-now")),
        (deny("ask", "never"), "policy.denied", ("ask", "never")),
        (allow("may-if"), "policy.unknown_obligation", ("may-if",)),
        (allow("may", "may-if"), "policy.unknown_obligation", ("may-if",)),
        (allow(), "policy.error", ()),
        (allow("never"), "policy.error", ("never",)),
        (allow("may", "unheard-of"), "policy.error", ("may",)),
        (deny("unheard-of"), "policy.error", ()),
        (allow("may", errors=("error while evaluating policy `never`: overflow",)), "policy.error", ("may", "never")),
        (allow("may", errors=("something else",)), "policy.error", ("may",)),
        (deny("ask", errors=("policy `ghost`",)), "policy.error", ("ask",)),
        (deny(errors=("x",)), "policy.error", ()),
        (Answer(decision="NoDecision", errors=("failed to build request",)), "policy.error", ()),
        (Answer(decision="NoDecision"), "policy.undecided", ()),
        (Answer(decision="NoDecision", determining=("may",)), "policy.undecided", ()),
        (Answer(decision="allow", determining=("may",)), "policy.undecided", ()),
        (Answer(decision=""), "policy.undecided", ()),
    ],
)
def test_everything_else_is_a_no(answer, reason, rules):
    refusal = verdict(answer)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.reason, refusal.rules, refusal.policy_hash) == (Kind.FORBIDDEN, reason, rules, "h")
    assert refusal.sentence.endswith(".")


@pytest.mark.parametrize(
    ("otherwise", "reason"),
    [
        (deny(), "policy.no_permit"),
        (deny("never"), "policy.denied"),
        (deny("ask"), "policy.undecided"),
        (allow("may", errors=("x",)), "policy.error"),
        (allow("may-if"), "policy.unknown_obligation"),
        (Answer(decision="NoDecision"), "policy.undecided"),
    ],
)
def test_nobody_is_asked_to_agree_to_what_would_still_be_a_no(otherwise, reason):
    refusal = verdict(deny("ask"), otherwise)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason


def test_the_second_question_is_only_put_for_a_hold():
    def fail():
        raise AssertionError

    for answer in (allow("may"), deny(), deny("never"), deny("ask", "never"), deny("ask", errors=("x",))):
        HEARING.verdict(answer, fail)


def test_a_refusal_says_what_the_rules_say():
    assert verdict(deny("never")).sentence == "Never do this."
    assert verdict(deny("ask", "never")).sentence == "A person must agree. Never do this."
    assert "not-now" not in verdict(deny("not-now")).sentence


def test_errors_stay_inside():
    refusal = verdict(allow("may", errors=("policy `never`: the value `4711` of bob",)))
    assert "4711" not in refusal.sentence
