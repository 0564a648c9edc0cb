"""`gateway demo`: the whole system at work on this machine."""

import asyncio
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp
import click
from rich.console import Console

from agent.client.gateway import GatewayClient
from agent.tokens import MetadataTokens
from localcloud.demo.eyes import Eyes
from localcloud.demo.hijack import hijacked_agent
from localcloud.demo.killed import killed_gateway
from localcloud.demo.one_stream import two_calls_in_one_stream
from localcloud.demo.processes import ProcessError
from localcloud.demo.restart import restarted_gateway
from localcloud.demo.scene import Scene, Stopwatch
from localcloud.demo.scenes import permitted_order, refused_order, repeated_key, streamed_answer, verified_record
from localcloud.demo.show import show_scene, show_table
from localcloud.demo.town import AUDIENCE, Plan, Town, built


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every figure and nothing else.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep configuration, logs and ledger in this folder.",
)
@click.option(
    "--edge",
    type=click.Choice(["keep", "strip"]),
    default="keep",
    show_default=True,
    help="Whether the front door forwards tokens whole, or takes their signature off as Cloud Run may.",
)
def command(*, as_json: bool, keep: Path | None, edge: str) -> None:
    """Show the whole system at work on this machine.

    Starts the outside world (metadata server, Vertex AI, an exchange, Cloud Run's front door), the gateway and an
    agent as processes of their own on loopback, and shows what each of them sees. Ends with exit code 1 if anything
    was not as expected. Needs no account and no network.
    """
    console = Console(quiet=as_json, highlight=False)
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-demo-")))
        plan = Plan(edge="strip" if edge == "strip" else "keep")
        watch = Stopwatch()
        try:
            scenes = asyncio.run(_played(console, folder, plan))
        except ProcessError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("stopped; every process has ended", err=True)
            sys.exit(130)
    ok = all(scene.ok for scene in scenes)
    if as_json:
        click.echo(json.dumps(_report(scenes, ok=ok, seconds=watch.ms() / 1000)))
    else:
        show_table(console, scenes)
        console.print(
            f"\n{'Everything was as expected' if ok else 'NOT everything was as expected'}; "
            f"{watch.ms() / 1000:.1f} s, every process has ended."
        )
    sys.exit(0 if ok else 1)


async def _played(console: Console, folder: Path, plan: Plan) -> list[Scene]:
    watch = Stopwatch()
    console.print("Starting the local cloud, the gateway and the agent ...")
    async with built(folder, plan) as town, aiohttp.ClientSession() as session:
        _show_town(console, town, watch)
        eyes = Eyes(town=town, session=session)
        scenes: list[Scene] = []

        def shown(scene: Scene) -> None:
            scenes.append(scene)
            show_scene(console, scene)

        async with (
            MetadataTokens(town.metadata("agent")) as tokens,
            GatewayClient(town.door_url, tokens, audience=AUDIENCE) as client,
        ):
            shown(await streamed_answer(eyes))
            shown(await permitted_order(eyes))
            shown(await refused_order(eyes))
            shown(await repeated_key(eyes, client))
            shown(await two_calls_in_one_stream(eyes, client))
            scene, now = await restarted_gateway(eyes, client)
            shown(scene)
            shown(await hijacked_agent(eyes, client, edge_strips=plan.edge == "strip"))
            scene, now = await killed_gateway(replace(eyes, town=now), client)
            shown(scene)
        if town.agent is not None:
            await town.processes.stop(town.agent)
        code = await now.processes.stop(now.gateway)
        scene = await verified_record(eyes, closed=True)
        scene.expect("exit code of the gateway after SIGTERM", "the process", 0, code)
        shown(scene)
    return scenes


def _show_town(console: Console, town: Town, watch: Stopwatch) -> None:
    console.print(f"  listening after {watch.ms() / 1000:.1f} s", highlight=False)
    places = {
        "tokens": town.google.told("issuer_url"),
        "model": town.vertex.told("url"),
        "exchange": town.exchange.told("url"),
        "gateway": town.gateway_url,
        "front door": town.door_url,
        "agent": town.agent.told("url") if town.agent else "",
    }
    for name, url in places.items():
        console.print(f"  {name:<11}{url}", highlight=False)


def _report(scenes: list[Scene], *, ok: bool, seconds: float) -> dict[str, object]:
    return {
        "ok": ok,
        "seconds": round(seconds, 2),
        "scenes": [
            {
                "name": scene.name,
                "ok": scene.ok,
                "figures": scene.figures,
                "facts": scene.facts,
                "seen": [
                    {
                        "what": seen.what,
                        "where": seen.where,
                        "expected": seen.expected,
                        "seen": seen.seen,
                        "ok": seen.ok,
                    }
                    for seen in scene.seen
                ],
            }
            for scene in scenes
        ],
    }
