"""What became of a tool call, as the model is told: data, never an instruction, and never more than is known."""

import json

from agent.client.contract import Operation, OperationState
from agent.client.errors import GatewayError
from agent.strict_json import json_object

NOBODY_KNOWS = "It is not known whether this happened. It may have."


def told_operation(operation: Operation) -> str:
    """A stored operation, as one JSON object. A result stays as its tool wrote it."""
    if operation.state is OperationState.SUCCEEDED:
        try:
            json_object(operation.result_json)
        except ValueError:
            return json.dumps({"state": "succeeded", "operation": operation.id, "result_text": operation.result_json})
        return f'{{"state": "succeeded", "operation": {json.dumps(operation.id)}, "result": {operation.result_json}}}'
    told: dict[str, object] = {"state": state_name(operation.state), "operation": operation.id}
    if operation.error is not None:
        told["error"] = {"reason": operation.error.reason, "message": operation.error.message}
    if operation.state is not OperationState.FAILED:
        told["note"] = NOBODY_KNOWS
    return json.dumps(told)


def told_error(error: GatewayError) -> str:
    """A call that gave no operation, as one JSON object: refused, or not known to have happened."""
    said = {"reason": error.reason, "message": error.sentence}
    if error.effect_unknown:
        return json.dumps({"state": "unknown", "operation": error.operation_id, "error": said, "note": NOBODY_KNOWS})
    violations = [{"field": field, "problem": problem} for field, problem in error.violations]
    return json.dumps({"refused": {**said, "rules": list(error.rules), "violations": violations}})


def state_name(state: OperationState) -> str:
    """As the agent's users and the model read it; a state that has no name here is unknown."""
    return "unknown" if state is OperationState.UNSPECIFIED else (state.name or "UNKNOWN").lower()
