"""The rules in Cedar, decided in this process: parsed, validated and tested once, then asked for every call."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cedarpy
import msgspec

from gateway.policy.looks import put
from gateway.policy.question import Examination, Question, Thing, question
from gateway.policy.rule_set import PolicyFile, PolicyLoadError, RuleSet, compiled, read_files
from gateway.policy.rules import Answer, Hearing, Rule, undecided
from gateway.policy.schema import PolicyInputs, PolicySchema, policy_schema
from gateway.policy.shapes import UnfitError
from gateway.policy.testing import TESTS_FILE, read_tests, run_tests
from gateway.terms.asks import Ask
from gateway.terms.caller import Caller
from gateway.terms.evidence import Facts
from gateway.terms.verdict import Hold, Permit, Refusal

ENTITIES_REMEMBERED_MAX: Final = 2_048
"""Parsed pairs of a principal and a resource: every agent with every tool it uses."""

_CONTEXT: Final = msgspec.json.Encoder()


class CedarPolicy:
    """Implements `Policy` over one set of rules. It never changes: a new set is a new object, swapped in whole."""

    def __init__(self, rule_set: RuleSet, schema: PolicySchema) -> None:
        """Of rules that are compiled but not tested; `load` is the way to rules that may decide."""
        self._rule_set = rule_set
        self._schema = schema
        self._entities: OrderedDict[tuple[Thing, Thing], cedarpy.Entities] = OrderedDict()

    @classmethod
    def load(cls, folder: Path, inputs: PolicyInputs) -> "CedarPolicy":
        """The rules of a folder: its `*.cedar` files, proven by its `tests.toml`.

        Raises `PolicyLoadError` with every fault of the files, or else every test that failed, and
        `PolicySchemaError` for tools that no rule can be written for. What was loaded before stays as it is.
        """
        policy = cls.compile(read_files(folder), inputs)
        failures = run_tests(policy, read_tests(folder / TESTS_FILE, inputs.tools))
        if failures:
            raise PolicyLoadError(tuple(failure.fault() for failure in failures))
        return policy

    @classmethod
    def compile(cls, files: tuple[PolicyFile, ...], inputs: PolicyInputs) -> "CedarPolicy":
        """The rules of these files, validated but not tested. Raises as `load`."""
        schema = policy_schema(inputs)
        return cls(compiled(files, schema), schema)

    @property
    def hash(self) -> str:
        """What decided, in hex: changes with any byte of the rules and with the tools that they are about."""
        return self._rule_set.hash

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules by their ids."""
        return self._rule_set.rules

    @property
    def schema_text(self) -> str:
        """The schema in Cedar's own syntax, for people who write rules."""
        return str(self._rule_set.schema)

    async def decide(self, caller: Caller, ask: Ask, facts: Facts) -> Permit | Hold | Refusal:
        """See `Policy`. Takes about 0.1 ms of this thread and waits for nothing."""
        return self.decide_now(caller, ask, facts)

    def decide_now(self, caller: Caller, ask: Ask, facts: Facts) -> Permit | Hold | Refusal:
        """The same, for those who have no event loop."""
        return self.examine(caller, ask, facts).verdict

    def examine(self, caller: Caller, ask: Ask, facts: Facts) -> Examination:
        """Decide, and keep what was asked and answered, for explanations."""
        try:
            asked = question(caller, ask, facts, self._schema.contexts)
        except UnfitError as error:
            return Examination(
                question=None,
                answer=Answer(decision="NoDecision", errors=(str(error),)),
                verdict=undecided(str(error), self.hash),
            )
        hearing = Hearing(caller=caller, ask=ask, rules=self._rule_set.rules, policy_hash=self.hash)
        answer = self._answer(asked, self._rule_set.everything)
        verdict = hearing.verdict(answer, lambda: self._answer(asked, self._rule_set.without_approvals))
        return Examination(question=asked, answer=answer, verdict=verdict)

    def _answer(self, asked: Question, rules: cedarpy.PolicySet) -> Answer:
        try:
            request = {
                "principal": asked.principal.uid(),
                "action": {"type": "Action", "id": asked.action},
                "resource": asked.resource.uid(),
                "context": _CONTEXT.encode(put(asked.context, self._rule_set.asked[asked.action])).decode(),
            }
            result = cedarpy.is_authorized(request, rules, self._parsed(asked), self._rule_set.asked_schema)
        except ValueError as error:
            # Half a surrogate pair, which no encoder writes, is one too.
            return Answer(decision="NoDecision", errors=(str(error),))
        said = result.diagnostics
        return Answer(decision=result.decision.name, determining=tuple(said.reasons), errors=tuple(said.errors))

    def _parsed(self, asked: Question) -> cedarpy.Entities:
        """Principal and resource, checked against the schema once and then remembered."""
        key = (asked.principal, asked.resource)
        entities = self._entities.get(key)
        if entities is not None:
            self._entities.move_to_end(key)
            return entities
        text = json.dumps([asked.principal.entity(), asked.resource.entity()])
        entities = self._entities[key] = cedarpy.Entities.from_json_str(text, self._rule_set.schema)
        if len(self._entities) > ENTITIES_REMEMBERED_MAX:
            self._entities.popitem(last=False)
        return entities
