"""The scene in which the gateway is told to end in the middle of an answer, as Cloud Run may do at any time."""

import asyncio

from agent.client.contract import ChatRequest, Content, FinishReason, Operation, Part, Role
from agent.client.gateway import GatewayClient
from localcloud.demo.eyes import Eyes
from localcloud.demo.scene import Scene, Stopwatch
from localcloud.demo.town import Town, gateway_again

PIECES = 30
PROMPT = f"@pace deltas={PIECES} interval_ms=20 size=4\nTell me in a few sentences what a limit order is."
ORDER = {"symbol": "AAPL", "side": "buy", "type": "market", "quantity": "4", "time_in_force": "day"}


async def restarted_gateway(eyes: Eyes, client: GatewayClient) -> tuple[Scene, Town]:
    """SIGTERM while an answer streams, then a new process. Gives the town with the new gateway in it."""
    scene = Scene(name="restart", title="The gateway restarts in the middle: nothing is lost")
    before = await eyes.orders()
    first = await _ordered(client)
    pieces, reason, code, ended_s = await _stopped_in_the_middle(eyes, client)
    scene.expect("pieces of the answer that was running", "the wire", PIECES, pieces)
    scene.expect("its end", "the wire", FinishReason.STOP, reason)
    scene.expect("exit code of the gateway after SIGTERM", "the process", 0, code)
    scene.expect_true(
        "it ended within Cloud Run's ten seconds", "the process", "below 10 s", ok=ended_s < 10, seen=ended_s
    )
    watch = Stopwatch()
    town = await gateway_again(eyes.town)
    again = await _ordered(client)
    scene.figures["away_ms"] = round(watch.ms(), 1)
    scene.figures["drain_ms"] = round(ended_s * 1000, 1)
    scene.expect(
        "the same key at the next process",
        "the wire",
        (first.id, first.result_json, True),
        (again.id, again.result_json, again.replayed),
    )
    scene.expect("new orders", "the exchange", 1, len(await eyes.orders()) - len(before))
    kinds = [one["kind"] for one in eyes.records() if one["kind"] in ("boot", "close", "lost")]
    scene.expect("starts and ends", "the record", ["boot", "close", "boot"], kinds)
    scene.tell(f"SIGTERM after 2 of {PIECES} pieces: all came, the process ended {ended_s:.1f} s later with {code}")
    scene.tell(f"the same key at the next process: operation {again.id} again, and no second order")
    return scene, town


async def _ordered(client: GatewayClient) -> Operation:
    return await client.execute_tool("place_order", ORDER, key="demo-restart-1", run_id="demo-restart")


async def _stopped_in_the_middle(eyes: Eyes, client: GatewayClient) -> tuple[int, FinishReason | None, int, float]:
    """Pieces that came, why the answer ended, the gateway's exit code, and the seconds from SIGTERM to its end."""
    pieces, reason = 0, None
    request = ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=PROMPT)])])
    async with asyncio.TaskGroup() as group:
        stopping: asyncio.Task[tuple[int, float]] | None = None
        async for event in client.chat(request):
            pieces += event.text is not None
            reason = event.finish.reason if event.finish is not None else reason
            if stopping is None and pieces == 2:
                stopping = group.create_task(_stopped(eyes.town))
        if stopping is None:
            stopping = group.create_task(_stopped(eyes.town))
    code, seconds = stopping.result()
    return pieces, reason, code, seconds


async def _stopped(town: Town) -> tuple[int, float]:
    watch = Stopwatch()
    code = await town.processes.stop(town.gateway)
    return code, round(watch.ms() / 1000, 3)
