"""Who invokes: the pure rules by which the edge finds, reads and judges the ID token of a request (study, 1.5, 2.2)."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from localcloud.front_door.refusals import (
    TOKEN_AUDIENCE,
    TOKEN_DUPLICATE,
    TOKEN_EXPIRED,
    TOKEN_IS_ACCESS_TOKEN,
    TOKEN_ISSUER,
    TOKEN_MALFORMED,
    TOKEN_SIGNATURE,
    Refusal,
    Refused,
)

AUTHORIZATION = b"authorization"
SERVERLESS_AUTHORIZATION = b"x-serverless-authorization"

_ISSUERS = frozenset({"https://accounts.google.com", "accounts.google.com"})
_LONGEST_TOKEN = 8192
_CLOCK_SKEW = 60  # seconds that a token may seem to come from the future


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A bearer token, and the header that carried it."""

    header: bytes
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unverified:
    """A token in the right form, of which nothing has been checked yet."""

    kid: str
    signed: bytes
    signature: bytes
    payload: bytes


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """The claims that the edge looks at; times in whole seconds since the epoch."""

    iss: str
    aud: str
    exp: int
    iat: int
    sub: str
    email: str = ""
    email_verified: bool = False


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    alg: str
    kid: str
    crit: tuple[str, ...] = ()


def credential(headers: Iterable[tuple[bytes, bytes]]) -> Credential | None:
    """Return the token that counts; None when there is none. X-Serverless-Authorization wins over Authorization.

    Raises Refused for a header that appears twice or does not hold a bearer token.
    """
    found: dict[bytes, list[bytes]] = {AUTHORIZATION: [], SERVERLESS_AUTHORIZATION: []}
    for name, value in headers:
        if name in found:
            found[name].append(value)
    name = SERVERLESS_AUTHORIZATION if found[SERVERLESS_AUTHORIZATION] else AUTHORIZATION
    values = found[name]
    if not values:
        return None
    if len(values) > 1:
        raise Refused(TOKEN_DUPLICATE)
    scheme, _, token = values[0].partition(b" ")
    if scheme.lower() != b"bearer" or not token or not token.isascii():
        raise Refused(TOKEN_MALFORMED)
    return Credential(header=name, token=token.decode("ascii"))


def parse(token: str) -> Unverified:
    """Take a token apart; raises Refused when it has not the form of an RS256 token."""
    if token.startswith("ya29."):
        raise Refused(TOKEN_IS_ACCESS_TOKEN)
    parts = token.split(".")
    if len(parts) != 3 or not all(parts) or len(token) > _LONGEST_TOKEN:
        raise Refused(TOKEN_MALFORMED)
    try:
        head = msgspec.json.decode(_from_base64url(parts[0]), type=_Head)
        payload, signature = _from_base64url(parts[1]), _from_base64url(parts[2])
    except (ValueError, msgspec.MsgspecError) as error:
        raise Refused(TOKEN_MALFORMED) from error
    if head.alg != "RS256" or head.crit:
        raise Refused(TOKEN_MALFORMED)
    return Unverified(
        kid=head.kid, signed=f"{parts[0]}.{parts[1]}".encode("ascii"), signature=signature, payload=payload
    )


def verify(token: Unverified, key: rsa.RSAPublicKey) -> Claims:
    """Return the claims of a token that this key has signed; raises Refused when it has not."""
    try:
        key.verify(token.signature, token.signed, padding.PKCS1v15(), hashes.SHA256())
        return msgspec.json.decode(token.payload, type=Claims)
    except InvalidSignature as error:
        raise Refused(TOKEN_SIGNATURE) from error
    except msgspec.MsgspecError as error:
        raise Refused(TOKEN_MALFORMED) from error


def objection(claims: Claims, audiences: frozenset[str], now: float) -> Refusal | None:
    """Return why verified claims do not count here and now; None when they do. The audience is compared exactly."""
    if claims.iss not in _ISSUERS:
        return TOKEN_ISSUER
    if claims.aud not in audiences:
        return TOKEN_AUDIENCE
    if claims.exp <= now or claims.iat > now + _CLOCK_SKEW:
        return TOKEN_EXPIRED
    return None


def _from_base64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
