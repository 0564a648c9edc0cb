"""`python -m localcloud.google`: the token issuer and the metadata servers as a process of their own."""

import asyncio
import sys
from pathlib import Path

import click

from localcloud.google.identities import AccountError, GoogleConfig, TokenAge
from localcloud.google.local import LocalGoogle
from localcloud.process import asked_to_stop, write_ready_file


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--identity", "identities", multiple=True, required=True, metavar="NAME=EMAIL", help="Repeatable.")
@click.option("--project", default="local-project", show_default=True, help="The project's id.")
@click.option("--project-number", default=123456789012, show_default=True, type=click.IntRange(min=1))
@click.option("--region", default="us-central1", show_default=True)
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="The issuer's; 0 is any.")
@click.option("--token-age", default=0, show_default=True, type=click.IntRange(0, 3599), help="Seconds.")
@click.option("--reuse-tokens", is_flag=True, help="Hand a token out again while it lives, as the real one does.")
@click.option("--ready-file", type=click.Path(path_type=Path, dir_okay=False), help="Written when all listen.")
def main(  # noqa: PLR0913  # one parameter per option is how click speaks
    *,
    identities: tuple[str, ...],
    project: str,
    project_number: int,
    region: str,
    port: int,
    token_age: int,
    reuse_tokens: bool,
    ready_file: Path | None,
) -> None:
    """Run Google's token issuer and one metadata server per identity on loopback, until SIGTERM or SIGINT."""
    try:
        config = GoogleConfig(
            identities=_pairs(identities),
            project_id=project,
            project_number=project_number,
            region=region,
            issuer_port=port,
            token_age=TokenAge(born=token_age, reuse=reuse_tokens),
        )
        google = LocalGoogle(config)
    except AccountError as error:
        raise click.UsageError(str(error)) from error
    try:
        asyncio.run(_serve(google, ready_file))
    except OSError as error:
        raise click.ClickException(f"The local Google cannot start: {error}.") from error


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, separator, email = text.partition("=")
        if not separator:
            raise AccountError(f"{text!r} is no identity: write NAME=EMAIL.")
        if name in pairs:
            raise AccountError(f"The identity {name!r} is given twice.")
        pairs[name] = email
    return pairs


async def _serve(google: LocalGoogle, ready_file: Path | None) -> None:
    with asked_to_stop() as stop:
        async with google:
            if ready_file is not None:
                write_ready_file(ready_file, google.facts())
            await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
