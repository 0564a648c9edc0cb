"""`gateway check`: everything that `serve` checks before it listens, without listening."""

import os
from pathlib import Path

import click

from gateway.assembly.parts import AssemblyError, checked
from gateway.commands.shown import CannotError
from gateway.settings.environment import config_path
from gateway.settings.faults import SettingsError
from gateway.settings.reading import read_settings
from gateway.terms.visible import visible


@click.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
def check(config: Path | None) -> None:
    """Check a configuration file with its rules, tools and secrets, and say what is wrong with it.

    CONFIG is $GATEWAY_CONFIG or gateway.toml unless it is named. Nothing is sent anywhere and no ledger is opened.
    Exit code 0: `serve` would start, if its ledger and its port are free. 2: it would not.
    """
    variables = os.environ  # noqa: TID251 - settings is the one reader; this hands it over
    try:
        summary = checked(read_settings(config or Path(config_path(variables)), variables))
    except (SettingsError, AssemblyError) as error:
        raise CannotError(str(error)) from error
    for line in summary:
        click.echo(visible(line))
