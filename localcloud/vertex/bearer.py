"""Access tokens: who a bearer is, by asking the token's issuer or a function of the caller's."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import msgspec

from localcloud.vertex.errors import ApiError, error_info, unauthenticated

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
# A confirmed token is believed for this long without asking again; the real service caches for longer.
BELIEVE_SECONDS = 5.0
CACHE_SIZE = 1024
ASK_SECONDS = 5.0
MAX_TOKEN_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whom a token stands for; `scope` is a space-separated list, `expires` in seconds since the epoch."""

    email: str
    scope: str
    expires: float


TokenCheck = Callable[[str], Awaitable[Principal | None]]


class _Introspected(msgspec.Struct):
    """The issuer's answer, in either of two forms: `scope` and `expires`, or `scopes` and `expiry`."""

    active: bool = True
    email: str = ""
    scope: str = ""
    scopes: tuple[str, ...] = ()
    expires: float | str = 0.0
    expiry: float | str = 0.0

    def principal(self) -> Principal | None:
        """Whom the answer names, None for a token that is not active; ValueError where something is missing."""
        if not self.active:
            return None
        expires = float(self.expires or self.expiry)
        if not self.email or not expires:
            raise ValueError("the answer names no account or no expiry")
        return Principal(email=self.email, scope=self.scope or " ".join(self.scopes), expires=expires)


async def anyone(token: str) -> Principal | None:
    """Accept every token that is not empty, for tests that are not about identity."""
    return Principal(email="anyone@example.com", scope=CLOUD_PLATFORM, expires=time.time() + 3600) if token else None


class Introspection:
    """Asks the token's issuer: GET url?token=...

    A known token: 200 with {"email", "scope", "expires"} or {"active": true, "email", "scopes": [...], "expiry"}, times
    in seconds since the epoch. An unknown one: 404, or 200 with {"active": false}.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        """Take the issuer's URL and the session to ask with; the session stays the caller's to close."""
        self._url = url
        self._session = session
        self._believed: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    async def __call__(self, token: str) -> Principal | None:
        """Whom the token stands for, None if the issuer does not know it; ApiError 503 if it cannot be asked."""
        until, principal = self._believed.get(token, (0.0, None))
        if principal is not None and time.time() < until:
            return principal
        principal = await self._ask(token)
        if principal is not None:
            self._believed[token] = (min(time.time() + BELIEVE_SECONDS, principal.expires), principal)
            if len(self._believed) > CACHE_SIZE:
                self._believed.popitem(last=False)
        return principal

    async def _ask(self, token: str) -> Principal | None:
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        try:
            async with self._session.get(self._url, params={"token": token}, timeout=timeout) as answer:
                body = await answer.read()
                if answer.status == 404:
                    return None
                if answer.status != 200:
                    raise ApiError(503, f"The token issuer answered {answer.status}; the token cannot be checked.")
        except (aiohttp.ClientError, TimeoutError) as fault:
            raise ApiError(503, f"The token issuer cannot be asked: {type(fault).__name__}.") from None
        try:
            return msgspec.json.decode(body, type=_Introspected).principal()
        except (msgspec.DecodeError, ValueError):
            raise ApiError(503, "The token issuer's answer is not understood; the token cannot be checked.") from None


class Gate:
    """Decides who may call the API: a valid access token, the scope, and membership where members are listed."""

    def __init__(self, check: TokenCheck, members: frozenset[str]) -> None:
        """Take the check of tokens and the e-mail addresses that hold the role; none listed means all."""
        self._check = check
        self._members = members

    async def admit(self, authorization: list[str], method: str, resource: str) -> Principal:
        """The caller of `method` on `resource`, from the values of the Authorization header; ApiError 401 or 403."""
        if not authorization:
            raise unauthenticated("CREDENTIALS_MISSING", method)
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) != 1 or scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_BYTES:
            raise unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED", method)
        principal = await self._check(token.strip())
        if principal is None:
            raise unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED", method)
        if principal.expires <= time.time():
            raise unauthenticated("ACCESS_TOKEN_EXPIRED", method)
        if CLOUD_PLATFORM not in principal.scope.split():
            info = error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", {"method": method})
            raise ApiError(403, "Request had insufficient authentication scopes.", [info])
        if self._members and principal.email not in self._members:
            permission = "aiplatform.endpoints.predict"
            info = error_info("IAM_PERMISSION_DENIED", {"permission": permission, "resource": resource})
            told = f"Permission '{permission}' denied on resource '//aiplatform.googleapis.com/{resource}'"
            raise ApiError(403, f"{told} (or it may not exist).", [info])
        return principal
