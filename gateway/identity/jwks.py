"""Google's signing keys, fetched when needed and kept while they are good."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import aiohttp

from gateway.identity.key_set import DOCUMENT_BYTES_MAX, KeySetRefusedError, VerifyingKey, read_key_set
from gateway.terms.clock import Clock

GOOGLE_KEYS_URL: Final = "https://www.googleapis.com/oauth2/v3/certs"
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=([0-9]{1,9})(?:$|[,\s])", re.IGNORECASE)
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JwksConfig:
    """Where the keys are and how often they may be asked for. All times in seconds."""

    url: str = GOOGLE_KEYS_URL
    timeout_s: float = 5.0
    """For one fetch, from the connection to the last byte."""
    age_s_min: int = 300
    age_s_max: int = 24 * 3600
    """Bounds of what `cache-control: max-age` may ask for; without it the lower one holds."""
    keep_s_max: int = 24 * 3600
    """How long a set may outlive its age while no new one can be had: after that a withdrawn key could still pass."""
    retry_s: int = 5
    """After a failed fetch, nobody asks again for so long."""
    unknown_kid_s: int = 30
    """An unknown key id makes us ask at most this often: a flood of made-up ids does not reach Google."""


class KeysUnavailableError(Exception):
    """No keys can be had now, so no signature can be checked."""

    def __init__(self, detail: str, *, retry_after_ms: int) -> None:
        super().__init__(detail)
        self.retry_after_ms = retry_after_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    """A set of keys and until when it may be used, in nanoseconds on the monotonic scale."""

    keys: Mapping[str, VerifyingKey]
    at_ns: int
    fresh_until_ns: int
    keep_until_ns: int


class Jwks:
    """The keys of one JWKS address. Use `async with`, or `close` at the end.

    At most one fetch runs at a time. While it runs, callers who can use the old set do so and do not wait.
    """

    def __init__(self, config: JwksConfig, clock: Clock, session: aiohttp.ClientSession | None = None) -> None:
        self._config = config
        self._clock = clock
        self._session = session
        self._session_is_ours = session is None
        self._fetching = asyncio.Lock()
        self._fetched: _Fetched | None = None
        self._failed_ns: int | None = None
        self._failure = "the keys were never asked for"
        self._asked_for_unknown_ns: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def warm(self) -> None:
        """Fetch before the first call needs it. Raises `KeysUnavailableError`: without keys, do not start."""
        async with self._fetching:
            await self._fetch()
        self._usable()

    async def key(self, kid: str) -> VerifyingKey | None:
        """The key of that id, or None when Google lists no such key.

        Raises `KeysUnavailableError` when that cannot be known: no set may be used, or the id is not in an old set and
        the new one did not come.
        """
        if self._stale() and not (self._fetching.locked() and self._kept()):
            async with self._fetching:
                if self._stale():
                    await self._fetch()
        found = self._usable().get(kid)
        if found is None and self._may_ask_for_unknown():
            async with self._fetching:
                if self._may_ask_for_unknown():
                    self._asked_for_unknown_ns = self._clock.monotonic_ns()
                    await self._fetch()
            found = self._usable().get(kid)
        if found is None and self._failed_ns is not None:
            raise self._unavailable()
        return found

    async def close(self) -> None:
        """Close the connections, if they are its own."""
        if self._session_is_ours and self._session is not None:
            await self._session.close()
            self._session = None

    def _stale(self) -> bool:
        """Whether a new set is due, and none failed to come just now."""
        now = self._clock.monotonic_ns()
        if self._fetched is not None and now < self._fetched.fresh_until_ns:
            return False
        return self._failed_ns is None or now - self._failed_ns >= self._config.retry_s * _NS

    def _kept(self) -> bool:
        return self._fetched is not None and self._clock.monotonic_ns() < self._fetched.keep_until_ns

    def _may_ask_for_unknown(self) -> bool:
        """Whether every earlier look at Google's keys is long enough ago, whatever became of it."""
        now, wait = self._clock.monotonic_ns(), self._config.unknown_kid_s * _NS
        looked = (self._asked_for_unknown_ns, self._failed_ns, None if self._fetched is None else self._fetched.at_ns)
        return all(at_ns is None or now - at_ns >= wait for at_ns in looked)

    def _usable(self) -> Mapping[str, VerifyingKey]:
        if self._fetched is None or not self._kept():
            raise self._unavailable()
        return self._fetched.keys

    def _unavailable(self) -> KeysUnavailableError:
        return KeysUnavailableError(self._failure, retry_after_ms=self._config.retry_s * 1000)

    async def _fetch(self) -> None:
        """Replace the set, or keep the old one and remember the failure."""
        try:
            keys, age_s = await self._download()
        except (aiohttp.ClientError, TimeoutError, OSError, KeySetRefusedError) as error:
            self._failed_ns = self._clock.monotonic_ns()
            self._failure = f"no keys from {self._config.url}: {type(error).__name__}: {error}"
            return
        now = self._clock.monotonic_ns()
        fresh_until = now + age_s * _NS
        self._fetched = _Fetched(
            keys=keys,
            at_ns=now,
            fresh_until_ns=fresh_until,
            keep_until_ns=fresh_until + self._config.keep_s_max * _NS,
        )
        self._failed_ns = None

    async def _download(self) -> tuple[Mapping[str, VerifyingKey], int]:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        async with self._session.get(
            self._config.url,
            allow_redirects=False,
            headers={"accept": "application/json", "accept-encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=self._config.timeout_s),
        ) as response:
            if response.status != 200:
                raise KeySetRefusedError(f"the answer has status {response.status}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise KeySetRefusedError("the answer is compressed, which was not asked for")
            return read_key_set(await _bounded(response)), self._age_s(response.headers.get("cache-control", ""))

    def _age_s(self, cache_control: str) -> int:
        match = _MAX_AGE.search(cache_control)
        asked = int(match.group(1)) if match else 0
        return min(max(asked, self._config.age_s_min), self._config.age_s_max)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > DOCUMENT_BYTES_MAX:
            raise KeySetRefusedError(f"the answer is longer than {DOCUMENT_BYTES_MAX} bytes")
    return bytes(body)
