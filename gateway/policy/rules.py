"""Verdicts: how the answer of a policy engine becomes a permit, a hold or a refusal, whatever it says.

Default is no. An error of any rule is a no, because a `forbid` that fails falls silent and the engine then says yes
(governance study, section 1.4). A hold is a no that one person could lift, and only that one.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from gateway.terms.asks import Ask
from gateway.terms.caller import Caller
from gateway.terms.ids import RuleId
from gateway.terms.verdict import Hold, Kind, Permit, Refusal

APPROVAL: Final = "approval"
"""The only advice: a person may agree."""

OBLIGATIONS: Final[frozenset[str]] = frozenset()
"""What this gateway can be obliged to do on a permitted call. A permit that asks for more is worth nothing."""

SENTENCE_MAX: Final = 600
_RULE_IN_ERROR: Final = re.compile(r"policy `([^`]+)`")


class Effect(Enum):
    """What a rule does."""

    PERMIT = "permit"
    FORBID = "forbid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the set: its name, and what it says beside its condition."""

    id: RuleId
    effect: Effect
    advice: str = ""
    """Of a `forbid`: `approval`, or empty for a rule that nobody can lift."""
    say: str = ""
    """Of a `forbid`: the sentence for the refused caller."""
    obligation: str = ""
    """Of a `permit`: what must be done on the way."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine said."""

    decision: str
    """`Allow`, `Deny`, or anything else, which is none."""
    determining: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class Hearing(msgspec.Struct, frozen=True, kw_only=True):
    """A call before the rules."""

    caller: Caller
    ask: Ask
    rules: Mapping[str, Rule]
    policy_hash: str

    def verdict(self, answer: Answer, without_approvals: Callable[[], Answer]) -> Permit | Hold | Refusal:
        """Read an answer; `without_approvals` asks again, without the rules that a person could lift.

        A hold needs a yes of that second answer. Otherwise a person would be asked for what no rule permits, or what
        cannot be decided, and an approval could stand in for a permit.
        """
        if answer.errors or not self.rules.keys() >= set(answer.determining):
            return self._failed(answer)
        if answer.decision == "Allow":
            return self._allowed(answer)
        if answer.decision == "Deny":
            return self._denied(answer, without_approvals)
        return undecided("they were not given the call in a form that they understand", self.policy_hash)

    def _allowed(self, answer: Answer) -> Permit | Refusal:
        if not answer.determining or any(self.rules[name].effect is not Effect.PERMIT for name in answer.determining):
            return self._failed(answer)
        obliging = [name for name in answer.determining if self.rules[name].obligation]
        if any(self.rules[name].obligation not in OBLIGATIONS for name in obliging):
            sentence = (
                "The rules permit this only with an obligation that this gateway does not know; ask the operator."
            )
            return self._no("policy.unknown_obligation", sentence, obliging)
        return Permit(caller=self.caller, ask=self.ask, rules=_ids(answer.determining), policy_hash=self.policy_hash)

    def _denied(self, answer: Answer, without_approvals: Callable[[], Answer]) -> Hold | Refusal:
        if not answer.determining:
            return self._no("policy.no_permit", "No rule permits this call; ask the operator for one.", ())
        if any(self.rules[name].advice != APPROVAL for name in answer.determining):
            said = " ".join(self.rules[name].say for name in sorted(answer.determining) if self.rules[name].say)
            sentence = said[:SENTENCE_MAX] or "The rules forbid this call; ask the operator about those named here."
            return self._no("policy.denied", sentence, answer.determining)
        lifted = self.verdict(without_approvals(), lambda: Answer(decision="NoDecision"))
        if isinstance(lifted, Permit):
            return Hold(caller=self.caller, ask=self.ask, rules=_ids(answer.determining), policy_hash=self.policy_hash)
        return lifted

    def _failed(self, answer: Answer) -> Refusal:
        failing = {name for error in answer.errors for name in _RULE_IN_ERROR.findall(error) if name in self.rules}
        sentence = "A rule could not be evaluated, so the answer is no; the operator must correct the rule."
        return self._no("policy.error", sentence, failing | (set(answer.determining) & self.rules.keys()))

    def _no(self, reason: str, sentence: str, rules: Iterable[str]) -> Refusal:
        return Refusal(
            kind=Kind.FORBIDDEN, reason=reason, sentence=sentence, rules=_ids(rules), policy_hash=self.policy_hash
        )


def undecided(why: str, policy_hash: str) -> Refusal:
    """The refusal of a call on which no decision was made."""
    return Refusal(
        kind=Kind.FORBIDDEN,
        reason="policy.undecided",
        sentence=f"The call is refused, because the rules cannot decide on it: {why}.",
        policy_hash=policy_hash,
    )


def _ids(names: Iterable[str]) -> tuple[RuleId, ...]:
    return tuple(RuleId(name) for name in sorted(names))
