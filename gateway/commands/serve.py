"""`gateway serve`: the life of a gateway process, from its settings to its last record."""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.assembly import AssemblyError, assembled
from gateway.settings import Settings, SettingsError, read_settings
from gateway.terms.limits import DRAIN_S


def serve(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT, then drain. 0: drained; 2: the configuration cannot be used."""
    asked = _parser().parse_args(arguments)
    try:
        settings = read_settings(asked.config, os.environ)  # noqa: TID251 - the one reader, passed on as an argument
        return asyncio.run(_serve(settings, asked.ready_file))
    except SettingsError as error:
        sys.stderr.write(f"gateway: {error.source} cannot be used:\n")
        sys.stderr.writelines(f"  {fault}\n" for fault in error.faults)
        return 2
    except AssemblyError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 2


async def _serve(settings: Settings, ready_file: Path | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with assembled(settings) as gateway:
        try:
            port = await gateway.server.start(settings.host, settings.port)
        except OSError as error:
            raise AssemblyError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
        gateway.witness.tell("server.started", {"port": port, "policy": gateway.policy_hash, "boot": gateway.boot})
        # What is loaded now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        if ready_file is not None:
            _write_ready(ready_file, settings.host, port)
        await stop.wait()
        gateway.witness.tell("server.draining", {"running": gateway.server.running})
        await gateway.server.drain(DRAIN_S)
    gateway.witness.tell("server.stopped", {})
    return 0


def _write_ready(path: Path, host: str, port: int) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({"url": f"http://{host}:{port}", "pid": os.getpid()}))
    partial.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway serve",
        description="Serve governed models and tools on $PORT (8080), gRPC over cleartext HTTP/2.",
        epilog="Environment: PORT; GATEWAY_HOST (0.0.0.0); GATEWAY_EDGE_IAM=required when Cloud Run's invoker check "
        "stands in front; GCE_METADATA_HOST; and what the configuration refers to as env:NAME.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(os.environ.get("GATEWAY_CONFIG", "gateway.toml")),  # noqa: TID251 - the command line's default
        help="the configuration file; default $GATEWAY_CONFIG or gateway.toml",
    )
    parser.add_argument("--ready-file", type=Path, help="write {url, pid} here once calls are taken")
    return parser
