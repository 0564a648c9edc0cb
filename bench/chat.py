"""`just bench chat`: what governance adds to the first delta of a stream, and how many paced streams stay clean.

A clean stream has every delta, in order, with no gap over 200 ms. Deltas come from the model double at 20 ms, 64 of
them; time to first delta is measured through the gateway and directly, in turn.
"""

import asyncio
import time
from argparse import Namespace
from dataclasses import dataclass

import aiohttp

from agent.client.contract import ChatRequest, Content, FinishReason, Part, Role
from agent.client.gateway import GatewayClient
from bench.rig import AMPLE, Report, arguments, cpu_s, quantile, resident_mb, rig
from localcloud.demo.town import Town

SHORT = "@pace deltas=3 interval_ms=0 size=5\nSay something."
PACED = "@pace deltas={deltas} interval_ms=20 size=5\nSay something."
DELTAS = 64
GAP_MS_MAX = 200
GENERATE = "/v1/projects/local-project/locations/us-central1/publishers/google/models/gemini-3.5-flash"


@dataclass(slots=True, kw_only=True)
class Heard:
    """One stream as its caller saw it."""

    deltas: int = 0
    gap_ms_max: float = 0.0
    finished: bool = False

    @property
    def clean(self) -> bool:
        """Every delta, no long gap, a proper end."""
        return self.finished and self.deltas == DELTAS and self.gap_ms_max <= GAP_MS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of this benchmark: how much of it, and against what."""

    report: Report
    town: Town
    client: GatewayClient
    session: aiohttp.ClientSession
    token: str
    rounds: int

    async def first_delta(self, pairs: int) -> None:
        """One caller, governed and direct in turn."""
        p50: list[float] = []
        p99: list[float] = []
        for number in range(self.rounds):
            governed, direct = [], []
            for _ in range(pairs):
                governed.append(await _first_governed(self.client))
                direct.append(await _first_direct(self.town, self.session, self.token))
            own = quantile(direct, 0.5)
            p50.append(quantile(governed, 0.5) - own)
            p99.append(quantile(governed, 0.99) - own)
            self.report.samples[f"governed_ms_round_{number}"] = governed
            self.report.samples[f"direct_ms_round_{number}"] = direct
        self.report.figure("first_delta_added_p50_ms", p50)
        self.report.figure("first_delta_added_p99_ms", p99)

    async def clean(self, streams: list[int]) -> None:
        """The largest number of streams of which all are clean in the median round, and what a delta costs there."""
        best, cost = 0, 0.0
        for count in streams:
            shares, costs = [], []
            for _ in range(self.rounds):
                used = cpu_s(self.town.gateway)
                heard = await asyncio.gather(*(_paced(self.client) for _ in range(count)))
                costs.append((cpu_s(self.town.gateway) - used) / (count * DELTAS) * 1e6)
                shares.append(sum(one.clean for one in heard) / count)
            self.report.figure(f"clean_share_{count}_streams", shares)
            self.report.figure(f"cpu_us_per_delta_{count}_streams", costs, 1)
            if self.report.figures[f"clean_share_{count}_streams"] < 1:
                break
            best, cost = count, self.report.figures[f"cpu_us_per_delta_{count}_streams"]
        self.report.figures["clean_streams"] = best
        self.report.figures["gateway_cpu_us_per_delta"] = cost
        self.report.figures["gateway_resident_mb_after"] = round(resident_mb(self.town.gateway), 1)


async def measured(report: Report, asked: Namespace) -> None:
    """Fill the report."""
    async with rig(AMPLE) as (town, client), aiohttp.ClientSession() as session:
        token = await _access_token(town, session)
        for _ in range(20):
            await _first_governed(client)
            await _first_direct(town, session, token)
        run = Run(report=report, town=town, client=client, session=session, token=token, rounds=asked.rounds)
        await run.first_delta(asked.pairs)
        await run.clean([int(count) for count in asked.streams.split(",")])
    report.bound("first_delta_added_p50_ms", "<=", 2)
    report.bound("first_delta_added_p99_ms", "<=", 5)
    report.bound("clean_streams", ">=", 128)
    report.bound("gateway_cpu_us_per_delta", "<=", 100)


def _request(prompt: str) -> ChatRequest:
    return ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=prompt)])])


async def _first_governed(client: GatewayClient) -> float:
    """Milliseconds from the call to its first delta; the stream is read to its end."""
    start, first = time.perf_counter(), 0.0
    async for event in client.chat(_request(SHORT)):
        if event.text is not None and not first:
            first = (time.perf_counter() - start) * 1000
    return first


async def _first_direct(town: Town, session: aiohttp.ClientSession, token: str) -> float:
    body = {"contents": [{"role": "user", "parts": [{"text": SHORT}]}], "generationConfig": {"maxOutputTokens": 2048}}
    url = f"{town.vertex.told('url')}{GENERATE}:streamGenerateContent?alt=sse"
    start, first = time.perf_counter(), 0.0
    async with session.post(url, json=body, headers={"Authorization": f"Bearer {token}"}) as reply:
        async for _ in reply.content.iter_any():
            first = first or (time.perf_counter() - start) * 1000
    return first


async def _paced(client: GatewayClient) -> Heard:
    heard, last = Heard(), 0.0
    async for event in client.chat(_request(PACED.format(deltas=DELTAS))):
        if event.text is not None:
            now = time.perf_counter()
            heard.deltas += 1
            heard.gap_ms_max = max(heard.gap_ms_max, (now - last) * 1000 if last else 0.0)
            last = now
        elif event.finish is not None:
            heard.finished = event.finish.reason in (FinishReason.STOP, FinishReason.MAX_TOKENS)
    return heard


async def _access_token(town: Town, session: aiohttp.ClientSession) -> str:
    url = f"http://{town.metadata('gateway')}/computeMetadata/v1/instance/service-accounts/default/token"
    async with session.get(url, headers={"Metadata-Flavor": "Google"}) as reply:
        return str((await reply.json())["access_token"])


def main() -> int:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="governed and direct streams of each round")
    parser.add_argument("--streams", default="64,128,256,512", help="numbers of concurrent streams to try, rising")
    asked = parser.parse_args()
    report = Report(bench="chat")
    asyncio.run(measured(report, asked))
    return report.close(asked)


if __name__ == "__main__":
    raise SystemExit(main())
