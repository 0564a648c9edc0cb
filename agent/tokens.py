"""ID tokens from the metadata server: kept until shortly before their end, fetched one at a time.

What the server is asked and how it answers: study of Cloud Run, section 2.1. google-auth's own `fetch_id_token`
blocks and asks anew on every call, so the fetch is ours, on aiohttp.
"""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp

MARGIN_S: Final = 225.0
"""A token this close to its end is replaced; google-auth's own threshold."""

JITTER_S: Final = 60.0
"""Spread over which agents that started together renew, so that they do not ask together."""

ATTEMPTS: Final = 4
TIMEOUT_S: Final = 3.0
TOKEN_BYTES_MAX: Final = 16 * 1024
_RANDOM: Final = SystemRandom()
RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})


class TokenError(Exception):
    """No ID token can be had; says why and what to do."""


class TokenSource(Protocol):
    """Where ID tokens come from."""

    async def id_token(self, audience: str) -> str:
        """A token for this audience that is valid now; raises `TokenError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    token: str
    expires_unix_s: float
    renew_unix_s: float


class MetadataTokens:
    """ID tokens of the service account that this process runs as. Use it as an async context manager."""

    def __init__(
        self,
        host: str = "metadata.google.internal",
        *,
        now: Callable[[], float] = time.time,  # noqa: TID251 - the real clock, as an argument
        jitter: Callable[[], float] = _RANDOM.random,
    ) -> None:
        self._url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/identity"
        self._now = now
        self._jitter = jitter
        self._held: dict[str, _Held] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
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
        lock = self._locks.setdefault(audience, asyncio.Lock())
        held = self._held.get(audience)
        if held is not None and (self._fresh(held) or (lock.locked() and self._valid(held))):
            return held.token
        async with lock:
            held = self._held.get(audience)
            if held is None or not self._fresh(held):
                held = self._held[audience] = await self._renewed(audience, held)
            return held.token

    def forget(self, audience: str) -> None:
        """Drop a token that the gateway's edge did not accept."""
        self._held.pop(audience, None)

    def _fresh(self, held: _Held) -> bool:
        return self._now() < held.renew_unix_s

    def _valid(self, held: _Held) -> bool:
        return self._now() < held.expires_unix_s

    async def _renewed(self, audience: str, held: _Held | None) -> _Held:
        try:
            token = await self._fetched(audience)
            expires = _expiry(token)
        except TokenError:
            if held is not None and self._valid(held):
                return held
            raise
        if expires <= self._now():
            raise TokenError("the metadata server gave a token that has already ended; check this machine's clock")
        renew = expires - MARGIN_S - self._jitter() * JITTER_S
        return _Held(token=token, expires_unix_s=expires, renew_unix_s=renew)

    async def _fetched(self, audience: str) -> str:
        if self._session is None:
            raise RuntimeError("MetadataTokens is used outside of its context")
        fault = "no answer"
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(0.1 * 2**attempt * (0.5 + self._jitter() / 2))
            try:
                async with self._session.get(
                    self._url,
                    params={"audience": audience, "format": "full"},
                    headers={"Metadata-Flavor": "Google"},
                    allow_redirects=False,
                ) as reply:
                    body = await reply.content.read(TOKEN_BYTES_MAX)
                    if reply.status == 200:
                        return body.decode("ascii", "replace").strip()
                    fault = f"answer {reply.status}: {body[:200].decode('utf-8', 'replace')}"
                    if reply.status not in RETRIED:
                        break
            except (aiohttp.ClientError, TimeoutError) as error:
                fault = repr(error)
        raise TokenError(
            f"no ID token from the metadata server ({fault}). On Cloud Run, check that the service has a service "
            "account; elsewhere, set GCE_METADATA_HOST to a metadata server."
        )


def _expiry(token: str) -> float:
    """`exp` of a JWT in seconds of Unix time. The signature is the gateway's to check, not ours."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, binascii.Error, ValueError, KeyError, TypeError):
        raise TokenError("the metadata server's answer is no ID token") from None
