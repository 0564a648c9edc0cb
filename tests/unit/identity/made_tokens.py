"""Tokens and key sets made by hand, so that tests can make what no library would sign."""

import base64
import json
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

AUDIENCE = "https://gateway-1234.europe-west1.run.app"
SUB = "104029292853099978293"
EMAIL = "sa-agent@demo.iam.gserviceaccount.com"
NOW_S = 1_790_000_000
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
MARKER = "SIGNATURE_REMOVED_BY_GOOGLE"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(**changes: object) -> dict[str, object]:
    """What the metadata server puts into a token; a change to None leaves the claim out."""
    full = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "sub": SUB,
        "azp": SUB,
        "email": EMAIL,
        "email_verified": True,
        "iat": NOW_S - 60,
        "exp": NOW_S + 3540,
    } | changes
    return {name: value for name, value in full.items() if value is not None}


def header(**changes: object) -> dict[str, object]:
    full = {"alg": "RS256", "kid": "key-1", "typ": "JWT"} | changes
    return {name: value for name, value in full.items() if value is not None}


def signed(payload: Mapping[str, object] | str, head: Mapping[str, object] | str | None = None, key=KEY) -> str:
    """A token with a real signature over exactly these texts."""
    head = header() if head is None else head
    texts = [part if isinstance(part, str) else json.dumps(part) for part in (head, payload)]
    message = ".".join(b64(text.encode()) for text in texts)
    return message + "." + b64(key.sign(message.encode(), padding.PKCS1v15(), SHA256()))


def stripped(token: str) -> str:
    """What Cloud Run's edge makes of a token."""
    return token.rpartition(".")[0] + "." + MARKER


def jwk(key: rsa.RSAPrivateKey = KEY, **changes: object) -> dict[str, object]:
    numbers = key.public_key().public_numbers()
    full = {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": "key-1",
        "n": b64(numbers.n.to_bytes(-(-numbers.n.bit_length() // 8), "big")),
        "e": b64(numbers.e.to_bytes(3, "big")),
    } | changes
    return {name: value for name, value in full.items() if value is not None}


def jwk_set(*keys: Mapping[str, object]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


class SetClock:
    """A clock that shows what the test says."""

    def __init__(self, unix_s: int = NOW_S) -> None:
        self.now_us = unix_s * 1_000_000
        self.now_ns = 5_000_000_000

    def unix_us(self) -> int:
        return self.now_us

    def monotonic_ns(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_us += int(seconds * 1_000_000)
        self.now_ns += int(seconds * 1_000_000_000)
