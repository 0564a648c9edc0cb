"""Tokens that must be refused, made from real ones: for tests, and for the demo's hijacked agent.

None of this has an HTTP face: whoever only reaches the local Google by network gets honest tokens.
"""

import hashlib
import hmac
import json

from localcloud.google.identities import ServiceAccount
from localcloud.google.issuer import TOKEN_SECONDS, Issuer, SigningKey
from localcloud.google.jws import (
    SIGNATURE_REMOVED,
    claims_bytes,
    claims_of,
    header_of,
    signing_input,
    to_base64url,
)


def expired(issuer: Issuer, account: ServiceAccount, audience: str, *, seconds_ago: int = 3600) -> str:
    """Return a well-signed token whose hour ended `seconds_ago`."""
    return issuer.id_token(account, audience, issued_at=issuer.now - TOKEN_SECONDS - seconds_ago)


def not_yet_valid(issuer: Issuer, account: ServiceAccount, audience: str, *, seconds_ahead: int = 3600) -> str:
    """Return a well-signed token that was issued in the future."""
    return issuer.id_token(account, audience, issued_at=issuer.now + seconds_ahead)


def altered(token: str, **claims: object) -> str:
    """Return the token with claims replaced (None removes one) and its old signature kept."""
    changed = {name: value for name, value in (claims_of(token) | claims).items() if value is not None}
    return f"{signing_input(header_of(token), claims_bytes(changed))}.{token.rsplit('.', 1)[1]}"


def unsigned(token: str) -> str:
    """Return the token with `alg` none and an empty signature (RFC 7519 section 6)."""
    header = header_of(token) | {"alg": "none"}
    return f"{signing_input(header, claims_bytes(claims_of(token)))}."


def signed_with_public_key(issuer: Issuer, token: str) -> str:
    """Return the token with HS256, the public key as the secret: what a verifier that trusts `alg` accepts."""
    signed = signing_input(header_of(token) | {"alg": "HS256"}, claims_bytes(claims_of(token)))
    digest = hmac.new(issuer.key.public_pem(), signed.encode("ascii"), hashlib.sha256).digest()
    return f"{signed}.{to_base64url(digest)}"


def signed_by_stranger(token: str, *, embed_key: bool = False) -> str:
    """Return the token signed by a key that nobody published, under the real `kid`.

    With `embed_key` the header carries the stranger's public key as `jwk` (RFC 7515 section 4.1.3).
    """
    stranger = SigningKey.generate()
    header = header_of(token)
    if embed_key:
        header["jwk"] = stranger.jwk()
    return stranger.sign(header, claims_bytes(claims_of(token)))


def claimed_twice(issuer: Issuer, token: str, name: str, second: str) -> str:
    """Return a well-signed token in which the claim `name` appears twice, the second time with `second`."""
    claims = claims_bytes(claims_of(token)).decode()
    return issuer.sign_payload(f"{claims[:-1]},{json.dumps(name)}:{json.dumps(second)}}}".encode())


def stripped(token: str) -> str:
    """Return the token in the form that a container gets behind Cloud Run's edge."""
    return f"{token.rsplit('.', 1)[0]}.{SIGNATURE_REMOVED}"


def made_up(issuer: Issuer, account: ServiceAccount, audience: str) -> str:
    """Return a token in the edge's stripped form that no edge has ever seen: anybody can write one."""
    header = {"alg": "RS256", "kid": issuer.key.kid, "typ": "JWT"}
    return f"{signing_input(header, claims_bytes(issuer.claims(account, audience)))}.{SIGNATURE_REMOVED}"
