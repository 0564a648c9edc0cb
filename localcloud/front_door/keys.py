"""The issuer's published keys as the edge holds them: fetched when needed, kept as long as the issuer says."""

import asyncio
import base64
import re
from collections import deque
from collections.abc import Callable

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

_DEFAULT_MAX_AGE = 300
_FETCH_SECONDS = 5.0
_FETCHES_PER_MINUTE = 10  # unknown key names are free to invent: they may not make the door hammer the issuer


class KeysUnavailableError(Exception):
    """The issuer's keys could not be fetched, and none that are held fit."""


class _Jwk(msgspec.Struct, frozen=True):
    kid: str
    kty: str
    n: str
    e: str


class _JwkSet(msgspec.Struct, frozen=True):
    keys: list[_Jwk]


class PublishedKeys:
    """The keys behind one JWK set URL. The clock is in seconds since the epoch."""

    def __init__(self, session: aiohttp.ClientSession, url: str, clock: Callable[[], float]) -> None:
        self._session = session
        self._url = url
        self._clock = clock
        self._keys: dict[str, rsa.RSAPublicKey] = {}
        self._fresh_until = 0.0
        self._fetches: deque[float] = deque(maxlen=_FETCHES_PER_MINUTE)
        self._fetched = 0
        self._one_at_a_time = asyncio.Lock()

    async def find(self, kid: str) -> rsa.RSAPublicKey | None:
        """Return the key of this name; None when the issuer publishes none such.

        Raises KeysUnavailableError when the issuer cannot be asked; a key that is already held is then still used.
        """
        if kid in self._keys and self._clock() < self._fresh_until:
            return self._keys[kid]
        seen = self._fetched
        async with self._one_at_a_time:
            if seen == self._fetched and self._may_fetch():  # else somebody's fetch has ended meanwhile
                await self._fetch(needed=kid not in self._keys)
        if not self._keys:
            raise KeysUnavailableError(f"No keys from {self._url} are known, and they were asked for often enough.")
        return self._keys.get(kid)

    def _may_fetch(self) -> bool:
        full = len(self._fetches) == _FETCHES_PER_MINUTE
        return not full or self._clock() - self._fetches[0] >= 60

    async def _fetch(self, *, needed: bool) -> None:
        """Replace the keys by what is published now; on failure keep the last good set, if that is enough."""
        self._fetches.append(self._clock())
        try:
            async with self._session.get(self._url, timeout=aiohttp.ClientTimeout(total=_FETCH_SECONDS)) as reply:
                reply.raise_for_status()
                published = msgspec.json.decode(await reply.read(), type=_JwkSet)
                self._keys = {jwk.kid: _public_key(jwk) for jwk in published.keys if jwk.kty == "RSA"}
                self._fresh_until = self._clock() + _max_age(reply.headers.get("Cache-Control", ""))
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            if needed:
                raise KeysUnavailableError(f"The keys at {self._url} could not be fetched: {error}") from error
        finally:
            self._fetched += 1


def _public_key(jwk: _Jwk) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(e=_number(jwk.e), n=_number(jwk.n)).public_key()


def _number(text: str) -> int:
    return int.from_bytes(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True), "big")


def _max_age(cache_control: str) -> int:
    found = re.search(r"max-age=(\d{1,9})", cache_control)
    return int(found[1]) if found else _DEFAULT_MAX_AGE
