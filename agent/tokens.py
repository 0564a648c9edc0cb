"""ID tokens from the metadata server: kept until shortly before their end, fetched one at a time.

What the server is asked and how it answers: study of Cloud Run, section 2.1. google-auth's own `fetch_id_token`
blocks and asks anew on every call, so the fetch is ours, on aiohttp.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import SystemRandom
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable
from urllib.parse import quote

import aiohttp
from yarl import URL

from agent.id_token import expiry_unix_s
from agent.single_flight import SingleFlight

MARGIN_S: Final = 225.0
"""A token this close to its end is replaced; google-auth's own threshold."""

JITTER_S: Final = 60.0
"""Spread over which agents that started together renew, so that they do not ask together."""

HOLD_OFF_S: Final = 10.0
"""After a renewal that failed, or that gave a token with little life left, the server is left alone for so long."""

ATTEMPTS: Final = 4
FIRST_PAUSE_S: Final = 0.2
"""Doubled for every further attempt; half of it is chance."""
TIMEOUT_S: Final = 3.0
"""For one attempt; google-auth's own limit."""
TOKEN_BYTES_MAX: Final = 8 * 1024
"""Cloud Run's edge takes no longer ones."""
RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_RANDOM: Final = SystemRandom()


class TokenError(Exception):
    """No ID token can be had; says why and what to do."""


class TokenSource(Protocol):
    """Where ID tokens come from."""

    async def id_token(self, audience: str) -> str:
        """A token for this audience that is valid now; raises `TokenError`."""
        ...


@runtime_checkable
class Forgetful(Protocol):
    """A token source that can be told that a token was not accepted."""

    def forget(self, audience: str, token: str) -> None:
        """Do not give this token again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    token: str
    expires_unix_s: float
    renew_unix_s: float


@dataclass(slots=True, kw_only=True)
class _Audience:
    held: _Held | None = None
    flight: SingleFlight[str] = field(default_factory=SingleFlight)


class MetadataTokens:
    """ID tokens of the service account that this process runs as. Use it as an async context manager.

    `now` is Unix time in seconds, `jitter` a number from 0 to below 1, `sleep` waits for seconds.
    """

    def __init__(
        self,
        host: str = "metadata.google.internal",
        *,
        now: Callable[[], float] = time.time,  # noqa: TID251 - the real clock, as an argument
        jitter: Callable[[], float] = _RANDOM.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`host` is HOST or HOST:PORT, as in GCE_METADATA_HOST; raises `ValueError` for anything else."""
        if not HOST.fullmatch(host):
            raise ValueError(f"the metadata server is named by HOST or HOST:PORT, not by {host!r}")
        self._host = host
        self._now = now
        self._jitter = jitter
        self._sleep = sleep
        self._audiences: dict[str, _Audience] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def id_token(self, audience: str) -> str:
        """See `TokenSource`. While a new one is being fetched, others get the old one if it is still valid."""
        place = self._audiences.setdefault(audience, _Audience())
        held = place.held
        if held is not None:
            now = self._now()
            if now < held.renew_unix_s or (place.flight.under_way and now < held.expires_unix_s):
                return held.token
        return await place.flight.join(lambda: self._renewed(audience, place))

    def forget(self, audience: str, token: str) -> None:
        """Drop a token that the gateway's edge did not accept; a newer one that is held already stays."""
        place = self._audiences.get(audience)
        if place is not None and place.held is not None and place.held.token == token:
            place.held = None

    async def _renewed(self, audience: str, place: _Audience) -> str:
        """A new token, or the old one if there is none to be had and the old one is still valid."""
        old = place.held if place.held is not None and self._now() < place.held.expires_unix_s else None
        try:
            # With a valid token in hand nobody waits for the server to recover.
            place.held = self._judged(await self._fetched(audience, attempts=1 if old else ATTEMPTS), audience)
        except TokenError as error:
            return self._kept(place, old, error)
        return place.held.token

    def _judged(self, token: str, audience: str) -> _Held:
        try:
            expires = expiry_unix_s(token, audience)
        except ValueError as error:
            raise TokenError(f"the metadata server {self._host} gave no usable ID token: {error}") from None
        now = self._now()
        if expires <= now:
            raise TokenError(
                f"the metadata server {self._host} gave a token that has already ended; check this machine's clock"
            )
        # The server may hand out a token that it has had for a while, with less life left than the margin.
        renew = max(expires - MARGIN_S - self._jitter() * JITTER_S, min(now + HOLD_OFF_S, expires))
        return _Held(token=token, expires_unix_s=expires, renew_unix_s=renew)

    def _kept(self, place: _Audience, old: _Held | None, error: TokenError) -> str:
        if old is None or place.held is not old:
            raise error
        place.held = _Held(token=old.token, expires_unix_s=old.expires_unix_s, renew_unix_s=self._now() + HOLD_OFF_S)
        return old.token

    async def _fetched(self, audience: str, *, attempts: int) -> str:
        fault = ""
        for attempt in range(attempts):
            if attempt:
                await self._sleep(FIRST_PAUSE_S * 2.0 ** (attempt - 1) * (0.5 + self._jitter() / 2))
            try:
                status, body, genuine = await self._asked(audience)
            except (aiohttp.ClientError, TimeoutError) as error:
                fault = f"it cannot be reached ({str(error) or 'no answer in time'}); is GCE_METADATA_HOST right?"
                continue
            if status == 200:
                return body
            fault = _fault(status, body, genuine=genuine)
            if status not in RETRIED:
                break
        raise TokenError(f"no ID token from the metadata server {self._host}: {fault}")

    async def _asked(self, audience: str) -> tuple[int, str, bool]:
        """Status and body of one answer, and whether it says that it comes from a metadata server."""
        if self._session is None:
            raise RuntimeError("MetadataTokens is used outside of its context")
        path = "computeMetadata/v1/instance/service-accounts/default/identity"
        url = URL(f"http://{self._host}/{path}?audience={quote(audience, safe='')}&format=full", encoded=True)
        async with self._session.get(url, headers={"Metadata-Flavor": "Google"}, allow_redirects=False) as reply:
            body = bytearray()
            async for piece in reply.content.iter_any():
                body += piece
                if len(body) > TOKEN_BYTES_MAX:
                    break
            genuine = reply.headers.get("Metadata-Flavor") == "Google"
            return reply.status, body.decode("utf-8", "replace").strip(), genuine


def _fault(status: int, body: str, *, genuine: bool) -> str:
    if not genuine:
        return f"what answered there is no metadata server (HTTP {status}); check GCE_METADATA_HOST"
    if status == 404:
        return "there is no service account here; give the service one (on Cloud Run: --service-account)"
    said = " ".join(body.split())[:200]
    return f"it answered HTTP {status}: {said}"
