"""The scenes of the demonstration, in the order in which they are shown."""

from typing import cast

from agent.client.contract import OperationState
from agent.client.gateway import CallReport, GatewayClient
from localcloud.demo.conversation import Heard, asked
from localcloud.demo.eyes import Eyes
from localcloud.demo.scene import Json, Scene, Stopwatch, stages_ms

STREAM_PROMPT = "@pace deltas=40 interval_ms=15 size=4\nTell me in a few sentences what a market order is."


async def streamed_answer(eyes: Eyes) -> Scene:
    """A model answer, streamed through the gateway and the agent to its user."""
    scene = Scene(name="stream", title="A streamed answer")
    heard = await asked(eyes, STREAM_PROMPT, "demo-stream")
    _tell_answer(scene, heard)
    spread_ms = heard.last_text_ms - heard.first_text_ms
    scene.figures["first_delta_ms"] = round(heard.first_text_ms, 2)
    scene.figures["deltas"] = heard.deltas
    scene.expect("pieces of text", "the wire", 40, heard.deltas)
    scene.expect_true(
        "pieces came while the model spoke",
        "the wire",
        "over 300 ms between the first and the last",
        ok=spread_ms > 300,
        seen=f"{spread_ms:.0f} ms",
    )
    finish = heard.named("finish")
    scene.expect("the answer is complete", "the wire", ["stop"], [one["reason"] for one in finish])
    if finish:
        _tell_stages(scene, str(finish[0]["timing"]))
        _expect_record(scene, eyes, str(finish[0]["operation"]), "succeeded")
    streams = [one for one in await eyes.model_requests() if str(one["path"]).find("streamGenerateContent") >= 0]
    scene.expect(
        "who asked the model upstream",
        "the model upstream",
        {"sa-gateway@local-project.iam.gserviceaccount.com"},
        {one["caller"] for one in streams},
    )
    return scene


async def permitted_order(eyes: Eyes) -> Scene:
    """An order that the model asks for, within the rules."""
    scene = Scene(name="order", title="An order the model asks for, permitted and filled")
    before = await eyes.orders()
    heard = await asked(eyes, "buy 5 AAPL", "demo-order")
    _tell_answer(scene, heard)
    placed = (await eyes.orders())[len(before) :]
    results = [one for one in heard.named("tool_result") if one["name"] == "place_order"]
    scene.expect("orders the agent was told of", "the wire", ["succeeded"], [one.get("state") for one in results])
    scene.expect("new orders", "the exchange", 1, len(placed))
    if not placed or not results:
        return scene
    order, result = placed[0], results[0]
    scene.expect(
        "what was ordered",
        "the exchange",
        ("AAPL", "buy", "5", "filled"),
        (order["symbol"], order["side"], order["qty"], order["status"]),
    )
    receipt = cast(Json, result["receipt"] or {})
    scene.tell(
        f"filled {order['filled_qty']} {order['symbol']} at {order['filled_avg_price']}; rules {result['rules']}; "
        f"receipt {receipt.get('boot')}/{receipt.get('sequence')}"
    )
    _tell_stages(scene, str(result["timing"]))
    _expect_record(scene, eyes, str(result["operation"]), "succeeded")
    scene.facts["client_order_id"] = order["client_order_id"]
    scene.facts["receipt"] = receipt
    return scene


async def refused_order(eyes: Eyes) -> Scene:
    """An order over the agent's limit."""
    scene = Scene(name="limit", title="An order over the limit, refused")
    before, requests = await eyes.orders(), len(eyes.records())
    heard = await asked(eyes, "buy 80 AAPL", "demo-limit")
    _tell_answer(scene, heard)
    results = [one for one in heard.named("tool_result") if one["name"] == "place_order"]
    refusals = [cast(Json, one["refused"]) for one in results if "refused" in one]
    scene.expect(
        "what the agent is told",
        "the wire",
        [("PERMISSION_DENIED", "limit.notional", ["limit.notional"])],
        [(one["status"], one["reason"], one["rules"]) for one in refusals],
    )
    for one in refusals:
        scene.tell(f"refused: {one['message']}")
        _tell_stages(scene, str(one["timing"]))
    scene.expect("new orders", "the exchange", 0, len(await eyes.orders()) - len(before))
    fresh = eyes.records()[requests:]
    refused = [one for one in fresh if one["kind"] == "refusal"]
    scene.expect("refusals", "the record", [["limit.notional"]], [one.get("rules") for one in refused])
    return scene


