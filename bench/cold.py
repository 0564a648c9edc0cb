"""`just bench cold`: how long who calls a sleeping gateway waits, what of that is imports, and what it holds in memory.

A gateway is started again and again on one processor, with bytecode present and a new ledger each time, and met by a
caller who tries until the port takes him: one asks for its health, the next orders, the next chats, in turn. Its world
(metadata server, keys, exchange, model upstream) runs beside it on the other processors and is warm.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.encoding.base import CodecBase

from agent.client.contract import ChatRequest, Content, OperationState, Part, Role
from agent.client.gateway import GatewayClient, Patience
from agent.tokens import MetadataTokens
from bench.importtime import Imports
from bench.rig import AMPLE, Report, arguments, cpu_s, resident_mb
from generated.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse, HealthCheckResponseServingStatus
from generated.grpc.health.v1.codec import CODECS
from localcloud.demo.processes import Running
from localcloud.demo.town import AUDIENCE, Town, built

ROOT: Final = Path(__file__).resolve().parents[1]
ORDER: Final = {"symbol": "AAPL", "side": "buy", "type": "market", "quantity": "1", "time_in_force": "day"}
SHORT: Final = "@pace deltas=1 interval_ms=0 size=5\nSay something."
IDLE: Final = "@pace deltas=2 interval_ms=600000 size=5\nSay something, and the rest much later."
AS_IN_THE_IMAGE: Final = {"PYTHONUNBUFFERED": "1", "SSL_CERT_DIR": "/etc/ssl/certs", "SSL_CERT_FILE": "/none"}
"""Of the Containerfile's environment, what counts here: a bundle of all authorities costs every start 30 ms."""
START_S: Final = 30.0
STOP_S: Final = 12.0
TRY_S: Final = 0.001
"""Between two tries of a caller whom nobody answers yet."""


