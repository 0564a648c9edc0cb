"""`just bench drain`: SIGTERM under load, what is lost by it, and how long the gateway takes to be gone.

When the signal comes, some streams and orders are under way that can end within eight seconds, and some streams that
cannot. The first must all end well. The others must be told to call again (UNAVAILABLE), and the process must end with
0 before Cloud Run's SIGKILL, ten seconds after SIGTERM.
"""

import asyncio
import os
import secrets
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import aiohttp

from agent.client.contract import ChatRequest, Content, FinishReason, OperationState, Part, Role
from agent.client.errors import GatewayError
from agent.client.gateway import GatewayClient
from bench.rig import AMPLE, Report, arguments, rig
from localcloud.demo.town import UNHURRIED, Town

STREAMS: Final = 60
ORDERS: Final = 40
ENDLESS: Final = 20
ORDER: Final = {"symbol": "AAPL", "side": "buy", "type": "market", "quantity": "1", "time_in_force": "day"}
ORDER_MS: Final = 2_000
"""How slow the exchange is: every order is under way when the signal comes."""
SHORT: Final = (100, 30)
LONG: Final = (2_000, 30)
"""Pieces, and the milliseconds between two."""


class Load:
    """Calls that say when they are under way, and how they ended."""

    def __init__(self, client: GatewayClient) -> None:
        self._client = client
        self.begun = 0
        self.lost: list[str] = []
        self.told = 0

    async def stream(self, pieces: int, interval_ms: int) -> None:
        """A stream that must be whole."""
        try:
            came, reason = await self._heard(pieces, interval_ms)
        except GatewayError as error:
            self.lost.append(f"a stream: {error}")
        else:
            if (came, reason) != (pieces, FinishReason.STOP):
                self.lost.append(f"a stream: {came} of {pieces} pieces, {reason}")

    async def endless(self) -> None:
        """A stream that cannot end in time: it counts as told if it ends with an error that passes."""
        try:
            await self._heard(*LONG)
        except GatewayError as error:
            self.told += error.passing

    async def order(self) -> None:
        """An order that must be executed."""
        try:
            self.begun += 1
            operation = await self._client.execute_tool("place_order", ORDER, key=secrets.token_hex(8))
        except GatewayError as error:
            self.lost.append(f"an order: {error}")
        else:
            if operation.state is not OperationState.SUCCEEDED:
                self.lost.append(f"an order: {operation.state}")

    async def _heard(self, pieces: int, interval_ms: int) -> tuple[int, FinishReason | None]:
        text = f"@pace deltas={pieces} interval_ms={interval_ms} size=4\nSay something."
        request = ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=text)])])
        came, reason = 0, None
        async for event in self._client.chat(request):
            self.begun += came == 0 and event.text is not None
            came += event.text is not None
            reason = event.finish.reason if event.finish is not None else reason
        return came, reason


async def _round() -> tuple[Load, int, float]:
    """One gateway's end: the calls, its exit code, and the seconds that it took."""
    async with rig(replace(AMPLE, more_limits=UNHURRIED)) as (town, client):
        await _slow_orders(town)
        load = Load(client)
        async with asyncio.TaskGroup() as group:
            for _ in range(STREAMS):
                group.create_task(load.stream(*SHORT))
            for _ in range(ENDLESS):
                group.create_task(load.endless())
            await _until(lambda: load.begun == STREAMS + ENDLESS)
            for _ in range(ORDERS):
                group.create_task(load.order())
            await _ordered(town)
            began = time.perf_counter()
            code = await town.processes.stop(town.gateway)
            seconds = time.perf_counter() - began
        return load, code, seconds


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the calls do not announce that they are all under way
            await asyncio.sleep(0.005)


async def _slow_orders(town: Town) -> None:
    match = {"method": "POST", "path_prefix": "/v2/orders"}
    fault = {"kind": "latency", "match": match, "delay_ms": ORDER_MS, "count": None}
    async with aiohttp.ClientSession() as session:
        reply = await session.post(f"{town.exchange.told('admin_url')}/admin/faults", json=[fault])
        reply.raise_for_status()


async def _ordered(town: Town) -> None:
    """Return when all orders have met the slow exchange."""
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while True:
            reply = await session.get(f"{town.exchange.told('admin_url')}/admin/faults")
            if (await reply.json())[0]["seen"] == ORDERS:
                return
            await asyncio.sleep(0.01)


async def _measured(asked: Namespace) -> int:
    report = Report(bench="drain")
    ends, processors = [], os.sched_getaffinity(0)
    for _ in range(asked.rounds):
        ends.append(await _round())
        os.sched_setaffinity(0, processors)
    report.figures["calls_that_could_end"] = STREAMS + ORDERS
    report.figures["calls_that_could_not"] = ENDLESS
    report.figure("lost", [max(len(load.lost) for load, _, _ in ends)])
    report.figure("not_told", [max(ENDLESS - load.told for load, _, _ in ends)])
    report.figure("exit_code", [max(code for _, code, _ in ends)])
    report.figure("exit_s", [seconds for _, _, seconds in ends])
    report.figures["exit_s_max"] = round(max(seconds for _, _, seconds in ends), 3)
    for name, limit in (("lost", 0), ("not_told", 0), ("exit_code", 0), ("exit_s_max", 10)):
        report.bound(name, "<=", limit)
    report.failures += [said for load, _, _ in ends for said in load.lost[:5]]
    return report.close(asked)


def main() -> int:
    """Run the benchmark. Exit code 1 if something was lost."""
    return asyncio.run(_measured(arguments(__doc__ or "").parse_args()))


if __name__ == "__main__":
    sys.exit(main())
