"""The gateway dies between the exchange's acceptance and its reply, comes back, and tells the truth."""

import asyncio
import json
from typing import Final

from agent.client.contract import Operation, OperationState
from agent.client.errors import GatewayError
from agent.client.gateway import GatewayClient
from localcloud.demo.eyes import Eyes
from localcloud.demo.scene import Scene, Stopwatch
from localcloud.demo.town import Town, gateway_again

ORDER: Final = {"symbol": "MSFT", "side": "buy", "type": "market", "quantity": "2", "time_in_force": "day"}
KEY: Final = "demo-killed-1"
REPLY_LATE_MS: Final = 3_000
TRUTH_S: Final = 20.0
"""Until when the truth must be known; it takes about as long as a start."""


async def killed_gateway(eyes: Eyes, client: GatewayClient) -> tuple[Scene, Town]:
    """SIGKILL while the exchange has the order and its reply is on the way; gives the town with the new process."""
    scene = Scene(name="killed", title="The gateway killed between the exchange's yes and its reply")
    before = len(await eyes.orders())
    late = {
        "kind": "latency_after",
        "match": {"method": "POST", "path_prefix": "/v2/orders"},
        "delay_ms": REPLY_LATE_MS,
    }
    await eyes.break_exchange([late])
    async with asyncio.TaskGroup() as group:
        # The agent does not know; its client repeats the call with the same key until somebody answers.
        placing = group.create_task(_placed(client))
        await _until_accepted(eyes, before)
        eyes.town.gateway.process.kill()
        code = await eyes.town.gateway.process.wait()
        watch = Stopwatch()
        town = await gateway_again(eyes.town)
        scene.figures["started_again_ms"] = round(watch.ms(), 1)
        told = await _truth(client, await placing)
        scene.figures["truth_after_ms"] = round(watch.ms(), 1)
    _expect(scene, eyes, code, told)
    placed = (await eyes.orders())[before:]
    scene.expect("new orders", "the exchange", 1, len(placed))
    order = json.loads(told.result_json or "{}").get("order_id")
    scene.expect("the order the agent is told of", "the exchange", [order], [one["id"] for one in placed])
    scene.tell(f"operation {told.id}: accepted, killed, asked for by our own id, {told.state.name}")
    return scene, town


def _expect(scene: Scene, eyes: Eyes, code: int, told: Operation) -> None:
    scene.expect("the gateway's end", "the process", -9, code)
    scene.expect(
        "the answer to the same key", "the wire", (OperationState.SUCCEEDED, True), (told.state, told.replayed)
    )
    kinds = [one["kind"] for one in eyes.records() if one.get("operation") == told.id and one["kind"] != "replay"]
    scene.expect("records of the operation", "the record", ["intent", "lost", "reconciled"], kinds)


async def _placed(client: GatewayClient) -> Operation | None:
    try:
        return await client.execute_tool("place_order", ORDER, key=KEY, run_id="demo-killed")
    except GatewayError:
        return None


async def _until_accepted(eyes: Eyes, before: int) -> None:
    async with asyncio.timeout(TRUTH_S):
        while len(await eyes.orders()) == before:  # noqa: ASYNC110 - the exchange is another process
            await asyncio.sleep(0.01)


async def _truth(client: GatewayClient, answered: Operation | None) -> Operation:
    """The final answer to the same key, watched for where it is not final yet."""
    told = answered or await client.execute_tool("place_order", ORDER, key=KEY, run_id="demo-killed")
    async for changed in client.watch_operation(told.id, timeout_s=TRUTH_S):
        told = changed
    return await client.execute_tool("place_order", ORDER, key=KEY, run_id="demo-killed")
