"""One HTTP request and its whole answer: sent at most once, bounded in time and bytes, nothing followed or inflated.

aiohttp by itself follows redirects with custom headers, and inflates any compressed body (governance study, section 0,
item 11; attack rows 30 to 35).
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import msgspec
from yarl import URL

from gateway.terms.limits import RESULT_BYTES_MAX
from gateway.tools.egress import refused_by_guard

_IDENTITY: Final = frozenset({"", "identity"})
_NEVER_CEIL: Final = 1e9
"""aiohttp rounds timeouts of over 5 s up to whole seconds unless told not to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A request in its final form: the URL is sent as it stands here."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    """With the credentials, which are added last."""
    body: bytes | None = None
    repeatable: bool = False
    """A read, which aiohttp may send again by itself when its connection breaks."""


class SentBeforeError(aiohttp.ClientError):
    """A request was about to leave a second time."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait, in seconds. The total bounds also who sends one byte at a time (attack row 35)."""

    total_s: float
    connect_s: float = 2.0
    idle_s: float = 5.0
    """Without a byte for so long, an answer counts as lost."""


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A status and the body that came with it."""

    status: int
    media_type: str = ""
    """In lower case, without parameters; empty where the service names none."""
    body: bytes | None = b""
    """None for a body that is compressed or too large: it was left unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """No whole answer came. `sent` is False only where no byte of the request can have left."""

    sent: bool
    detail: str
    guarded: bool = False
    """The guard let no connection be made."""


async def round_trip(
    session: aiohttp.ClientSession, outgoing: Outgoing, patience: Patience, bytes_max: int = RESULT_BYTES_MAX
) -> Received | NoAnswer:
    """Send once and read the whole answer. Raises nothing for what network or service do."""
    if patience.total_s <= 0:
        return NoAnswer(sent=False, detail="no time was left")
    try:
        async with opened(session, outgoing, patience) as response:
            return Received(
                status=response.status,
                media_type=media_type(response),
                body=await _body(response, bytes_max),
            )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return lost(error)


def opened(
    session: aiohttp.ClientSession, outgoing: Outgoing, patience: Patience
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """The answer as soon as its head is there, for one who reads its body piece by piece; see `lost`."""
    connect_s = min(patience.connect_s, patience.total_s)
    return session.request(
        outgoing.method,
        URL(outgoing.url, encoded=True),
        data=outgoing.body,
        headers={**outgoing.headers, "Accept-Encoding": "identity", "User-Agent": "agentic-gateway"},
        timeout=aiohttp.ClientTimeout(
            total=patience.total_s,
            connect=connect_s,
            sock_connect=connect_s,
            sock_read=patience.idle_s,
            ceil_threshold=_NEVER_CEIL,
        ),
        allow_redirects=False,
        middlewares=() if outgoing.repeatable else (_Once().send,),
    )


class _Once:
    """Lets one request out.

    aiohttp sends a PUT or DELETE again by itself when its connection breaks, also a fresh one (measured; row 28).
    Every attempt passes its middlewares, and there is no public switch.
    """

    __slots__ = ("_gone",)

    def __init__(self) -> None:
        self._gone = False

    async def send(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if self._gone:
            raise SentBeforeError("aiohttp wanted to send it again")
        self._gone = True
        return await handler(request)


def lost(error: aiohttp.ClientError | TimeoutError | OSError) -> NoAnswer:
    """What an error of `opened`, or of reading its body, says about the request."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return NoAnswer(sent=False, detail=type(error).__name__, guarded=refused_by_guard(error))
    unsent = isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL)
    return NoAnswer(sent=not unsent, detail=type(error).__name__)


def media_type(response: aiohttp.ClientResponse) -> str:
    """What the service says its body is, in lower case and without parameters."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def compressed(response: aiohttp.ClientResponse) -> bool:
    """Whether the body is in a coding that nobody asked for (attack row 34)."""
    codings = response.headers.getall("Content-Encoding", [])
    return any(coding.strip().lower() not in _IDENTITY for coding in codings)


async def _body(response: aiohttp.ClientResponse, bytes_max: int) -> bytes | None:
    if compressed(response):
        response.close()
        return None
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > bytes_max:
            response.close()
            return None
    return bytes(body)
