"""`just bench grow`: the gateway's processor time for a call, at few and at many streams at the same time.

Every call is a governed stream of 16 deltas, 10 ms apart, so that as many run at once as are asked for. What a call
costs must not grow with how many there are: `growth` is the most that a call costs at any number of streams over the
least that it costs at any smaller number. `spread` is the most over the least, whichever has more streams: a call that
is alone pays for commits and wake-ups that many share, and for what the gateway does beside all calls
(`idle_cpu_us_per_s`), whose share of each call is told too.
"""

import asyncio
from argparse import Namespace
from collections.abc import Iterator
from statistics import median
from time import perf_counter

from agent.client.contract import ChatRequest, Content, FinishReason, Part, Role
from agent.client.gateway import GatewayClient, Patience
from agent.tokens import MetadataTokens
from bench.rig import AMPLE, Report, arguments, cpu_s, rig
from localcloud.demo.town import AUDIENCE, Town

PROMPT = "@pace deltas=16 interval_ms=10 size=5\nSay something."
CALLS_LEAST = 128
"""Of one round: the kernel counts processor time in hundredths of a second."""
CONNECTIONS = 16
IDLE_S = 5.0


async def measured(report: Report, asked: Namespace) -> None:
    """Fill the report."""
    levels = [int(count) for count in asked.streams.split(",")]
    async with rig(AMPLE) as (town, _), MetadataTokens(town.metadata("agent")) as tokens:
        patience = Patience(attempts=1)
        async with GatewayClient(
            town.gateway_url, tokens, audience=AUDIENCE, connections=CONNECTIONS, patience=patience
        ) as client:
            await _round(client, 64, CALLS_LEAST)
            costs: dict[int, list[float]] = {count: [] for count in levels}
            lasted: dict[int, list[float]] = {count: [] for count in levels}
            idle: list[float] = []
            for _ in range(asked.rounds):
                idle.append(await _idle_us_per_s(town))
                for count in levels:
                    cost, call_s = await _cost_us(town, client, count)
                    costs[count].append(cost)
                    lasted[count].append(call_s)
    report.figure("idle_cpu_us_per_s", idle, 0)
    for count in levels:
        report.figure(f"cpu_us_per_call_{count}_streams", costs[count], 0)
        report.figure(f"idle_cpu_us_per_call_{count}_streams", [median(idle) * one for one in lasted[count]], 0)
    medians = [median(costs[count]) for count in levels]
    growths = (cost / min(medians[: place + 1]) for place, cost in enumerate(medians))
    report.figures["spread"] = round(max(medians) / min(medians), 3)
    report.figures["growth"] = round(max(growths), 3)
    report.bound("growth", "<=", 1.5)
    report.bound("spread", "<=", 1.5)


async def _idle_us_per_s(town: Town) -> float:
    """What the gateway uses while nobody calls."""
    used, began = cpu_s(town.gateway), perf_counter()
    await asyncio.sleep(IDLE_S)
    return (cpu_s(town.gateway) - used) / (perf_counter() - began) * 1e6


async def _cost_us(town: Town, client: GatewayClient, count: int) -> tuple[float, float]:
    """Processor time and, of the round's own time, the share of one call."""
    calls = max(CALLS_LEAST, 2 * count)
    used, began = cpu_s(town.gateway), perf_counter()
    await _round(client, count, calls)
    return (cpu_s(town.gateway) - used) / calls * 1e6, (perf_counter() - began) / calls


async def _round(client: GatewayClient, count: int, calls: int) -> None:
    left = iter(range(calls))
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(_caller(client, left))


async def _caller(client: GatewayClient, left: Iterator[int]) -> None:
    request = ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=PROMPT)])])
    for _ in left:
        events = [event async for event in client.chat(request)]
        finish = events[-1].finish
        if finish is None or finish.reason not in (FinishReason.STOP, FinishReason.MAX_TOKENS):
            raise RuntimeError(f"a stream ended with {finish}")


def main() -> int:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--streams", default="1,16,64,256,1000", help="numbers of concurrent streams, the first is one")
    asked = parser.parse_args()
    report = Report(bench="grow")
    asyncio.run(measured(report, asked))
    return report.close(asked)


if __name__ == "__main__":
    raise SystemExit(main())
