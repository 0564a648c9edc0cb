"""The command line of the OpenAI-compatible server: `python -m localcloud.compatible`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from localcloud.compatible.server import CompatibleConfig, CompatibleDouble
from localcloud.process import asked_to_stop, write_ready_file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until SIGTERM or SIGINT; 0 after a clean end, 2 for a wrong command line or a taken port."""
    told = _parser().parse_args(arguments)
    config = CompatibleConfig(
        host=told.host,
        port=told.port,
        admin_port=told.admin_port,
        seed=told.seed,
        models=tuple(told.model or CompatibleConfig().models),
        keys=frozenset(told.key or ()),
    )
    try:
        asyncio.run(_serve(config, told.ready_file))
    except OSError as fault:
        sys.stderr.write(f"localcloud.compatible: {fault}\n")
        return 2
    return 0


async def _serve(config: CompatibleConfig, ready_file: Path | None) -> None:
    with asked_to_stop() as stop:
        async with CompatibleDouble(config) as server:
            ready = {"url": server.url, "admin_url": server.admin_url, "pid": os.getpid()}
            if ready_file is None:
                sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
                sys.stdout.flush()
            else:
                write_ready_file(ready_file, ready)
            await stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localcloud.compatible",
        description="A deterministic OpenAI-compatible model server on loopback, with faults on a second port.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port of the API, 0 for any free one")
    parser.add_argument("--admin-port", type=int, default=0, help="port of /admin, 0 for any free one")
    parser.add_argument("--ready-file", type=Path, help='written when serving: {"url", "admin_url", "pid"}')
    parser.add_argument("--key", action="append", metavar="KEY", help="API key that is taken; repeatable")
    parser.add_argument("--model", action="append", metavar="NAME", help="known model; repeatable, replaces all")
    parser.add_argument("--seed", type=int, default=1, help="seed of every answer (default %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
