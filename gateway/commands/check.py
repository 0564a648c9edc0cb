"""`gateway check`: everything that `serve` checks before it listens, without listening."""

import os
from pathlib import Path

import click

from gateway.assembly import AssemblyError, checked
from gateway.settings import SettingsError, read_settings


@click.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True, dir_okay=False), default="gateway.toml")
def check(config: Path) -> None:
    """Check a configuration file with its policies, tools and secrets, and say what is wrong with it.

    Nothing is sent anywhere and no ledger is opened.
    """
    try:
        settings = read_settings(config, os.environ)  # noqa: TID251 - the one reader, passed on as an argument
        summary = checked(settings)
    except SettingsError as error:
        raise click.ClickException(f"{error.source} cannot be used:\n  " + "\n  ".join(error.faults)) from error
    except AssemblyError as error:
        raise click.ClickException(str(error)) from error
    for line in summary:
        click.echo(line)
