"""What the agent's user reads: one JSON object a line for each thing that happens in a run."""

import json

from agent.client.contract import Operation, OperationState, Receipt, ToolRun
from agent.client.errors import GatewayError
from agent.loop import Again, Answered, Asked, Heard, Ran, Said, TurnEnded
from agent.outcome import state_name
from agent.strict_json import json_object


def line(event: Heard) -> bytes:
    """The line of an event: `text`, `tool_call`, `tool_result`, `again` or `finish`."""
    match event:
        case Said():
            return encoded({"text": event.text})
        case Asked():
            return encoded({"tool_call": {"name": event.call.name, "arguments": event.call.arguments_json}})
        case Answered():
            return encoded({"tool_result": {"name": event.call.name, **_answer(event)}})
        case Ran():
            return encoded({"tool_result": {"name": event.call.name, **_ran(event.run)}})
        case Again():
            return encoded({"again": _error(event.error)})
        case TurnEnded():
            return encoded({"finish": _finish(event)})


def failure(error: GatewayError) -> bytes:
    """The last line of a run that the gateway ended."""
    return encoded({"error": _error(error)})


def stopped(reason: str, sentence: str) -> bytes:
    """The last line of a run that the agent itself ended."""
    return encoded({"error": {"reason": reason, "message": sentence}})


def encoded(told: dict[str, object]) -> bytes:
    """One line."""
    return json.dumps(told).encode() + b"\n"


def _answer(event: Answered) -> dict[str, object]:
    error = event.refusal
    if event.operation is not None:
        return _operation(event.operation, event.report.metadata.get("gateway-timing", ""))
    if error is None:
        return {"state": "unknown"}
    return {"state": "unknown", "error": _error(error)} if error.effect_unknown else {"refused": _error(error)}


def _ran(run: ToolRun) -> dict[str, object]:
    if run.outcome is not None:
        return _operation(run.outcome, run.timing)
    refused = run.refused
    if refused is None:
        return {"state": "unknown"}
    said = {"reason": refused.reason, "message": refused.message, "rules": list(refused.rule_ids)}
    return {"refused": {**said, "timing": run.timing}}


def _operation(operation: Operation, timing: str) -> dict[str, object]:
    told: dict[str, object] = {
        "operation": operation.id,
        "state": state_name(operation.state),
        "replayed": operation.replayed,
        "rules": list(operation.decision.rule_ids) if operation.decision else [],
        "receipt": _receipt(operation.outcome),
        "timing": timing,
    }
    if operation.state is OperationState.SUCCEEDED:
        try:
            told["result"] = json_object(operation.result_json)
        except ValueError:
            told["result_text"] = operation.result_json
    if operation.error is not None:
        told["error"] = {"reason": operation.error.reason, "message": operation.error.message}
    return told


def _finish(event: TurnEnded) -> dict[str, object]:
    usage = event.usage
    return {
        "reason": (event.finish.reason.name or "OTHER").lower(),
        "operation": event.finish.operation_id,
        "model_version": event.finish.model_version,
        "input_tokens": usage.input_tokens if usage else 0,
        "output_tokens": usage.output_tokens if usage else 0,
        "cost_micro_usd": usage.cost_micro_usd if usage else 0,
        "receipt": _receipt(event.finish.outcome),
        "timing": event.report.metadata.get("gateway-timing", ""),
    }


def _error(error: GatewayError) -> dict[str, object]:
    return {
        "status": error.status.name,
        "reason": error.reason,
        "message": error.sentence,
        "rules": list(error.rules),
        "request": error.request_id,
        "timing": error.timing,
    }


def _receipt(receipt: Receipt | None) -> dict[str, object] | None:
    if receipt is None:
        return None
    return {
        "instance": receipt.instance_id,
        "boot": receipt.boot_id,
        "sequence": receipt.sequence,
        "leaf_hash": receipt.leaf_hash.hex(),
    }