class HealthCodec(CodecBase):
    """Health's messages by our own codec, for grpclib's client."""

    __content_subtype__ = "proto"

    def encode(self, message: object, message_type: type) -> bytes:
        """To bytes."""
        return CODECS[message_type].encode(message)

    def decode(self, data: bytes, message_type: type) -> object:
        """From bytes."""
        return CODECS[message_type].decode(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A gateway that takes calls for the first time."""

    gateway: Running
    port: int
    began: float
    """When its process was started, by `time.perf_counter`."""
    tokens: MetadataTokens

    def client(self) -> GatewayClient:
        """A caller who has not spoken to it before."""
        url = f"http://127.0.0.1:{self.port}"
        return GatewayClient(url, self.tokens, audience=AUDIENCE, connections=8, patience=Patience(attempts=1))

    def since_s(self) -> float:
        """Seconds since the process was started."""
        return time.perf_counter() - self.began

    async def health(self) -> float:
        """Seconds until it says SERVING: a gateway listens only when it is ready."""
        async with Channel("127.0.0.1", self.port, codec=HealthCodec()) as channel:
            check = UnaryUnaryMethod(channel, "/grpc.health.v1.Health/Check", HealthCheckRequest, HealthCheckResponse)
            status = (await check(HealthCheckRequest())).status
            if status != HealthCheckResponseServingStatus.SERVING:
                raise RuntimeError(f"it listens, but says {status}")
            return self.since_s()

    async def tool(self) -> float:
        """Seconds until an order was filled and recorded."""
        async with self.client() as client:
            operation = await client.execute_tool("place_order", ORDER, key=secrets.token_hex(8))
            if operation.state is not OperationState.SUCCEEDED:
                raise RuntimeError(f"the first order ended {operation.state}")
            return self.since_s()

    async def chat(self) -> float:
        """Seconds until the first text of a governed answer."""
        async with self.client() as client:
            first = 0.0
            async for event in client.chat(_request(SHORT)):
                if event.text is not None:
                    first = first or self.since_s()
            return first


@dataclass(slots=True, kw_only=True)
class Run:
    """One run of this benchmark."""

    report: Report
    town: Town
    tokens: MetadataTokens
    processors: list[int]
    secrets: dict[str, str] = field(default_factory=lambda: {"EXCHANGE_ORDER_KEY": secrets.token_hex(32)})
    count: int = 0

    @asynccontextmanager
    async def started(self, **variables: str) -> AsyncIterator[Started]:
        """A gateway, from the start of its process to the end of its drain."""
        self.count += 1
        port, log = _free_port(), self.town.folder / f"cold-{self.count}.log"
        environment = self._environment(port) | variables
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(self._configuration())]
        with log.open("wb") as out, _on(self.processors[:1]):
            began = time.perf_counter()
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, env=environment, cwd=ROOT
            )
        gateway = Running(name="gateway", process=process, ready={}, log=log)
        try:
            async with asyncio.timeout(START_S):
                await _taken(gateway, port)
            yield Started(gateway=gateway, port=port, began=began, tokens=self.tokens)
        finally:
            await _ended(gateway)

    def _environment(self, port: int) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {
            **kept,
            **AS_IN_THE_IMAGE,
            **self.secrets,
            "PORT": str(port),
            "GATEWAY_HOST": "127.0.0.1",
            "GCE_METADATA_HOST": self.town.metadata("gateway"),
            "EXCHANGE_KEY_ID": self.town.exchange_key_id,
            "EXCHANGE_SECRET_KEY": self.town.exchange_secret,
        }

    def _configuration(self) -> Path:
        """The town's own, with a ledger that nobody has written to."""
        text = (self.town.folder / "gateway.toml").read_text()
        path = self.town.folder / f"cold-{self.count}.toml"
        path.write_text(text.replace(str(self.town.ledger), str(self.town.folder / f"cold-{self.count}.db")))
        return path

    async def starts(self, rounds: int) -> None:
        """First answers: one start for each."""
        serving, answers, deltas, used = [], [], [], []
        for _ in range(rounds):
            async with self.started() as started:
                serving.append(await started.health())
                used.append(cpu_s(started.gateway))
            async with self.started() as started:
                answers.append(await started.tool())
            async with self.started() as started:
                deltas.append(await started.chat())
        self.report.figure("start_to_serving_s", serving)
        self.report.figure("start_to_first_tool_answer_s", answers)
        self.report.figure("start_to_first_delta_s", deltas)
        self.report.figure("start_cpu_s", used)

    async def without_bytecode(self, rounds: int) -> None:
        """The same, if nobody compiled anything: what a base image without bytecode costs."""
        serving = []
        for number in range(rounds):
            empty = self.town.folder / f"bytecode-{number}"
            async with self.started(PYTHONPYCACHEPREFIX=str(empty), PYTHONDONTWRITEBYTECODE="1") as started:
                serving.append(await started.health())
        self.report.figure("start_to_serving_without_bytecode_s", serving)

    async def memory(self, rounds: int, streams: int) -> None:
        """Resident memory after a first order and a first answer, and what each stream adds that waits for more."""
        idle, each = [], []
        for _ in range(rounds):
            async with self.started() as started:
                await started.tool()
                await started.chat()
                before = resident_mb(started.gateway)
                async with started.client() as client, _waiting(client, streams):
                    each.append((resident_mb(started.gateway) - before) * 1000 / streams)
                idle.append(before)
        self.report.figure("idle_resident_mb", idle, 1)
        self.report.figure("resident_kb_per_idle_stream", each, 1)

    async def imports(self, rounds: int) -> Imports:
        """What is imported until an order and a chat were answered, and how long each module itself takes."""
        logs = []
        for _ in range(rounds):
            async with self.started(PYTHONPROFILEIMPORTTIME="1") as started:
                await started.tool()
                await started.chat()
            logs.append(started.gateway.log.read_text(errors="replace"))
        return Imports(logs)


async def measured(report: Report, asked: Namespace) -> Imports:
    """Fill the report."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        print("only one processor: the gateway shares it with everything else", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="gateway-cold-") as folder:
        async with built(Path(folder), AMPLE) as town, MetadataTokens(town.metadata("agent")) as tokens:
            await town.processes.stop(town.gateway)
            for running in (town.google, town.exchange, town.vertex):
                os.sched_setaffinity(running.process.pid, processors[1:] or processors)
            await tokens.id_token(AUDIENCE)
            run = Run(report=report, town=town, tokens=tokens, processors=processors)
            with _on(processors[1:] or processors):
                async with run.started() as started:  # writes whatever bytecode is missing
                    await started.tool()
                    await started.chat()
                await run.starts(asked.rounds)
                await run.without_bytecode(min(3, asked.rounds))
                await run.memory(min(5, asked.rounds), asked.streams)
                imports = await run.imports(3)
    report.figures["imports_ms"] = round(imports.total_ms, 1)
    report.samples |= {f"import_ms_{name}": [spent] for name, spent in imports.by_owner().items()}
    for name in ("start_to_first_tool_answer_s", "start_to_first_delta_s"):
        report.bound(name, "<=", 1.0)
    report.bound("idle_resident_mb", "<=", 110)
    report.bound("resident_kb_per_idle_stream", "<=", 60)
    return imports


@contextlib.contextmanager
def _on(processors: list[int]) -> Iterator[None]:
    """Run on these processors alone; a process that is started meanwhile inherits them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def _taken(gateway: Running, port: int) -> None:
    """Try until the port takes a connection."""
    while gateway.process.returncode is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(TRY_S)
    raise RuntimeError(f"the gateway ended with {gateway.process.returncode}: {gateway.log.read_text()[-2000:]}")


async def _ended(gateway: Running) -> None:
    """SIGTERM, and a proper end; killed and an error if there is none."""
    process = gateway.process
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        code = await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        code = await process.wait()
    if code:
        raise RuntimeError(f"the gateway ended with {code}: {gateway.log.read_text()[-2000:]}")


@asynccontextmanager
async def _waiting(client: GatewayClient, streams: int) -> AsyncIterator[None]:
    """So many streams, each of which had its first text and waits for the second; all are left at the end."""
    open_now, everyone = 0, asyncio.Event()

    async def one() -> None:
        nonlocal open_now
        async for event in client.chat(_request(IDLE)):
            if event.text is not None:
                open_now += 1
                if open_now == streams:
                    everyone.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(streams)]
        async with asyncio.timeout(START_S):
            await everyone.wait()
        yield
        for task in tasks:
            task.cancel()


def _request(prompt: str) -> ChatRequest:
    return ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=prompt)])])


def main() -> int:
    """Run it."""
    parser = arguments(__doc__)
    parser.set_defaults(rounds=7)
    parser.add_argument("--streams", type=int, default=256, help="idle streams that are held open at once")
    asked = parser.parse_args()
    report = Report(bench="cold")
    imports = asyncio.run(measured(report, asked))
    print(imports.table(15))
    return report.close(asked)


if __name__ == "__main__":
    raise SystemExit(main())
