"""The edge's decision, in Cloud Run's order: ingress, then the token, then the invoker binding."""

from collections.abc import Callable
from dataclasses import dataclass

from localcloud.front_door.config import ALL_AUTHENTICATED_USERS, ALL_USERS, Access
from localcloud.front_door.invoker import Claims, credential, objection, parse, verify
from localcloud.front_door.keys import KeysUnavailableError, PublishedKeys
from localcloud.front_door.refusals import (
    INGRESS_CLOSED,
    KEYS_UNAVAILABLE,
    NOT_INVOKER,
    TOKEN_MISSING,
    TOKEN_UNKNOWN_KEY,
    Headers,
    Refused,
)

_TOKENS_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A request that may pass: the caller's e-mail, and the header that was checked (both empty for allUsers)."""

    email: str = ""
    checked_header: bytes = b""


class Edge:
    """Decides who comes in. A signature is checked once; time, audience and binding at every request.

    `access` is asked at every request: a grant counts from when it is made.
    """

    def __init__(
        self, access: Callable[[], Access], keys: PublishedKeys, clock: Callable[[], float], *, closed: bool
    ) -> None:
        self._closed = closed
        self._access = access
        self._keys = keys
        self._clock = clock
        self._verified: dict[str, Claims] = {}

    async def admit(self, headers: Headers) -> Admission:
        """Return the admission of a request with these headers; raises Refused."""
        if self._closed:
            raise Refused(INGRESS_CLOSED)
        access = self._access()
        if ALL_USERS in access.members:
            return Admission()  # nobody is asked for a token, so none is checked and none is stripped
        shown = credential(headers)
        if shown is None:
            raise Refused(TOKEN_MISSING)
        claims = self._verified.get(shown.token) or await self._verify(shown.token)
        refusal = objection(claims, access.audiences, self._clock())
        if refusal is not None:
            raise Refused(refusal)
        known = claims.email_verified and claims.email in access.members
        if not known and ALL_AUTHENTICATED_USERS not in access.members:
            raise Refused(NOT_INVOKER, caller=claims.email)
        return Admission(email=claims.email, checked_header=shown.header)

    async def _verify(self, token: str) -> Claims:
        unverified = parse(token)
        try:
            key = await self._keys.find(unverified.kid)
        except KeysUnavailableError as error:
            raise Refused(KEYS_UNAVAILABLE) from error
        if key is None:
            raise Refused(TOKEN_UNKNOWN_KEY)
        claims = verify(unverified, key)
        if len(self._verified) >= _TOKENS_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = claims
        return claims
