"""A running gateway as an operator reaches it: one Connect call in JSON over HTTP, with the operator's token."""

import asyncio
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar, cast

import aiohttp
import click

from gateway.commands.shown import CannotError
from gateway.llm.bodies import BodyTooLargeError, whole_body
from gateway.settings.forms import origin_faults
from gateway.terms.visible import visible_lines

SERVICE: Final = "/agentic.gateway.v1.OperatorService/"
TIMEOUT_S: Final = 15.0
TOKEN_TIMEOUT_S: Final = 60.0
ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024

Json = Mapping[str, object]
Command = TypeVar("Command", bound=Callable[..., object])


class RefusedByGatewayError(click.ClickException):
    """The gateway said no. Ends with exit code 1: what was asked was understood, and not done."""

    exit_code = 1

    def format_message(self) -> str:
        """The gateway's sentence; nothing in it can steer a terminal."""
        return visible_lines(self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Where, and as whom."""

    url: str
    token: str = field(repr=False)

    def call(self, method: str, message: Json, timeout_s: float = TIMEOUT_S) -> Json:
        """The answer of one method. Raises `RefusedByGatewayError`, and `CannotError` where there is no answer."""
        try:
            return asyncio.run(self._post(method, message, timeout_s))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or f"no answer within {timeout_s:.0f} s"
            raise CannotError(f"cannot reach {self.url}: {why}. Nothing is known of what was asked") from error
        except BodyTooLargeError as error:
            raise CannotError(f"the answer of {self.url} is too large: {error}") from error

    async def _post(self, method: str, message: Json, within_s: float) -> Json:
        timeout = aiohttp.ClientTimeout(total=within_s)
        headers = {"Authorization": f"Bearer {self.token}", "Connect-Protocol-Version": "1"}
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True) as session,
            session.post(
                self.url.rstrip("/") + SERVICE + method, json=message, headers=headers, allow_redirects=False
            ) as response,
        ):
            told = _object(await whole_body(response, ANSWER_BYTES_MAX))
            if response.status == 200 and told is not None:
                return told
            raise _refused(response, told)


def _object(body: bytes) -> Json | None:
    try:
        read = json.loads(body)
    except ValueError:
        return None
    return cast("Json", read) if isinstance(read, dict) else None


def _refused(response: aiohttp.ClientResponse, told: Json | None) -> click.ClickException:
    """The gateway's own no, or what something on the way to it said."""
    request = response.headers.get("gateway-request", "")
    if told is None or not isinstance(told.get("code"), str):
        return CannotError(f"HTTP {response.status} from {response.url.host}, which is no answer of a gateway")
    after = f" (request {request})" if request else ""
    return RefusedByGatewayError(f"{told['code']}: {told.get('message', '')}{after}")


def remote_options(command: Command) -> Command:
    """The options that every command for a running gateway has; `remote_of` makes a `Remote` of them."""
    return _options(command, required=True)


def remote_options_or_none(command: Command) -> Command:
    """The same for a command that can do without a running gateway."""
    return _options(command, required=False)


def _options(command: Command, *, required: bool) -> Command:
    for option in (
        click.option("--url", envvar="GATEWAY_URL", required=required, help="The gateway's URL; else $GATEWAY_URL."),
        click.option("--audience", help="What the token is for, where that is not the URL."),
        click.option(
            "--as",
            "account",
            metavar="EMAIL",
            help="Impersonate this operator's service account with gcloud to get the token.",
        ),
        click.option("--token-command", help="A command that prints an ID token; else gcloud is asked for one."),
        click.option("--json", "as_json", is_flag=True, help="Print the gateway's answer as JSON and nothing else."),
    ):
        command = option(command)
    return command


def remote_of(where: Mapping[str, str | None]) -> Remote:
    """The gateway that `remote_options` name, with a token: $GATEWAY_TOKEN, or what a command prints.

    Raises `CannotError`.
    """
    url, account, command = where["url"] or "", where["account"], where["token_command"]
    for fault in origin_faults("--url", url):
        raise CannotError(fault)
    variables = os.environ  # noqa: TID251 - a person's own shell is asked for a person's own token
    token = variables.get("GATEWAY_TOKEN", "")
    if not token or command or account:
        token = _printed(command or _gcloud(where["audience"] or url.rstrip("/"), account))
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CannotError("the token is none: it must be one line of visible characters")
    return Remote(url=url, token=token)


def _gcloud(audience: str, account: str | None) -> str:
    who = f" --impersonate-service-account={shlex.quote(account)} --include-email" if account else ""
    return f"gcloud auth print-identity-token --audiences={shlex.quote(audience)}{who}"


def _printed(command: str) -> str:
    """What a command prints. It is no shell's line: it is split as a shell would, and run."""
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command
            shlex.split(command), capture_output=True, text=True, timeout=TOKEN_TIMEOUT_S, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise CannotError(
            f"cannot run {command!r} for a token: {error}. Set GATEWAY_TOKEN, or --token-command"
        ) from None
    if done.returncode != 0 or not done.stdout.strip():
        why = done.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        raise CannotError(f"no token from {command!r}: {why[0]}")
    return done.stdout.strip()
