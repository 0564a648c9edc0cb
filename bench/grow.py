"""`just bench grow`: the gateway's processor time for a call, at few and at many streams at the same time.

Every call is a governed stream of 64 deltas. What it costs must be the same however many there are: `growth` is the
most that a call costs at any number of streams over the least that it costs at any smaller number, `spread` the most
over the least. Both are bounded for streams whose deltas come as fast as they are taken, so that the gateway is never
idle.

Where deltas come 10 ms apart (`paced`, 16 of them), a stream that is alone wakes a sleeping process for each delta, and
many share a wake-up. `echo` says what a wake-up costs at least: a server that does nothing but send back what it got,
in the same run, on the same processor, once a message at a time 10 ms apart and once without a pause. What is left
besides is what the gateway does beside all calls (`idle_cpu_us_per_s`).
"""

import asyncio
import os
from argparse import Namespace
from collections.abc import Iterator
from statistics import median
from time import perf_counter

from agent.client.contract import ChatRequest, Content, FinishReason, Part, Role
from agent.client.gateway import GatewayClient, Patience
from agent.tokens import MetadataTokens
from bench.echo import echo
from bench.rig import AMPLE, Report, arguments, cpu_s, rig
from localcloud.demo.town import AUDIENCE, Town

FULL = "@pace deltas=64 interval_ms=0 size=5\nSay something."
PACED = "@pace deltas=16 interval_ms=10 size=5\nSay something."
CALLS_LEAST = 128
"""Of one round."""
CONNECTIONS = 16
IDLE_S = 5.0


async def measured(report: Report, asked: Namespace) -> None:
    """Fill the report."""
    levels = [int(count) for count in asked.streams.split(",")]
    processors = os.sched_getaffinity(0)
    async with rig(AMPLE) as (town, _), MetadataTokens(town.metadata("agent")) as tokens:
        patience = Patience(attempts=1)
        async with GatewayClient(
            town.gateway_url, tokens, audience=AUDIENCE, connections=CONNECTIONS, patience=patience
        ) as client:
            for prompt in (FULL, PACED):
                await converse(client, prompt, 64, CALLS_LEAST)
            costs = {(name, count): list[float]() for name in ("full", "paced") for count in levels}
            idle: list[float] = []
            echoes: dict[str, list[float]] = {"alone": [], "busy": []}
            with echo({min(processors)}) as echoing:
                for _ in range(asked.rounds):
                    idle.append(await _idle_us_per_s(town))
                    echoes["alone"].append(await echoing.cost_us(200, 0.01))
                    echoes["busy"].append(await echoing.cost_us(5_000, 0))
                    for count in levels:
                        costs["full", count].append(await _cost_us(town, client, FULL, count))
                        costs["paced", count].append(await _cost_us(town, client, PACED, count))
    report.figure("idle_cpu_us_per_s", idle, 0)
    for name, samples in echoes.items():
        report.figure(f"echo_cpu_us_per_message_{name}", samples, 0)
    for (name, count), samples in costs.items():
        report.figure(f"cpu_us_per_call_{count}_streams{'' if name == 'full' else '_paced'}", samples, 0)
    for name, suffix in (("full", ""), ("paced", "_paced")):
        medians = [median(costs[name, count]) for count in levels]
        growths = (cost / min(medians[: place + 1]) for place, cost in enumerate(medians))
        report.figures[f"spread{suffix}"] = round(max(medians) / min(medians), 3)
        report.figures[f"growth{suffix}"] = round(max(growths), 3)
        report.bound(f"growth{suffix}", "<=", 1.5)
    report.bound("spread", "<=", 1.5)


async def _idle_us_per_s(town: Town) -> float:
    """What the gateway uses while nobody calls."""
    used, began = cpu_s(town.gateway), perf_counter()
    await asyncio.sleep(IDLE_S)
    return (cpu_s(town.gateway) - used) / (perf_counter() - began) * 1e6


async def _cost_us(town: Town, client: GatewayClient, prompt: str, count: int) -> float:
    """Processor time of one call."""
    calls = max(CALLS_LEAST, 2 * count)
    used = cpu_s(town.gateway)
    await converse(client, prompt, count, calls)
    return (cpu_s(town.gateway) - used) / calls * 1e6


async def converse(client: GatewayClient, prompt: str, count: int, calls: int) -> None:
    """So many calls, so many of them at the same time."""
    left = iter(range(calls))
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(_caller(client, prompt, left))


async def _caller(client: GatewayClient, prompt: str, left: Iterator[int]) -> None:
    request = ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=prompt)])])
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
