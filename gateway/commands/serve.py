"""`gateway serve`: the life of a gateway process, from its settings to its last record."""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gateway.assembly.life import Gateway, assembled
from gateway.assembly.parts import AssemblyError
from gateway.settings.environment import config_path
from gateway.settings.faults import SettingsError, reason
from gateway.settings.reading import Settings, read_settings
from gateway.terms.clock import SystemClock
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.visible import visible_lines
from gateway.witness import LogWitness, hear_everything

DRAINED: Final = 0
NOT_CLOSED: Final = 1
CANNOT: Final = 2


def serve(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT, then drain; gives the exit code.

    0: drained, and the record is closed. 1: drained, but the closing record could not be written. 2: it cannot serve,
    and never listened.
    """
    variables = os.environ  # noqa: TID251 - settings is the one reader; this hands it over
    asked = _parser(variables).parse_args(arguments)
    witness = LogWitness(SystemClock())
    try:
        settings = read_settings(asked.config, variables)
        hear_everything(witness)
        asyncio.run(_serve(settings, witness, asked.ready_file))
    except (SettingsError, AssemblyError) as error:
        sys.stderr.write(visible_lines(f"gateway: {error}") + "\n")
        return CANNOT
    except LedgerUnavailableError as error:
        witness.tell("ledger.close_failed", {"error": str(error)})
        return NOT_CLOSED
    witness.tell("server.stopped", {})
    return DRAINED


async def _serve(settings: Settings, witness: LogWitness, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with assembled(settings, witness) as gateway:
        # What is loaded now stays: the collector, off since the process began, need never look at it.
        gc.freeze()
        gc.enable()
        port = await _listening(gateway, settings)
        _tell_start(witness, settings, gateway, port)
        if ready_file is not None:
            _write_ready(ready_file, _url(settings, gateway, port))
        await stop.wait()


def _tell_start(witness: LogWitness, settings: Settings, gateway: Gateway, port: int) -> None:
    environment = settings.environment
    if environment.ledger_may_be_lost and not environment.database_url:
        witness.tell("ledger.may_be_lost", {"ledger": settings.path(settings.file.ledger.path)})
    facts = {"port": port, "policy": gateway.policy_hash, "boot": gateway.boot}
    witness.tell("server.started", {**facts, "edge_trusted": environment.edge_enforced})


async def _listening(gateway: Gateway, settings: Settings) -> int:
    host, port = settings.environment.host, settings.environment.port
    try:
        return await gateway.server.start(host, port, gateway.web, gateway.tls)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise AssemblyError(f"cannot listen on {host} port {port}: {why}. Choose another with PORT") from error


def _url(settings: Settings, gateway: Gateway, port: int) -> str:
    host = settings.environment.host
    return f"http{'s' if gateway.tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def _write_ready(path: Path, url: str) -> None:
    """Tell where this process listens, so that a reader sees the whole file or none."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps({"url": url, "pid": os.getpid()}))
        partial.replace(path)
    except OSError as error:
        raise AssemblyError(f"cannot write the ready file {path}: {reason(error)}") from error


def _parser(variables: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway serve",
        allow_abbrev=False,
        description="Serve governed models and tools on $PORT (8080): gRPC, gRPC-Web and Connect over cleartext "
        "HTTP/2, gRPC-Web and Connect over HTTP/1.1; the same over TLS with [tls] in the configuration.",
        epilog="Environment: PORT; GATEWAY_HOST (0.0.0.0); GATEWAY_EDGE_IAM=required when Cloud Run's invoker check "
        "stands in front; GATEWAY_DATABASE_URL, a PostgreSQL database for the ledger of several instances; "
        "GATEWAY_LEDGER_MAY_BE_LOST=accepted on Cloud Run without one, whose disk does not last; "
        "GCE_METADATA_HOST; and what the configuration refers to as env:NAME. Exit codes: 0 drained, 1 the closing "
        "record could not be written, 2 it cannot serve.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(config_path(variables)),
        help="the configuration file; default $GATEWAY_CONFIG or gateway.toml",
    )
    parser.add_argument("--ready-file", type=Path, help="write {url, pid} here once calls are taken")
    return parser
