"""The command line of the Vertex AI double: `python -m localcloud.vertex`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from localcloud.process import asked_to_stop, write_ready_file
from localcloud.vertex.config import DEFAULT_MODELS, Pace, VertexConfig
from localcloud.vertex.server import ConfigurationError, VertexDouble


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the double until SIGTERM or SIGINT; 0 after a clean end, 2 for a wrong command line or a taken port."""
    told = _parser().parse_args(arguments)
    config = VertexConfig(
        host=told.host,
        port=told.port,
        admin_port=told.admin_port,
        seed=told.seed,
        models=tuple(told.model or DEFAULT_MODELS),
        pace=Pace(deltas=told.deltas, interval_ms=told.interval_ms, first_ms=told.first_ms, size=max(1, told.size)),
        introspect_url=told.introspect_url,
        allow_any_token=told.allow_any_token,
        members=frozenset(told.member or ()),
    )
    try:
        asyncio.run(_serve(config, told.ready_file))
    except (ConfigurationError, OSError) as fault:
        sys.stderr.write(f"localcloud.vertex: {fault}\n")
        return 2
    return 0


async def _serve(config: VertexConfig, ready_file: Path | None) -> None:
    with asked_to_stop() as stop:
        async with VertexDouble(config) as double:
            ready = {"url": double.url, "admin_url": double.admin_url, "pid": os.getpid()}
            if ready_file is None:
                sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
                sys.stdout.flush()
            else:
                write_ready_file(ready_file, ready)
            await stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localcloud.vertex",
        description="A deterministic Vertex AI model server on loopback, with faults to inject on a second port.",
        epilog="One of --introspect-url and --allow-any-token is needed. Directives for the user's text: @pace, "
        "@finish, @block, @echo; function calls: see localcloud/vertex/grammar.py.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default %(default)s)")
    parser.add_argument("--port", type=_natural, default=0, help="port of the API, 0 for any free one")
    parser.add_argument("--admin-port", type=_natural, default=0, help="port of /admin, 0 for any free one")
    parser.add_argument("--ready-file", type=Path, help='written when serving: {"url", "admin_url", "pid"}')
    parser.add_argument("--introspect-url", default="", help="token issuer: GET URL?token=... answers 200 or 404")
    parser.add_argument("--allow-any-token", action="store_true", help="accept every bearer token unchecked")
    parser.add_argument("--member", action="append", metavar="EMAIL", help="account that may call; repeatable")
    parser.add_argument("--model", action="append", metavar="NAME", help="known model; repeatable, replaces all")
    parser.add_argument("--seed", type=int, default=1, help="seed of every answer (default %(default)s)")
    parser.add_argument("--deltas", type=_natural, default=0, help="text chunks a stream, 0 for natural length")
    parser.add_argument("--interval-ms", type=_natural, default=0, help="time from chunk to chunk")
    parser.add_argument("--first-ms", type=_natural, default=0, help="time before the first chunk")
    parser.add_argument("--size", type=_natural, default=5, help="tokens a chunk (default %(default)s)")
    return parser


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


if __name__ == "__main__":
    sys.exit(main())
