"""The scene of the tool loop: two calls inside of one stream, one of them refused, and the model goes on."""

import json
from contextlib import aclosing
from typing import cast

from agent.client.contract import (
    ChatEvent,
    ChatRequest,
    Content,
    FinishReason,
    OperationState,
    Part,
    Resumable,
    Role,
    RunTools,
    ToolRun,
    Verdict,
)
from agent.client.gateway import CallReport, GatewayClient
from localcloud.demo.eyes import Eyes
from localcloud.demo.scene import Json, Scene, Stopwatch

PROMPT = "buy 2 AAPL and buy 80 AAPL"


async def two_calls_in_one_stream(eyes: Eyes, client: GatewayClient) -> Scene:
    """The gateway runs the model's tools itself, and tells the model of a refusal as data."""
    scene = Scene(name="loop", title="Two tool calls inside one stream, one of them refused")
    orders, records, asked = await eyes.orders(), len(eyes.records()), len(await eyes.model_requests())
    report, watch = CallReport(), Stopwatch()
    events = await _heard(client, report)
    scene.figures["stream_ms"] = round(watch.ms(), 2)
    runs = [event.tool_run for event in events if event.tool_run is not None]
    _tell(scene, events, runs)
    _expect_on_the_wire(scene, events, runs)
    placed = (await eyes.orders())[len(orders) :]
    scene.expect("new orders", "the exchange", [("AAPL", "2")], [(one["symbol"], one["qty"]) for one in placed])
    _expect_on_record(scene, eyes.records()[records:], report.metadata.get("gateway-operation", ""))
    requests = (await eyes.model_requests())[asked:]
    scene.expect("times that the model was asked", "the model upstream", 2, len(requests))
    return scene


async def _heard(client: GatewayClient, report: CallReport) -> list[ChatEvent]:
    request = ChatRequest(
        model="flash",
        contents=[Content(role=Role.USER, parts=[Part(text=PROMPT)])],
        run_id="demo-loop",
        run_tools=RunTools(idempotency_key="demo-loop"),
        resumable=Resumable.CANCELLED,
    )
    async with aclosing(client.chat(request, report=report)) as events:
        return [event async for event in events]


def _tell(scene: Scene, events: list[ChatEvent], runs: list[ToolRun]) -> None:
    for event in events:
        if event.tool_call is not None and event.tool_call.call is not None:
            scene.tell(f"the model asks: {event.tool_call.call.name} {event.tool_call.call.arguments_json}")
    for run in runs:
        if run.outcome is not None:
            scene.tell(f"the gateway runs it: {run.outcome.state.name}, operation {run.outcome.id}")
        if run.refused is not None:
            scene.tell(f"the gateway refuses it: {run.refused.message}")
    words = _words(events)
    scene.tell(f"the model goes on: {words[:90]} ... {words[-120:]}")


def _expect_on_the_wire(scene: Scene, events: list[ChatEvent], runs: list[ToolRun]) -> None:
    verdicts = [run.verdict.verdict for run in runs if run.verdict is not None]
    scene.expect("what the rules said first", "the wire", [Verdict.PERMITTED], verdicts)
    outcomes = [run.outcome for run in runs if run.outcome is not None]
    states = [one.state for one in outcomes]
    scene.expect("what was executed", "the wire", [OperationState.SUCCEEDED], states)
    refusals = [(run.refused.reason, run.refused.rule_ids) for run in runs if run.refused is not None]
    scene.expect("what was refused", "the wire", [("limit.notional", ["limit.notional"])], refusals)
    last = events[-1].finish
    ended = (last.reason, last.turns) if last is not None else None
    scene.expect("how the stream ended, after how many turns", "the wire", (FinishReason.STOP, 2), ended)
    results = [cast(Json, json.loads(run.result_json)) for run in runs if run.result_json]
    told = [result["state"] for result in results]
    scene.expect("what the model was told, as data", "the wire", ["succeeded", "refused"], told)
    words = _words(events)
    named = all(one in words for one in (outcomes[0].id if outcomes else "?", "limit.notional"))
    scene.expect_true("the model speaks of both", "the wire", "operation and reason", ok=named, seen=words)


def _expect_on_record(scene: Scene, fresh: list[Json], first: str) -> None:
    intents = [str(one["ask"]) for one in fresh if one["kind"] == "intent"]
    scene.expect("intents", "the record", ["chat:flash", "place_order", "chat:flash"], intents)
    scene.expect("outcomes", "the record", 3, [one["kind"] for one in fresh].count("outcome"))
    refused = [one.get("rules") for one in fresh if one["kind"] == "refusal"]
    scene.expect("refusals", "the record", [["limit.notional"]], refused)
    scene.expect("requests that all of it belongs to", "the record", 1, len({one["request"] for one in fresh}))
    turns = [(one["turn"], one["chat"]) for one in fresh if one["kind"] == "intent" and one["ask"] == "chat:flash"]
    scene.expect("turns, linked to the first", "the record", [(1, ""), (2, first)], turns)


def _words(events: list[ChatEvent]) -> str:
    return " ".join("".join(event.text.text for event in events if event.text is not None).split())
