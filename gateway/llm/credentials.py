"""The gateway's own access tokens for Google's APIs: fetched ahead of need, one fetch at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Final, Protocol

import aiohttp
import msgspec

from gateway.terms.clock import Clock
from gateway.terms.faults import Fault, UpstreamError

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
MARGIN_S: Final = 225
"""google-auth's own threshold: a token this close to its end is replaced."""
TIMEOUT_S: Final = 3.0


class Credentials(Protocol):
    """Where tokens come from."""

    async def token(self) -> str:
        """A valid access token; raises `UpstreamError(Fault.CREDENTIALS)`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A token and the end of its life on the monotonic scale."""

    token: str
    expires_ns: int


Fetch = Callable[[], Awaitable[AccessToken]]


class CachedToken:
    """Keeps a token until shortly before its end, fetches one at a time, and serves the old one while it is valid."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._held: AccessToken | None = None
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """See `Credentials`."""
        held = self._held
        if held is not None and self._left_s(held) > MARGIN_S:
            return held.token
        if held is not None and self._left_s(held) > 0 and self._lock.locked():
            return held.token  # somebody is fetching already
        async with self._lock:
            held = self._held
            if held is None or self._left_s(held) <= MARGIN_S:
                held = await self._renewed(held)
                self._held = held
            return held.token

    async def _renewed(self, held: AccessToken | None) -> AccessToken:
        try:
            return await self._fetch()
        except UpstreamError:
            if held is not None and self._left_s(held) > 0:
                return held
            raise

    def _left_s(self, held: AccessToken) -> float:
        return (held.expires_ns - self._clock.monotonic_ns()) / 1e9


class _Told(msgspec.Struct):
    access_token: str
    expires_in: int


def metadata_fetch(session: aiohttp.ClientSession, host: str, clock: Clock) -> Fetch:
    """Fetch from the metadata server at `host` (`metadata.google.internal`, or what GCE_METADATA_HOST says)."""
    url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"

    async def fetch() -> AccessToken:
        asked_ns = clock.monotonic_ns()
        try:
            async with session.get(
                url,
                params={"scopes": SCOPE},
                headers={"Metadata-Flavor": "Google"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                allow_redirects=False,
            ) as reply:
                body = await reply.content.read(64 * 1024)
                if reply.status != 200:
                    raise UpstreamError(Fault.CREDENTIALS, f"metadata server: {reply.status} {body[:200]!r}")
                told = msgspec.json.decode(body, type=_Told)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            raise UpstreamError(Fault.CREDENTIALS, f"metadata server: {error!r}") from error
        return AccessToken(token=told.access_token, expires_ns=asked_ns + told.expires_in * 1_000_000_000)

    return fetch


def application_default_fetch(clock: Clock) -> Fetch:
    """Fetch with google-auth's application default credentials: for a gateway outside Google Cloud.

    google-auth is imported at the first fetch and refreshes in a thread: it blocks, and importing it with its
    transport costs 150 ms (study of Cloud Run, section 3.7).
    """

    async def fetch() -> AccessToken:
        return await asyncio.to_thread(_application_default, clock)

    return fetch


def _application_default(clock: Clock) -> AccessToken:
    import google.auth  # noqa: PLC0415 - lazy, see above
    import google.auth.exceptions  # noqa: PLC0415
    from google.auth.transport.requests import Request  # noqa: PLC0415

    asked_us, asked_ns = clock.unix_us(), clock.monotonic_ns()
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
        credentials.refresh(Request())  # type: ignore[no-untyped-call] # google-auth has no types here
    except google.auth.exceptions.GoogleAuthError as error:
        raise UpstreamError(Fault.CREDENTIALS, f"application default credentials: {error}") from error
    if not credentials.token or credentials.expiry is None:
        raise UpstreamError(Fault.CREDENTIALS, "application default credentials gave no expiring token")
    # google-auth's expiry is naive UTC.
    left_us = int(credentials.expiry.replace(tzinfo=UTC).timestamp() * 1e6) - asked_us
    return AccessToken(token=credentials.token, expires_ns=asked_ns + left_us * 1000)
