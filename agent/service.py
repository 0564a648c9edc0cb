"""The agent's own service: a prompt comes in over HTTP, and what happens goes out as it happens.

    POST /ask  {"prompt": "...", "run_id": "..."}  ->  application/x-ndjson, one JSON object a line

Its callers are the agent's users; who they are is for the edge before this service to check.
"""

import json
import re
import secrets
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final

from aiohttp import web

from agent.client.contract import OperationState, Receipt
from agent.client.errors import GatewayError
from agent.loop import Agent, Answered, Asked, Heard, Said, TurnEnded, TurnsExceededError
from agent.tokens import TokenError

BODY_BYTES_MAX: Final = 256 * 1024
RUN_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def application(agent: Agent) -> web.Application:
    """The routes."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)

    async def ask(request: web.Request) -> web.StreamResponse:
        return await _ask(agent, request)

    app.router.add_post("/ask", ask)
    app.router.add_get("/healthz", _healthy)
    return app


async def _healthy(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _ask(agent: Agent, request: web.Request) -> web.StreamResponse:
    try:
        prompt, run_id = _question(await request.json())
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)
    reply = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    await reply.prepare(request)
    try:
        async with aclosing(agent.run(prompt, run_id)) as heard:
            async for event in heard:
                await _write(reply, _line(event))
    except GatewayError as error:
        await _write(reply, {"error": _refusal(error)})
    except (TokenError, TurnsExceededError) as error:
        await _write(reply, {"error": {"reason": "agent.stopped", "message": str(error)}})
    await reply.write_eof()
    return reply


def _question(body: object) -> tuple[str, str]:
    if not isinstance(body, dict) or not isinstance(body.get("prompt"), str) or not body["prompt"]:
        raise ValueError('send {"prompt": "..."}')
    run_id = body.get("run_id") or f"run-{secrets.token_hex(8)}"
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise ValueError("run_id: use 1 to 64 characters of A-Z a-z 0-9 _ . : -")
    return body["prompt"], run_id


async def _write(reply: web.StreamResponse, line: Mapping[str, object]) -> None:
    await reply.write(json.dumps(line).encode() + b"\n")


def _line(event: Heard) -> dict[str, object]:
    match event:
        case Said():
            return {"text": event.text}
        case Asked():
            return {"tool_call": {"name": event.call.name, "arguments": event.call.arguments_json}}
        case Answered():
            return {"tool_result": _answer(event)}
        case TurnEnded():
            usage = event.usage
            return {
                "finish": {
                    "reason": (event.finish.reason.name or "OTHER").lower(),
                    "operation": event.finish.operation_id,
                    "model_version": event.finish.model_version,
                    "input_tokens": usage.input_tokens if usage else 0,
                    "output_tokens": usage.output_tokens if usage else 0,
                    "cost_micro_usd": usage.cost_micro_usd if usage else 0,
                    "receipt": _receipt(event.finish.outcome),
                    "timing": event.report.metadata.get("gateway-timing", ""),
                }
            }


def _answer(event: Answered) -> dict[str, object]:
    if event.refusal is not None:
        return {"name": event.call.name, "refused": _refusal(event.refusal)}
    operation = event.operation
    if operation is None:
        return {"name": event.call.name}
    told: dict[str, object] = {
        "name": event.call.name,
        "operation": operation.id,
        "state": (operation.state.name or "UNKNOWN").lower(),
        "replayed": operation.replayed,
        "rules": list(operation.decision.rule_ids) if operation.decision else [],
        "receipt": _receipt(operation.outcome),
        "timing": event.report.metadata.get("gateway-timing", ""),
    }
    if operation.state is OperationState.SUCCEEDED:
        told["result"] = json.loads(operation.result_json)
    if operation.error is not None:
        told["error"] = {"reason": operation.error.reason, "message": operation.error.message}
    return told


def _refusal(error: GatewayError) -> dict[str, object]:
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
