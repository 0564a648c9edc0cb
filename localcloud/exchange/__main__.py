"""The paper exchange as a process: `python -m localcloud.exchange --account KEY:SECRET:CASH --ready-file FILE`."""

import asyncio
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Final

import click

from localcloud.exchange import MICROS, Credential, ExchangeConfig, PaperExchange, VenueConfig
from localcloud.process import asked_to_stop, write_ready_file

_CASH: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)
_LOTS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


def _credentials(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[Credential, ...]:
    """Parse every KEY:SECRET:CASH. The refusal does not repeat the value, because it holds a secret."""
    credentials = []
    for value in values:
        parts = value.split(":")
        key_id, secret, cash, lots = (*parts, "0") if len(parts) == 3 else parts if len(parts) == 4 else [""] * 4
        if not key_id or not secret or not _CASH.fullmatch(cash) or not _LOTS.fullmatch(lots):
            raise click.BadParameter(
                "an account is KEY:SECRET:CASH or KEY:SECRET:CASH:LOTS, the cash in dollars such as 100000 or 2500.50,"
                " and how many whole lots it holds of each share"
            )
        cash_micros = int(Decimal(cash) * MICROS)
        credentials.append(Credential(key_id=key_id, secret=secret, cash_micros=cash_micros, lots=int(lots)))
    return tuple(credentials)


@click.command(context_settings={"max_content_width": 110, "show_default": True})
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="The trading port; 0 takes any free one.")
@click.option("--admin-port", default=0, type=click.IntRange(0, 65535), help="The admin port; 0 takes any free one.")
@click.option(
    "--account",
    "accounts",
    metavar="KEY:SECRET:CASH[:LOTS]",
    multiple=True,
    required=True,
    callback=_credentials,
    help="A key pair, the dollars that its account begins with, and the lots of each share; repeatable.",
)
@click.option("--seed", default=0, help="The seed of the market maker's quotes.")
@click.option("--fee-ppm", default=0, type=click.IntRange(0, MICROS), help="Fee in parts per million of traded value.")
@click.option(
    "--max-orders",
    default=200_000,
    type=click.IntRange(1),
    help="Orders after which new ones are refused; none is ever forgotten.",
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Written when both ports listen: JSON with url, admin_url and pid.",
)
def main(  # noqa: PLR0913 - click passes one argument an option
    *,
    host: str,
    port: int,
    admin_port: int,
    accounts: tuple[Credential, ...],
    seed: int,
    fee_ppm: int,
    max_orders: int,
    ready_file: Path | None,
) -> None:
    """Run a simulated stock exchange in Alpaca's v2 wire format until SIGTERM or SIGINT."""
    try:
        venue = VenueConfig(credentials=accounts, seed=seed, fee_ppm=fee_ppm, max_orders=max_orders)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        asyncio.run(_serve(ExchangeConfig(venue=venue, host=host, port=port, admin_port=admin_port), ready_file))
    except OSError as error:
        raise click.ClickException(f"cannot listen or write the ready file: {error}") from None


async def _serve(config: ExchangeConfig, ready_file: Path | None) -> None:
    with asked_to_stop() as stop:
        async with PaperExchange(config) as exchange:
            click.echo(f"paper exchange: trading on {exchange.url}, admin on {exchange.admin_url}", err=True)
            if ready_file is not None:
                write_ready_file(ready_file, {"url": exchange.url, "admin_url": exchange.admin_url, "pid": os.getpid()})
            await stop.wait()


if __name__ == "__main__":
    main()
