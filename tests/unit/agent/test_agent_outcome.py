import json

import pytest
from grpclib.const import Status

from agent.client import GatewayError
from agent.client.contract import Operation, OperationState
from agent.outcome import told_error, told_operation
from generated.agentic.gateway.v1 import ToolError


def test_a_result_is_told_as_its_tool_wrote_it():
    told = told_operation(
        Operation(id="op-1", state=OperationState.SUCCEEDED, result_json='{"price": 10.10, "n": 1e400}')
    )
    assert told == '{"state": "succeeded", "operation": "op-1", "result": {"price": 10.10, "n": 1e400}}'


@pytest.mark.parametrize("result", ["", "[1]", "plain", '{"a": NaN}', '{"a": 1, "a": 2}'])
def test_a_result_that_is_no_json_object_is_told_as_text(result):
    told = json.loads(told_operation(Operation(id="op-1", state=OperationState.SUCCEEDED, result_json=result)))
    assert told == {"state": "succeeded", "operation": "op-1", "result_text": result}


def test_a_definite_no_is_told_as_one():
    error = ToolError(reason="venue.insufficient_funds", message="too little cash")
    told = json.loads(told_operation(Operation(id="op-1", state=OperationState.FAILED, error=error)))
    assert told == {
        "state": "failed",
        "operation": "op-1",
        "error": {"reason": "venue.insufficient_funds", "message": "too little cash"},
    }


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (OperationState.UNKNOWN, "unknown"),
        (OperationState.CLAIMED, "claimed"),
        (OperationState.DISPATCHED, "dispatched"),
        (OperationState.RECONCILING, "reconciling"),
        (OperationState.UNSPECIFIED, "unknown"),
        (OperationState(77), "unknown"),
    ],
)
def test_what_nobody_knows_is_never_told_as_failed(state, name):
    error = ToolError(reason="upstream.reply_lost", message="no answer came")
    told = json.loads(told_operation(Operation(id="op-1", state=state, error=error)))
    assert told["state"] == name
    assert told["error"]["reason"] == "upstream.reply_lost"
    assert "It may have" in told["note"]


def test_a_refusal_is_told_with_its_rules_and_what_was_wrong():
    error = GatewayError(
        status=Status.PERMISSION_DENIED,
        reason="limit.notional",
        sentence="over the limit",
        rules=("limit.notional",),
        violations=(("quantity", "too large"),),
    )
    assert json.loads(told_error(error)) == {
        "refused": {
            "reason": "limit.notional",
            "message": "over the limit",
            "rules": ["limit.notional"],
            "violations": [{"field": "quantity", "problem": "too large"}],
        }
    }


def test_an_error_after_which_it_may_have_happened_is_told_as_unknown():
    error = GatewayError(
        status=Status.DEADLINE_EXCEEDED, reason="deadline.exceeded", sentence="late", effect_unknown=True
    )
    told = json.loads(told_error(error))
    assert told["state"] == "unknown"
    assert "refused" not in told
    assert "It may have" in told["note"]
