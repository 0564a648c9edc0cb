"""The tool loop in messages: what a caller asks the gateway to run, and the steps of what it ran."""

import re
from typing import Final

from gateway.call.told import Pending, Permitted, Ran, ToolStep
from gateway.services.form import malformed
from gateway.services.tools import operation
from gateway.terms import asks
from gateway.terms.limits import FUNCTIONS_MAX
from gateway.terms.verdict import Refusal
from generated.agentic.gateway.v1 import Decision, FieldProblem, RunTools, ToolRefusal, ToolRun, Verdict

TURNS_MAX: Final = 32
TURNS_USUAL: Final = 8

_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")


def run_tools(asked: RunTools | None) -> asks.RunTools | None:
    """The tools that the gateway is to run; raises `RefusedError`."""
    if asked is None:
        return None
    if not 0 <= asked.turns_max <= TURNS_MAX:
        raise malformed("run_tools.turns_max", f"must be 1 to {TURNS_MAX}, or 0 for {TURNS_USUAL}")
    if len(asked.tools) > FUNCTIONS_MAX:
        raise malformed("run_tools.tools", f"name at most {FUNCTIONS_MAX}")
    if asked.idempotency_key and not _KEY.fullmatch(asked.idempotency_key):
        raise malformed("run_tools.idempotency_key", "use 1 to 200 printable ASCII characters without space")
    return asks.RunTools(turns_max=asked.turns_max or TURNS_USUAL, tools=tuple(asked.tools), key=asked.idempotency_key)


def tool_run(told: ToolStep) -> ToolRun:
    """A step as its caller is told of it."""
    run = ToolRun(call_id=told.call_id, tool=told.tool, turn=told.turn, place=told.place)
    match told.step:
        case Permitted(rules=rules, policy_hash=policy_hash):
            reason = "policy.permitted"
            run.verdict = Decision(
                verdict=Verdict.PERMITTED, reason=reason, rule_ids=list(rules), policy_hash=policy_hash
            )
        case Pending(refusal=refusal):
            run.verdict = Decision(
                verdict=Verdict.HELD,
                reason=refusal.reason,
                rule_ids=list(refusal.rules),
                policy_hash=refusal.policy_hash,
            )
        case Ran(answer=answer):
            run.result_json, run.timing = told.step.told, told.step.timing
            if isinstance(answer, Refusal):
                run.refused = _refusal(answer)
            else:
                run.outcome = operation(answer.operation, replayed=answer.replayed)
    return run


def _refusal(refusal: Refusal) -> ToolRefusal:
    return ToolRefusal(
        reason=refusal.reason,
        message=refusal.sentence,
        rule_ids=list(refusal.rules),
        problems=[FieldProblem(field=one.field, problem=one.description) for one in refusal.violations],
        operation_id=refusal.operation_id,
    )
