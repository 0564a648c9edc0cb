"""`python -m agent`: the agent's service as a process, configured by its environment."""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from agent.client.gateway import GatewayClient
from agent.log import log_to_stderr
from agent.loop import Agent
from agent.service import Service
from agent.settings import Settings, SettingsError, read_settings
from agent.tokens import MetadataTokens

CONFIGURATION_WRONG = 2
CANNOT_LISTEN = 1


def main() -> int:
    """Serve until SIGTERM or SIGINT. Exit code 2 for an environment that cannot be used, 1 for a port that is taken."""
    parser = argparse.ArgumentParser(
        prog="python -m agent",
        description="A small agent that works through the gateway. The environment says where: GATEWAY_URL, "
        "AGENT_MODEL, and optionally GATEWAY_AUDIENCE, AGENT_INSTRUCTION, AGENT_TURNS_MAX, AGENT_TOOLS, AGENT_HOST, "
        "PORT, GCE_METADATA_HOST.",
    )
    parser.add_argument("--ready-file", type=Path, help="write {url, pid} here when listening")
    arguments = parser.parse_args()
    log_to_stderr()
    try:
        settings = read_settings(os.environ)  # noqa: TID251 - the one reader, passed on as an argument
    except SettingsError as error:
        sys.stderr.write(f"agent: {error}\n")
        return CONFIGURATION_WRONG
    try:
        asyncio.run(_serve(settings, arguments.ready_file))
    except OSError as error:
        sys.stderr.write(f"agent: cannot listen on {settings.host}:{settings.port}, or tell so: {error}\n")
        return CANNOT_LISTEN
    return 0


async def _serve(settings: Settings, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with (
        MetadataTokens(settings.metadata_host) as tokens,
        GatewayClient(settings.gateway_url, tokens, audience=settings.audience) as client,
    ):
        agent = Agent(
            client,
            model=settings.model,
            instruction=settings.system_instruction,
            turns_max=settings.turns_max,
            in_stream=settings.in_stream,
        )
        runner = Service(agent=agent).runner()
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
            if ready_file is not None:
                _tell_ready(ready_file, settings.host, runner.addresses[0][1])
            await stop.wait()
        finally:
            await runner.cleanup()


def _tell_ready(path: Path, host: str, port: int) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"url": f"http://{host}:{port}", "pid": os.getpid()}))
    partial.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())
