"""`python -m localcloud.front_door`: Cloud Run's edge before one container, as a process of its own."""

import asyncio
import sys
from pathlib import Path
from typing import Literal, TextIO

import click

from localcloud.front_door.config import DoorConfig, DoorConfigError
from localcloud.front_door.door import FrontDoor
from localcloud.process import asked_to_stop, write_ready_file


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--container", required=True, metavar="HOST:PORT", help="Where the container listens, or will listen.")
@click.option("--audience", "audiences", multiple=True, required=True, help="The service's URL. Repeatable.")
@click.option("--invoker", "invokers", multiple=True, metavar="EMAIL", help="Holder of roles/run.invoker. Repeatable.")
@click.option("--certs-url", required=True, help="The issuer's JWK set.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0 is any free port.")
@click.option("--signature", type=click.Choice(["strip", "keep"]), default="strip", show_default=True)
@click.option("--ingress", type=click.Choice(["all", "none"]), default="all", show_default=True)
@click.option("--timeout", default=300.0, show_default=True, help="Request timeout, seconds.")
@click.option("--concurrency", default=1000, show_default=True, help="Requests inside the container at once.")
@click.option("--pending", default=10.0, show_default=True, help="Seconds that a request waits for a place.")
@click.option("--start", default=10.0, show_default=True, help="Seconds that a container may take to listen.")
@click.option("--log", type=click.File("a"), help="Access log, one JSON object a line; - is standard output.")
@click.option("--ready-file", type=click.Path(path_type=Path, dir_okay=False), help="Written when the door listens.")
def main(  # noqa: PLR0913  # one parameter per option is how click speaks
    *,
    container: str,
    audiences: tuple[str, ...],
    invokers: tuple[str, ...],
    certs_url: str,
    port: int,
    signature: str,
    ingress: Literal["all", "none"],
    timeout: float,
    concurrency: int,
    pending: float,
    start: float,
    log: TextIO | None,
    ready_file: Path | None,
) -> None:
    """Run Cloud Run's front door before a container on loopback, until SIGTERM or SIGINT."""
    try:
        host, number = _address(container)
        config = DoorConfig(
            container_host=host,
            container_port=number,
            audiences=audiences,
            invokers=invokers,
            certs_url=certs_url,
            port=port,
            strip_signature=signature == "strip",
            ingress=ingress,
            timeout_seconds=timeout,
            concurrency=concurrency,
            pending_seconds=pending,
            start_seconds=start,
        )
    except DoorConfigError as error:
        raise click.UsageError(str(error)) from error
    try:
        asyncio.run(_serve(config, log, ready_file))
    except OSError as error:
        raise click.ClickException(f"The front door cannot start: {error}.") from error
    except ExceptionGroup as errors:
        outside, inside = errors.split(OSError)
        if inside is not None or outside is None:
            raise  # a fault of the door itself: nothing is hidden
        raise click.ClickException(f"The front door stopped: {_first(outside)}.") from errors


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise DoorConfigError(f"{text!r} is no container address: write HOST:PORT.")
    return host, int(port)


async def _serve(config: DoorConfig, log: TextIO | None, ready_file: Path | None) -> None:
    with asked_to_stop() as stop:
        async with FrontDoor(config, log_file=log) as door:
            if ready_file is not None:
                write_ready_file(ready_file, door.facts())
            await door.until(stop)


if __name__ == "__main__":
    sys.exit(main())
