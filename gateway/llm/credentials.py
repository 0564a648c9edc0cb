"""The gateway's own access tokens for Google's APIs, kept until shortly before their end; and keys of others."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Final, Protocol

import aiohttp
import msgspec

from gateway.llm.bodies import BodyTooLargeError, whole_body
from gateway.terms.clock import Clock
from gateway.terms.faults import Fault, UpstreamError

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
MARGIN_NS: Final = 225_000_000_000
"""google-auth's own threshold: a token this close to its end is replaced."""

METADATA_S: Final = 3.0
"""The metadata server is on the same machine."""

APPLICATION_DEFAULT_S: Final = 15.0
"""A file, a metadata server or Google's token endpoint over the internet."""

AGAIN_NS: Final = 5_000_000_000
"""After a fetch that gave nothing younger, the old token serves so long before the next: not every call waits."""

LIFE_S_MAX: Final = 86_400
"""Google gives an hour, at most twelve."""

BODY_BYTES_MAX: Final = 64 * 1024

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,8192}")
"""What may stand in a header."""


class Credentials(Protocol):
    """Where tokens come from."""

    async def token(self) -> str:
        """A valid access token; raises `UpstreamError(Fault.CREDENTIALS)`."""
        ...

    def refused(self, token: str) -> None:
        """The upstream did not accept this token: do not give it again without asking for it anew."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A token and the end of its life on the monotonic scale."""

    token: str
    expires_ns: int


class FixedKey:
    """A key that somebody gave the operator: it is what it is until the next start."""

    def __init__(self, key: str) -> None:
        self._key = key

    async def token(self) -> str:
        """See `Credentials`."""
        return self._key

    def refused(self, token: str) -> None:
        """See `Credentials`: there is no other."""


Fetch = Callable[[], Awaitable[AccessToken]]


class CachedToken:
    """Keeps a token until shortly before its end, fetches one at a time, and serves the old one while it is valid.

    The first who finds the token old fetches it in its own task; whoever comes meanwhile gets the old token, or waits
    for the same fetch and shares its result, also its failure. If the one who fetches is cancelled, another goes on.
    """

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._held: AccessToken | None = None
        self._fetching: asyncio.Future[UpstreamError | None] | None = None
        self._again_ns = 0

    async def token(self) -> str:
        """See `Credentials`."""
        while True:
            held = self._serving()
            if held is not None:
                return held.token
            if self._fetching is None:
                return (await self._renewed()).token
            failed = await asyncio.shield(self._fetching)
            if failed is not None:
                raise UpstreamError(failed.fault, failed.detail)

    def refused(self, token: str) -> None:
        """See `Credentials`."""
        if self._held is not None and self._held.token == token:
            self._held = None

    def _serving(self) -> AccessToken | None:
        """The token, if nothing has to be fetched for it: it is young, or it is valid and not this caller's turn."""
        if self._held is None:
            return None
        now_ns = self._clock.monotonic_ns()
        left_ns = self._held.expires_ns - now_ns
        waits = self._fetching is not None or now_ns < self._again_ns
        return self._held if left_ns > MARGIN_NS or (left_ns > 0 and waits) else None

    async def _renewed(self) -> AccessToken:
        """A new token, or the old one if none is to be had and it still serves; raises `UpstreamError`."""
        fetching = asyncio.get_running_loop().create_future()
        self._fetching = fetching
        failed: UpstreamError | None = None
        try:
            self._held = self._living(await self._fetch())
        except UpstreamError as error:
            failed = error
            if self._held is None or self._held.expires_ns <= self._clock.monotonic_ns():
                raise
        finally:
            self._fetching = None
            self._again_ns = self._clock.monotonic_ns() + AGAIN_NS
            fetching.set_result(failed)
        return self._held

    def _living(self, fetched: AccessToken) -> AccessToken:
        if fetched.expires_ns <= self._clock.monotonic_ns():
            raise UpstreamError(Fault.CREDENTIALS, "the token had ended before it arrived")
        return fetched


