"""A set of Google's public keys: the strict reading of a JWK Set (RFC 7517)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.identity.token import decoded_base64url
from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_object

DOCUMENT_BYTES_MAX: Final = 64 * 1024
"""Google's document has about 1 kB."""
KEYS_MAX: Final = 64
KEY_BITS_MIN: Final = 2048
"""RFC 7518, section 3.3."""
KEY_BITS_MAX: Final = 8192
"""Larger keys cost the verifier more than they give."""


class KeySetRefusedError(ValueError):
    """The document is no set of keys that can be relied upon; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyingKey:
    """One RSA key for RS256 signatures."""

    public: RSAPublicKey

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's RSASSA-PKCS1-v1_5 with SHA-256 over the message (RFC 7518, 3.3)."""
        try:
            self.public.verify(signature, message, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True


def read_key_set(document: bytes) -> Mapping[str, VerifyingKey]:
    """The keys for RS256 signatures by their ids, or raise `KeySetRefusedError`.

    Keys of another type, use or algorithm are passed over, as RFC 7517, section 5 wants it; two keys with one id, a
    weak or broken RSA key, or no key at all refuse the whole document.
    """
    try:
        members = strict_object(document, size_max=DOCUMENT_BYTES_MAX).get("keys")
    except JsonRefusedError as error:
        raise KeySetRefusedError(str(error)) from None
    if not isinstance(members, list) or len(members) > KEYS_MAX:
        raise KeySetRefusedError(f"expected an object with a list `keys` of at most {KEYS_MAX}")
    keys: dict[str, VerifyingKey] = {}
    for member in members:
        if not isinstance(member, dict):
            raise KeySetRefusedError("a key is not an object")
        if (member.get("kty"), member.get("use"), member.get("alg")) != ("RSA", "sig", "RS256"):
            continue
        kid = member.get("kid")
        if not isinstance(kid, str) or not kid or kid in keys:
            raise KeySetRefusedError("a key has no id, or the id of another one")
        keys[kid] = _rsa(member)
    if not keys:
        raise KeySetRefusedError("it holds no RSA key for RS256 signatures")
    return MappingProxyType(keys)


def _rsa(member: Mapping[str, JsonValue]) -> VerifyingKey:
    modulus, exponent = _number(member.get("n")), _number(member.get("e"))
    if not KEY_BITS_MIN <= modulus.bit_length() <= KEY_BITS_MAX:
        raise KeySetRefusedError(f"an RSA key has {modulus.bit_length()} bits, not {KEY_BITS_MIN} to {KEY_BITS_MAX}")
    if not 65537 <= exponent < 2**32:
        raise KeySetRefusedError("an RSA key has an unusual exponent")
    try:
        return VerifyingKey(public=RSAPublicNumbers(exponent, modulus).public_key())
    except ValueError as error:
        raise KeySetRefusedError(f"an RSA key is broken: {error}") from None


def _number(value: JsonValue) -> int:
    if not isinstance(value, str):
        raise KeySetRefusedError("an RSA key has no modulus or no exponent")
    try:
        return int.from_bytes(decoded_base64url(value), "big")
    except ValueError as error:
        raise KeySetRefusedError(f"an RSA key's number is {error}") from None
