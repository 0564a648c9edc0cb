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
WORKERS_MAX: Final = 64

YOUNG_MAX: Final = 5_000
"""Objects that may have come since the collector looked last. A call leaves next to no cycles behind, and a batch of
calls under way has more objects than the default of 700: then most of what the collector looks at is in use."""


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
        if asked.workers > 1:
            return asyncio.run(_serve_workers(settings, witness, asked, variables))
        asyncio.run(_serve(settings, witness, asked))
    except (SettingsError, AssemblyError) as error:
        sys.stderr.write(visible_lines(f"gateway: {error}") + "\n")
        return CANNOT
    except LedgerUnavailableError as error:
        witness.tell("ledger.close_failed", {"error": str(error)})
        return NOT_CLOSED
    witness.tell("server.stopped", {})
    return DRAINED


async def _serve(settings: Settings, witness: LogWitness, asked: argparse.Namespace) -> None:
    stop = _told_to_stop()
    if asked.worker is not None:
        _stop_with_parent(stop)
    async with assembled(settings, witness) as gateway:
        # What is loaded now stays: the collector, off since the process began, need never look at it.
        gc.freeze()
        gc.set_threshold(YOUNG_MAX)
        gc.enable()
        port = await _listening(gateway, settings, shared=asked.worker is not None)
        _tell_start(witness, settings, gateway, port)
        if asked.ready_file is not None:
            _write_ready(asked.ready_file, _url(settings, port))
        if asked.worker is not None:
            os.write(asked.worker, b"1")
            os.close(asked.worker)
        await stop.wait()


async def _serve_workers(
    settings: Settings, witness: LogWitness, asked: argparse.Namespace, variables: Mapping[str, str]
) -> int:
    from gateway.commands.workers import Shared, Worker, reserved, serve_workers, worker_command  # noqa: PLC0415

    environment = settings.environment
    if not environment.database_url:
        raise AssemblyError(
            f"--workers {asked.workers}: several processes need one ledger that they can share. Set"
            " GATEWAY_DATABASE_URL to a PostgreSQL database, or serve with one"
        )
    try:
        with reserved(environment.host, environment.port) as port:
            shared = Shared(
                command=worker_command(["--config", str(asked.config)]),
                environment={**variables, "PORT": str(port)},
                witness=witness,
                stop=_told_to_stop(),
            )
            workers = [Worker(number=number, shared=shared) for number in range(1, asked.workers + 1)]

            def listening() -> None:
                if asked.ready_file is not None:
                    _write_ready(asked.ready_file, _url(settings, port))

            return await serve_workers(workers, shared, listening)
    except OSError as error:
        raise AssemblyError(_cannot_listen(settings, error)) from error


def _stop_with_parent(stop: asyncio.Event) -> None:
    """The parent holds the other end of the input and never writes: it ends when the parent does, however it ends."""
    loop, given = asyncio.get_running_loop(), sys.stdin.fileno()

    def orphaned() -> None:
        loop.remove_reader(given)
        stop.set()

    loop.add_reader(given, orphaned)


def _told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _tell_start(witness: LogWitness, settings: Settings, gateway: Gateway, port: int) -> None:
    environment = settings.environment
    if environment.ledger_may_be_lost and not environment.database_url:
        witness.tell("ledger.may_be_lost", {"ledger": settings.path(settings.file.ledger.path)})
    facts = {"port": port, "policy": gateway.policy_hash, "boot": gateway.boot}
    witness.tell("server.started", {**facts, "edge_trusted": environment.edge_enforced})


async def _listening(gateway: Gateway, settings: Settings, *, shared: bool) -> int:
    host, port = settings.environment.host, settings.environment.port
    try:
        return await gateway.server.start(host, port, gateway.web, gateway.tls, shared=shared)
    except OSError as error:
        raise AssemblyError(_cannot_listen(settings, error)) from error


def _cannot_listen(settings: Settings, error: OSError) -> str:
    host, port = settings.environment.host, settings.environment.port
    why = os.strerror(error.errno) if error.errno else str(error)
    return f"cannot listen on {host} port {port}: {why}. Choose another with PORT"


def _url(settings: Settings, port: int) -> str:
    host = settings.environment.host
    return f"http{'s' if settings.file.tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def _write_ready(path: Path, url: str) -> None:
    """Tell where this process listens, so that a reader sees the whole file or none."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps({"url": url, "pid": os.getpid()}))
        partial.replace(path)
    except OSError as error:
        raise AssemblyError(f"cannot write the ready file {path}: {reason(error)}") from error


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= WORKERS_MAX and len(text) <= 3):
        raise argparse.ArgumentTypeError(f"write a number of processes, 1 to {WORKERS_MAX}")
    return int(text)


def _parser(variables: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway serve",
        allow_abbrev=False,
        description="Serve governed models and tools on $PORT (8080): gRPC, gRPC-Web and Connect over cleartext "
        "HTTP/2, gRPC-Web and Connect over HTTP/1.1; the same over TLS with [tls] in the configuration.",
        epilog="Environment: PORT; GATEWAY_HOST (0.0.0.0); GATEWAY_EDGE_IAM=required when Cloud Run's invoker check "
        "stands in front; GATEWAY_DATABASE_URL, a PostgreSQL database for the ledger of several instances; "
        "GATEWAY_LEDGER_MAY_BE_LOST=accepted on Cloud Run without one, whose disk does not last; "
        "GCE_METADATA_HOST; GATEWAY_TIMING=costs to measure what each stage costs; and what the configuration refers "
        "to as env:NAME. Exit codes: 0 drained, 1 the closing record could not be written, 2 it cannot serve. Workers "
        "drain together; one that dies is started again.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(config_path(variables)),
        help="the configuration file; default $GATEWAY_CONFIG or gateway.toml",
    )
    parser.add_argument("--ready-file", type=Path, help="write {url, pid} here once calls are taken")
    parser.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="processes that share the port and the database of GATEWAY_DATABASE_URL; default 1",
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # for the parent of workers alone
    return parser
