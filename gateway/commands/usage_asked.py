"""A running gateway's answer to `gateway usage`: one call of OperatorService.QueryUsage, in Connect's JSON."""

import asyncio
from typing import Final

import aiohttp
import msgspec

from gateway.commands.shown import CannotError
from gateway.settings.forms import origin_faults
from gateway.terms.usage import Group, UsageQuery, UsageReport, Used

METHOD: Final = "/agentic.gateway.v1.OperatorService/QueryUsage"
ANSWER_S: Final = 120.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
"""Far above the greatest number of rows."""


class _Row(msgspec.Struct, rename="camel"):
    """A row; protobuf's JSON writes 64 bits as text, and leaves out what is nothing."""

    agent: str = ""
    team: str = ""
    model: str = ""
    tool: str = ""
    run_id: str = ""
    day: str = ""
    calls: str = "0"
    refusals: str = "0"
    failures: str = "0"
    unknown: str = "0"
    input_tokens: str = "0"
    output_tokens: str = "0"
    thinking_tokens: str = "0"
    cached_tokens: str = "0"
    cost_micro_usd: str = "0"

    def used(self) -> Used:
        """Its numbers."""
        return Used(**{name: int(getattr(self, name)) for name in Used.__dataclass_fields__})

    def names(self, by: tuple[Group, ...]) -> tuple[str, ...]:
        """Its names."""
        return tuple(str(getattr(self, "run_id" if group is Group.RUN else group.value)) for group in by)


class _Answer(msgspec.Struct):
    rows: list[_Row] = []
    total: _Row = msgspec.field(default_factory=_Row)


class _Refused(msgspec.Struct):
    code: str = "unknown"
    message: str = ""


def asked(url: str, token: str, query: UsageQuery) -> UsageReport:
    """The report of the gateway at this URL for the operator whose ID token this is. Raises `CannotError`."""
    for fault in origin_faults("--gateway", url):  # the token goes there
        raise CannotError(fault)
    if not token or not token.isascii() or not token.isprintable():
        raise CannotError("the token is missing or no token: write an operator's ID token, alone, into --token")
    status, body = asyncio.run(_posted(url.rstrip("/") + METHOD, token, query))
    try:
        if status != 200:
            refused = msgspec.json.decode(body, type=_Refused)
            raise CannotError(f"the gateway refuses with {refused.code}: {refused.message}")
        answer = msgspec.json.decode(body, type=_Answer)
        rows = tuple((row.names(query.by), row.used()) for row in answer.rows)
        return UsageReport(by=query.by, total=answer.total.used(), rows=rows)
    except ValueError as error:
        raise CannotError(f"what answers at {url} with status {status} is no gateway of this version") from error


async def _posted(url: str, token: str, query: UsageQuery) -> tuple[int, bytes]:
    by = [f"USAGE_GROUP_{group.name}" for group in query.by]
    body = {"fromUnixUs": str(query.from_unix_us), "toUnixUs": str(query.to_unix_us), "by": by}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept-Encoding": "identity"}
    try:
        async with (
            asyncio.timeout(ANSWER_S),
            aiohttp.ClientSession(trust_env=False) as session,
            session.post(url, data=msgspec.json.encode(body), headers=headers, allow_redirects=False) as reply,
        ):
            answer = await reply.content.read(ANSWER_BYTES_MAX)
            while not reply.content.at_eof() and len(answer) < ANSWER_BYTES_MAX:
                answer += await reply.content.read(ANSWER_BYTES_MAX - len(answer))
            return reply.status, answer
    except TimeoutError as error:
        raise CannotError(f"the gateway has not answered within {ANSWER_S:g} s: ask for less time") from error
    except aiohttp.ClientError as error:
        raise CannotError(f"the gateway cannot be reached: {type(error).__name__}") from error
