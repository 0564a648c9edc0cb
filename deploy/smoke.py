"""One call as an agent makes it: `python -m deploy.smoke URL --audience URL`, with the agent's ID token as its input.

It lists the models. That passes the edge's invoker check, the gateway's check of the token and its registration of the
agent, and has no effect. What the edge or a start may still refuse for a moment is tried again for a minute and a half:
grants take a while to be known everywhere.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Final

from grpclib.const import Status

from agent.client.errors import GatewayError
from agent.client.gateway import GatewayClient, Patience
from agent.tokens import TokenError
from deploy.shell import say

WAIT_SECONDS: Final = 90.0
_PAUSE_SECONDS: Final = 3.0
_EARLY: Final = frozenset({Status.PERMISSION_DENIED, Status.UNAUTHENTICATED, Status.UNIMPLEMENTED, Status.UNKNOWN})
"""What the edge answers while a grant or an address is not known everywhere yet (study, section 1.5)."""


class GivenToken:
    """A token that somebody else has fetched."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def id_token(self, audience: str) -> str:  # noqa: ARG002 - it was made for this audience
        """The token."""
        return self._token


async def smoke(url: str, audience: str, token: str, *, wait_seconds: float, pause_seconds: float) -> int:
    """List the models, and return how many there are. Raises GatewayError with what the gateway or the edge says."""
    end = time.monotonic() + wait_seconds
    async with GatewayClient(url, GivenToken(token), audience=audience, patience=Patience(timeout_s=20.0)) as gateway:
        while True:
            try:
                return len((await gateway.list_models()).models)
            except GatewayError as error:
                early = error.passing or (error.from_edge and error.status in _EARLY)
                if not early or time.monotonic() + pause_seconds > end:
                    raise
            await asyncio.sleep(pause_seconds)


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Exit code 1 for a call that does not pass, 2 for arguments that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m deploy.smoke", description=__doc__)
    parser.add_argument("url", metavar="URL", help="where the call goes")
    parser.add_argument("--audience", required=True, metavar="URL", help="what the token was made for")
    parser.add_argument("--wait", type=float, default=WAIT_SECONDS, metavar="SECONDS", help="default: 90")
    given = parser.parse_args(words)
    token = sys.stdin.read().strip()
    try:
        models = asyncio.run(
            smoke(given.url, given.audience, token, wait_seconds=given.wait, pause_seconds=_PAUSE_SECONDS)
        )
    except ValueError as error:
        parser.exit(2, f"smoke: {error}\n")
    except (GatewayError, TokenError) as error:
        parser.exit(1, f"ERROR: the agent's call to {given.url} does not pass: {error}\n")
    say(f"an agent's call to {given.url} passes: {models} models")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
