"""The commands, each imported only when it is named; other packages plug theirs in under `gateway.commands`."""

import sys
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Final, cast

import click

from gateway.commands.shown import CannotError

PLUGGED_IN: Final = "gateway.commands"
OWN: Final = ("audit", "check", "halt", "latch", "ledger", "operations", "policy", "serve", "tools", "usage")


class CommandGroup(click.Group):
    """Knows the names of its commands and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        del ctx
        return sorted({*OWN, *(point.name for point in entry_points(group=PLUGGED_IN))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command by name."""
        del ctx
        if cmd_name == "serve":
            return serve
        if cmd_name in OWN:
            return cast("click.Command", getattr(import_module(f"gateway.commands.{cmd_name}"), cmd_name))
        for point in entry_points(group=PLUGGED_IN, name=cmd_name):
            return _plugged_in(point)
        return None


def _plugged_in(point: EntryPoint) -> click.Command:
    """A command of another package; one that cannot be imported says so only when it is run."""
    try:
        return cast("click.Command", point.load())
    except (ImportError, AttributeError) as error:
        sentence = f"the command {point.name} cannot be loaded from {point.value}: {error}"

        def refuse() -> None:
            raise CannotError(sentence)

        return click.Command(point.name, callback=refuse, short_help="Cannot be loaded.")


def _told_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's form
    if not asked or ctx.resilient_parsing:
        return
    try:
        number = version("agentic-gateway")
    except PackageNotFoundError:
        number = "not installed, run from its source"
    click.echo(f"gateway {number}")
    ctx.exit()


@click.group(cls=CommandGroup)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_told_version,
    help="Show the version and exit.",
)
def commands() -> None:
    """The governor between AI agents and everything that needs credentials."""


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> None:
    """Serve governed models and tools on $PORT."""
    from gateway.commands.serve import serve as run  # noqa: PLC0415 - only this command needs the whole gateway

    sys.exit(run(arguments))
