"""The caller behind a Google-signed ID token, as Cloud Run delivers it: signed, or already checked by the edge."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from gateway.identity.bearer import presented
from gateway.identity.jwks import KeysUnavailableError
from gateway.identity.key_set import VerifyingKey
from gateway.identity.registry import Registry
from gateway.identity.token import Claims, Expected, Token, checked, parsed, unauthenticated
from gateway.terms.caller import Caller, Credentials, Operator
from gateway.terms.clock import Clock
from gateway.terms.verdict import Kind, Refusal, RefusedError


class Keys(Protocol):
    """Whose signatures count."""

    async def key(self, kid: str) -> VerifyingKey | None:
        """The key of that id, or None. Raises `KeysUnavailableError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleIdentityConfig:
    """What tokens must say, and whether an edge in front of this process checks them first."""

    expected: Expected
    edge_enforced: bool
    """True only when the operator declared it and the process runs on Cloud Run: then a token whose signature the edge
    removed is taken at its word. Anywhere else such a token is anybody's forgery."""
    tokens_remembered_max: int = 4_096
    """Verified tokens that are not verified again; the least recently used is forgotten first."""


class GoogleIdentity:
    """Implements `Identity` for service accounts of Google Cloud."""

    def __init__(self, config: GoogleIdentityConfig, keys: Keys, registry: Registry, clock: Clock) -> None:
        self._config = config
        self._keys = keys
        self._registry = registry
        self._clock = clock
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()

    def register(self, registry: Registry) -> None:
        """Use other registrations from the next call on, also for tokens that were verified before."""
        self._registry = registry

    async def identify(self, credentials: Credentials) -> Caller | Operator | Refusal:
        """The registered agent or operator behind a verified token; see `Identity`."""
        try:
            claims = await self._claims(presented(credentials))
        except RefusedError as refused:
            return refused.refusal
        except KeysUnavailableError as unavailable:
            return Refusal(
                kind=Kind.UNAVAILABLE,
                reason="identity.keys_unavailable",
                sentence="Try again later: the keys to check ID tokens with cannot be had now.",
                retry_after_ms=unavailable.retry_after_ms,
            )
        return self._registry.find(claims) or Refusal(
            kind=Kind.FORBIDDEN,
            reason="identity.unregistered",
            sentence="Ask the operator to register this service account as an agent of this gateway.",
        )

    async def _claims(self, text: str) -> Claims:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        remembered = self._verified.get(digest)
        if remembered is not None and self._now_unix_s() < remembered.expires_unix_s:
            self._verified.move_to_end(digest)
            return remembered
        self._verified.pop(digest, None)
        token = parsed(text)
        claims = checked(token.payload, self._config.expected, self._now_unix_s())
        await self._verify(token)
        self._remember(digest, claims)
        return claims

    async def _verify(self, token: Token) -> None:
        if token.signature is None:
            if not self._config.edge_enforced:
                raise unauthenticated(
                    "identity.signature_removed",
                    "Send the ID token with its signature: no edge is declared that checks it before this gateway.",
                )
            return
        key = await self._keys.key(token.kid)
        if key is None:
            raise unauthenticated(
                "identity.unknown_key", "Fetch a new ID token: Google does not list the key of this one."
            )
        if not key.signed(token.signed, token.signature):
            raise unauthenticated("identity.signature", "Send an ID token that Google signed: this signature is wrong.")

    def _remember(self, digest: bytes, claims: Claims) -> None:
        """Keep until it expires; in the last seconds of skew a token is verified at each call."""
        if self._now_unix_s() >= claims.expires_unix_s:
            return
        self._verified[digest] = claims
        if len(self._verified) > self._config.tokens_remembered_max:
            self._verified.popitem(last=False)

    def _now_unix_s(self) -> int:
        return self._clock.unix_us() // 1_000_000
