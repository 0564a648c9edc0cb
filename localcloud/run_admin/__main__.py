"""`python -m localcloud.run_admin`: the admin API as a process of its own."""

import asyncio
import sys
from pathlib import Path
from typing import get_args

import click

from localcloud.process import asked_to_stop, write_ready_file
from localcloud.run_admin import AdminConfig, AdminConfigError, RunAdmin, Start, gcloud_environment


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--project", default="local-project", show_default=True, help="The project's id.")
@click.option("--region", default="us-central1", show_default=True)
@click.option(
    "--start", "starts", multiple=True, metavar="IMAGE=HOW", help=f"Repeatable: {', '.join(get_args(Start))}."
)
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0 is any.")
@click.option(
    "--gcloud-folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="For --ready-file."
)
@click.option("--ready-file", type=click.Path(path_type=Path, dir_okay=False), help="Written when it listens.")
def main(  # noqa: PLR0913  # one parameter per option is how click speaks
    *,
    project: str,
    region: str,
    starts: tuple[str, ...],
    port: int,
    gcloud_folder: Path | None,
    ready_file: Path | None,
) -> None:
    """Answer gcloud as an empty project does, on loopback, until SIGTERM or SIGINT.

    The ready file tells the URL, and with --gcloud-folder the variables that gcloud needs.
    """
    try:
        config = AdminConfig(project=project, region=region, port=port, starts=dict(map(_start, starts)))
        asyncio.run(_serve(RunAdmin(config), gcloud_folder, ready_file))
    except AdminConfigError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"The local admin API cannot start: {error}.") from error


def _start(written: str) -> tuple[str, Start]:
    image, _, how = written.rpartition("=")
    for start in get_args(Start):
        if image and how == start:
            return image, start
    raise AdminConfigError(f"{written!r} says nothing about an image: write IMAGE=HOW.")


async def _serve(admin: RunAdmin, gcloud_folder: Path | None, ready_file: Path | None) -> None:
    with asked_to_stop() as stop:
        async with admin:
            facts = admin.facts()
            if gcloud_folder is not None:
                facts["environment"] = dict(gcloud_environment(admin.url, gcloud_folder))
            if ready_file is not None:
                write_ready_file(ready_file, facts)
            await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