async def repeated_key(eyes: Eyes, client: GatewayClient) -> Scene:
    """The same idempotency key sent twice."""
    scene = Scene(name="replay", title="The same key twice: one effect")
    before = await eyes.orders()
    order = {"symbol": "MSFT", "side": "buy", "type": "market", "quantity": "3", "time_in_force": "day"}
    report = CallReport()
    watch = Stopwatch()
    first = await client.execute_tool("place_order", order, key="demo-key-1", run_id="demo-replay", report=report)
    scene.figures["order_ms"] = round(watch.ms(), 2)
    watch = Stopwatch()
    again = await client.execute_tool("place_order", order, key="demo-key-1", run_id="demo-replay")
    scene.figures["replay_ms"] = round(watch.ms(), 2)
    scene.expect("the first answer", "the wire", OperationState.SUCCEEDED, first.state)
    scene.expect(
        "the second answer",
        "the wire",
        (first.id, first.result_json, False, True),
        (again.id, again.result_json, first.replayed, again.replayed),
    )
    placed = (await eyes.orders())[len(before) :]
    scene.expect("new orders", "the exchange", 1, len(placed))
    kinds = [one["kind"] for one in eyes.records() if one.get("operation") == first.id]
    scene.expect("records of the operation", "the record", ["intent", "outcome", "replay"], kinds)
    scene.tell(f"both answers are operation {first.id}; the exchange has {len(placed)} order")
    _tell_stages(scene, report.metadata.get("gateway-timing", ""))
    return scene


async def verified_record(eyes: Eyes, *, closed: bool) -> Scene:
    """The audit log, verified by a process of its own."""
    scene = Scene(name="audit", title="The record, verified offline")
    watch = Stopwatch()
    code, report = await eyes.verified()
    scene.figures["verify_ms"] = round(watch.ms(), 1)
    scene.expect("exit code of the verifier", "the verifier", 0, code)
    scene.expect("verdict", "the verifier", "ok", "ok" if report["ok"] else report)
    records = eyes.records()
    scene.expect("records verified", "the verifier", len(records), report["records"])
    intents = {str(one["operation"]) for one in records if one["kind"] == "intent"}
    endings = [str(one["operation"]) for one in records if one["kind"] in ("outcome", "lost")]
    scene.expect("every intent has one ending", "the record", sorted(intents), sorted(endings))
    placed = [one for one in records if one["kind"] == "intent" and one["ask"] == "place_order"]
    scene.expect("orders recorded before they were sent", "the exchange", len(placed), len(await eyes.orders()))
    if closed:
        scene.expect("last record", "the record", "close", records[-1]["kind"])
    secret = eyes.town.exchange_secret.encode()
    scene.expect("places of the exchange's key", "the file", 0, eyes.town.ledger.read_bytes().count(secret))
    scene.tell(f"{len(records)} records, {len(intents)} operations, each with its intent and its ending")
    return scene


def _tell_answer(scene: Scene, heard: Heard) -> None:
    for line in heard.lines:
        if "tool_call" in line:
            call = cast(Json, line["tool_call"])
            scene.tell(f"the model asks: {call['name']} {call['arguments']}")
        elif "error" in line:
            scene.tell(f"error: {line['error']}")
    if heard.text:
        text = " ".join(heard.text.split())
        scene.tell(f"the agent says: {text[:160]}{'...' if len(text) > 160 else ''}")


def _tell_stages(scene: Scene, timing: str) -> None:
    stages = stages_ms(timing)
    scene.figures.update({f"stage_{name}_ms": spent for name, spent in stages.items()})
    scene.tell("stages: " + ", ".join(f"{name} {spent:.2f} ms" for name, spent in stages.items()))


def _expect_record(scene: Scene, eyes: Eyes, operation: str, state: str) -> None:
    records = [one for one in eyes.records() if one.get("operation") == operation]
    scene.expect("records of the operation", "the record", ["intent", "outcome"], [one["kind"] for one in records])
    if len(records) == 2:
        scene.expect("its outcome", "the record", state, records[1].get("state"))
