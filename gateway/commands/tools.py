"""`gateway tools`: what upstream MCP servers say of their tools, brought to a person to approve."""

import asyncio
import os
from pathlib import Path

import click

from gateway.assembly.tool_services import Sources, mcp_server
from gateway.commands.shown import CannotError
from gateway.settings.environment import config_path
from gateway.settings.faults import SettingsError, reason
from gateway.settings.reading import read_settings
from gateway.terms.clock import SystemClock
from gateway.terms.visible import visible
from gateway.tools.egress import guard_of, guarded_session
from gateway.tools.mcp_binding import offerable
from gateway.tools.mcp_client import McpClient
from gateway.tools.mcp_config import McpServer
from gateway.tools.mcp_pins import Said, pins_file


@click.group()
def tools() -> None:
    """Look at the tools of upstream servers."""


@tools.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option("--server", "only", help="This server of [[mcp_servers]] alone.")
def pin(config: Path | None, only: str | None) -> None:
    """Ask the MCP servers of CONFIG for their tools, write what they say into their files of pins, and show the pins.

    CONFIG is $GATEWAY_CONFIG or gateway.toml unless it is named. Nothing is called, and nothing is approved: that is
    who reads the words, and writes the pin into the configuration. Exit code 2: a server cannot be asked.
    """
    variables = os.environ  # noqa: TID251 - settings is the one reader; this hands it over
    try:
        settings = read_settings(config or Path(config_path(variables)), variables)
        chosen = [table for table in settings.file.mcp_servers if only in {None, table.name}]
        if not chosen:
            raise CannotError("there is no such server: write [[mcp_servers]]")
        for table in chosen:
            server = mcp_server(table, Sources(settings.base, settings.secrets))
            listed = asyncio.run(_listed(server))
            # What is approved now stays in the file, so that a gateway can still start with it.
            kept = [server.pinned[tool.pin] for tool in server.tools if tool.pin in server.pinned]
            settings.path(table.pins).write_bytes(pins_file([*kept, *listed.values()]))
            click.echo(visible(f"{server.name}: {len(listed)} tools, written to {settings.path(table.pins)}"))
            for name in sorted(listed):
                _show(server, listed[name])
    except SettingsError as error:
        raise CannotError(str(error)) from error
    except OSError as error:
        raise CannotError(f"the file of pins cannot be written: {reason(error)}") from error


def _show(server: McpServer, known: Said) -> None:
    """One tool: what a model would read, its pin, what that means for the configuration, and why it cannot be used."""
    configured = [tool for tool in server.tools if tool.tool == known.name]
    state = "not configured" if not configured else "approved"
    if any(tool.pin != known.pin for tool in configured):
        state = "NOT APPROVED in these words"
    click.echo(visible(f"  {known.name}: {state}"))
    click.echo(visible(f'    pin = "{known.pin}"'))
    click.echo(visible(f"    says: {' '.join(known.description.split())}"))
    fault = offerable(known, server.bounds)
    if fault:
        click.echo(f"    cannot be offered: {visible(' '.join(fault.split()))}")


async def _listed(server: McpServer) -> dict[str, Said]:
    guard = guard_of(server.url, server.networks)
    async with guarded_session(guard) as session:
        client = McpClient(server, session, SystemClock())
        listed = await client.tools()
        await client.close()
    if not isinstance(listed, dict):
        raise CannotError(f"{server.name}: {server.url} does not list its tools: {listed}")
    return listed