class _Told(msgspec.Struct):
    access_token: str
    expires_in: int


def metadata_fetch(session: aiohttp.ClientSession, host: str, clock: Clock) -> Fetch:
    """Fetch from the metadata server at `host` (`metadata.google.internal`, or what GCE_METADATA_HOST says)."""
    url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"

    async def fetch() -> AccessToken:
        asked_ns = clock.monotonic_ns()
        try:
            async with (
                asyncio.timeout(METADATA_S),
                session.get(
                    url, params={"scopes": SCOPE}, headers={"Metadata-Flavor": "Google"}, allow_redirects=False
                ) as reply,
            ):
                body = await whole_body(reply, BODY_BYTES_MAX)
                status, flavor = reply.status, reply.headers.get("Metadata-Flavor")
        except (aiohttp.ClientError, TimeoutError, BodyTooLargeError) as error:
            raise UpstreamError(Fault.CREDENTIALS, f"metadata server at {host}: {error!r}") from error
        if status != 200:
            raise UpstreamError(Fault.CREDENTIALS, f"metadata server at {host}: {status} {body[:200]!r}")
        if flavor != "Google":
            # Its own documentation asks for this check: anybody may answer to the name on a foreign network.
            raise UpstreamError(Fault.CREDENTIALS, f"what answers at {host} is no metadata server of Google's")
        return _told(body, asked_ns)

    return fetch


def application_default_fetch(clock: Clock) -> Fetch:
    """Fetch with google-auth's application default credentials: for a gateway outside Google Cloud.

    google-auth is imported at the first fetch and refreshes in a thread: it blocks, and importing it with its
    transport costs 150 ms (study of Cloud Run, section 3.7). A thread that hangs is left behind after its time.
    """

    async def fetch() -> AccessToken:
        try:
            async with asyncio.timeout(APPLICATION_DEFAULT_S):
                return await asyncio.to_thread(_application_default, clock)
        except TimeoutError as error:
            told = f"application default credentials: nothing within {APPLICATION_DEFAULT_S:g} s"
            raise UpstreamError(Fault.CREDENTIALS, told) from error

    return fetch


def _application_default(clock: Clock) -> AccessToken:
    import google.auth  # noqa: PLC0415 - lazy, see above
    import google.auth.exceptions  # noqa: PLC0415 - lazy, see above
    from google.auth.transport.requests import Request  # noqa: PLC0415 - lazy, see above

    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
        asked_us, asked_ns = clock.unix_us(), clock.monotonic_ns()
        credentials.refresh(Request())  # type: ignore[no-untyped-call] # google-auth has no types here
    except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
        raise UpstreamError(Fault.CREDENTIALS, f"application default credentials: {error}") from error
    if credentials.expiry is None:
        raise UpstreamError(Fault.CREDENTIALS, "application default credentials gave a token without an end")
    # google-auth's expiry is naive UTC.
    left_us = int(credentials.expiry.replace(tzinfo=UTC).timestamp() * 1e6) - asked_us
    return _checked(credentials.token, asked_ns, left_us * 1000)


def _told(body: bytes, asked_ns: int) -> AccessToken:
    try:
        told = msgspec.json.decode(body, type=_Told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The body may hold half a token: it does not go into the log.
        raise UpstreamError(Fault.CREDENTIALS, f"metadata server: not a token: {type(error).__name__}") from None
    return _checked(told.access_token, asked_ns, told.expires_in * 1_000_000_000)


def _checked(token: object, asked_ns: int, left_ns: int) -> AccessToken:
    """A token that can be sent and lives, or `UpstreamError`."""
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise UpstreamError(Fault.CREDENTIALS, "the token is empty, too long or no header value")
    if not 0 < left_ns <= LIFE_S_MAX * 1_000_000_000:
        raise UpstreamError(Fault.CREDENTIALS, f"the token's life of {left_ns // 1_000_000_000} s makes no sense")
    return AccessToken(token=token, expires_ns=asked_ns + left_ns)
