"""The demonstration's town with gateway and agent as containers of the image, on the ports they had as processes."""

import asyncio
import os
import secrets
import shutil
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import grpc.aio
from image_store import Store

from agent.client.contract import ChatRequest, Content, Part, Role
from agent.client.gateway import GatewayClient
from agent.tokens import MetadataTokens
from generated.grpc.health.v1 import HealthCheckRequest
from generated.grpc.health.v1.codec import CODECS
from generated.grpc.health.v1.services import METHODS
from localcloud.demo.eyes import Eyes
from localcloud.demo.town import AUDIENCE, Plan, Town, built

NONROOT = 65532
MEMORY_BYTES = 512 * 1024 * 1024
START_S = 30


@dataclass(frozen=True, kw_only=True)
class Contained:
    """A container that runs: its first process, as this machine sees it."""

    store: Store
    name: str
    pid: int

    def status(self, field):
        """A line of proc(5)'s status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].split() for line in lines if line.startswith(f"{field}:"))

    def resident_mb(self, field):
        """VmRSS now, VmHWM at most."""
        return int(self.status(field)[0]) * 1024 / 1e6

    def age_s(self):
        """Seconds since its process was started, to a hundredth (proc(5), starttime)."""
        ticks = int(Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")

    async def stop(self):
        """What Cloud Run does: SIGTERM, and ten seconds. Exit code and seconds."""
        start = time.monotonic()
        await asyncio.to_thread(self.store.podman, "stop", "-t", "10", self.name)
        return self.store.state(self.name)["ExitCode"], time.monotonic() - start

    def log(self):
        """What it wrote."""
        done = self.store.podman("logs", self.name)
        return done.stdout + done.stderr


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Everything that a test sees."""

    town: Town
    eyes: Eyes
    client: GatewayClient
    gateway: Contained
    agent: Contained
    volume: tuple[str, ...]
    run_s: float
    """From `podman run` to SERVING."""
    start_s: float
    """From the start of the process to SERVING."""

    async def paced(self, deltas, interval_ms):
        """A chat of so many pieces, event by event."""
        prompt = f"@pace deltas={deltas} interval_ms={interval_ms} size=4\nSay something."
        request = ChatRequest(model="flash", contents=[Content(role=Role.USER, parts=[Part(text=prompt)])])
        async for event in self.client.chat(request):
            yield event


@asynccontextmanager
async def visit(store, folder):
    """Build the town, put containers in the places of gateway and agent, and take everything down at the end."""
    # `--tmpfs` would belong to root: the ledger is on a volume of this machine's memory instead.
    ledger = Path("/dev/shm") / f"gateway-image-{secrets.token_hex(4)}"
    ledger.mkdir()
    os.chown(ledger, NONROOT, NONROOT)
    try:
        async with built(folder, Plan()) as town, aiohttp.ClientSession() as session:
            for double in (town.agent, town.gateway):
                await town.processes.stop(double)
            _write_configuration(town, folder)
            volume = ("-v", f"{ledger}:/var/lib/gateway")
            began = time.monotonic()
            gateway = _start(store, town, "gateway", options=(*volume, "-v", f"{folder}/etc:/etc/gateway:ro"))
            await _serving(town.gateway_url)
            start_s, run_s = gateway.age_s(), time.monotonic() - began
            agent = _start(store, town, "agent")
            await _answers(session, town.agent.told("url") + "/healthz")
            seen = replace(town, ledger=ledger / "gateway.db")
            async with (
                MetadataTokens(town.metadata("agent")) as tokens,
                GatewayClient(town.door_url, tokens, audience=AUDIENCE) as client,
            ):
                yield Visit(
                    town=seen,
                    eyes=Eyes(town=seen, session=session),
                    client=client,
                    gateway=gateway,
                    agent=agent,
                    volume=volume,
                    run_s=run_s,
                    start_s=start_s,
                )
    finally:
        store.podman("rm", "-a", "-f", "-t", "0", check=False)
        shutil.rmtree(ledger)


def _write_configuration(town, folder):
    """The town's own, with the places that the image has for ledger and policies."""
    text = (folder / "gateway.toml").read_text().replace(str(town.ledger), "/var/lib/gateway/gateway.db")
    lines = ['path = "/app/lib/policies"' if line.endswith('/policies"') else line for line in text.splitlines()]
    (folder / "etc").mkdir()
    (folder / "etc" / "gateway.toml").write_text("\n".join(lines))
    (folder / "etc").chmod(0o755)


def _start(store, town, name, options=()):
    """A container with the environment of a deployment, on the port of the process that it replaces."""
    replaced = town.gateway if name == "gateway" else town.agent
    variables = {
        "PORT": replaced.told("url").rpartition(":")[2],
        "GCE_METADATA_HOST": town.metadata(name),
        f"{name.upper()}_HOST": "127.0.0.1",
    }
    if name == "gateway":
        variables |= {"EXCHANGE_KEY_ID": town.exchange_key_id, "EXCHANGE_SECRET_KEY": town.exchange_secret}
        variables |= {"EXCHANGE_ORDER_KEY": secrets.token_hex(32)}
    else:
        variables |= {"GATEWAY_URL": town.door_url, "GATEWAY_AUDIENCE": AUDIENCE, "AGENT_MODEL": "flash"}
    given = [word for key, value in variables.items() for word in ("-e", f"{key}={value}")]
    container, pid = store.start(*(["agent"] if name == "agent" else []), options=[*options, *given])
    return Contained(store=store, name=container, pid=pid)


async def _serving(url):
    """Ask for its health as Cloud Run's start-up probe does, until it says SERVING."""
    method = next(method for method in METHODS if method.name == "Check")
    loop = asyncio.get_running_loop()
    end = loop.time() + START_S
    while loop.time() < end:
        async with grpc.aio.insecure_channel(url.removeprefix("http://")) as channel:
            check = channel.unary_unary(
                method.path,
                request_serializer=CODECS[method.request].encode,
                response_deserializer=CODECS[method.reply].decode,
            )
            try:
                answer = await check(HealthCheckRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.005)
                continue
            assert answer.status.name == "SERVING"
            return
    raise AssertionError("the gateway in the container does not serve")


async def _answers(session, url):
    loop = asyncio.get_running_loop()
    end = loop.time() + START_S
    while loop.time() < end:
        try:
            async with session.get(url) as reply:
                assert reply.status == 200
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.005)
    raise AssertionError("the agent in the container does not answer")
