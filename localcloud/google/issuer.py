"""The token issuer: RSA keys, Google-signed ID tokens, opaque access tokens, and the memory of what was issued."""

import datetime as dt
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self, TypedDict

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from localcloud.google.identities import ServiceAccount
from localcloud.google.jws import claims_bytes, signing_input, to_base64url

GOOGLE = "https://accounts.google.com"
TOKEN_SECONDS = 3600  # an ID token and an access token both live one hour (study, section 2.1)
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"

_KEYS_KEPT = 3
_ACCESS_TOKENS_KEPT = 4096

# Seconds since the epoch. The tests bring their own.
Clock = Callable[[], float]


class Jwk(TypedDict):
    """One public key as RFC 7517 writes it."""

    alg: str
    e: str
    kid: str
    kty: str
    n: str
    use: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One RSA key pair and the name under which its public half is published."""

    kid: str
    private: rsa.RSAPrivateKey

    @classmethod
    def generate(cls) -> Self:
        """Make a key pair of 2048 bits; its name is the digest of its public half."""
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return cls(kid=hashlib.sha256(_public_der(private)).hexdigest()[:40], private=private)

    def sign(self, header: Mapping[str, object], payload: bytes) -> str:
        """Return the token of this header and payload, signed with RS256 whatever the header says."""
        signed = signing_input(header, payload)
        signature = self.private.sign(signed.encode("ascii"), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{to_base64url(signature)}"

    def jwk(self) -> Jwk:
        """Return the public half as a member of a JWK set."""
        numbers = self.private.public_key().public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        exponent = numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big")
        return Jwk(
            alg="RS256",
            e=to_base64url(exponent),
            kid=self.kid,
            kty="RSA",
            n=to_base64url(modulus),
            use="sig",
        )

    def public_pem(self) -> bytes:
        """Return the public half in PEM."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def certificate(self, now: float) -> str:
        """Return a self-signed certificate around the public half, in PEM, good for two weeks from `now`."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.system.gserviceaccount.com")])
        today = dt.datetime.fromtimestamp(now, dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private.public_key())
            .serial_number(int(self.kid[:30], 16))
            .not_valid_before(today - dt.timedelta(days=1))
            .not_valid_after(today + dt.timedelta(days=14))
        )
        certificate = builder.sign(self.private, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """An opaque access token, and what the issuer knows about it; `expiry` in seconds since the epoch."""

    token: str
    email: str
    scopes: tuple[str, ...]
    expiry: int


class Issuer:
    """The one who signs: construct it with a clock; everything that it has made can be verified or introspected."""

    def __init__(self, *, clock: Clock = time.time) -> None:
        self._clock = clock
        self._keys: tuple[SigningKey, ...] = (SigningKey.generate(),)
        self._access: dict[str, AccessToken] = {}

    @property
    def now(self) -> int:
        """The issuer's time, in whole seconds since the epoch."""
        return int(self._clock())

    @property
    def key(self) -> SigningKey:
        """The key that signs at present."""
        return self._keys[0]

    def rotate(self, *, keep_old: bool = True) -> SigningKey:
        """Sign with a new key from now on; the old ones stay published (at most three in all) unless told otherwise."""
        kept = self._keys[: _KEYS_KEPT - 1] if keep_old else ()
        self._keys = (SigningKey.generate(), *kept)
        return self.key

    def jwks(self) -> dict[str, list[Jwk]]:
        """Return the published keys as a JWK set (the body of /oauth2/v3/certs)."""
        return {"keys": [key.jwk() for key in self._keys]}

    def certificates(self) -> dict[str, str]:
        """Return the published keys as kid -> certificate in PEM (the body of /oauth2/v1/certs)."""
        return {key.kid: key.certificate(self.now) for key in self._keys}

    def claims(self, account: ServiceAccount, audience: str, *, issued_at: int | None = None) -> dict[str, object]:
        """Return the claims that Google puts into a service account's ID token; times in seconds since the epoch."""
        start = self.now if issued_at is None else issued_at
        return {
            "aud": audience,
            "azp": account.unique_id,
            "email": account.email,
            "email_verified": True,
            "exp": start + TOKEN_SECONDS,
            "iat": start,
            "iss": GOOGLE,
            "sub": account.unique_id,
        }

    def id_token(self, account: ServiceAccount, audience: str, *, issued_at: int | None = None) -> str:
        """Return an ID token of this account for this audience, one hour from `issued_at` (default: now)."""
        return self.sign(self.claims(account, audience, issued_at=issued_at))

    def sign(self, claims: Mapping[str, object]) -> str:
        """Sign any claims with the present key: also such as Google would never issue, for tests."""
        return self.sign_payload(claims_bytes(claims))

    def sign_payload(self, payload: bytes) -> str:
        """Sign a payload as it stands, for example one with a claim that appears twice."""
        return self.key.sign({"alg": "RS256", "kid": self.key.kid, "typ": "JWT"}, payload)

    def access_token(
        self, account: ServiceAccount, scopes: Iterable[str] = (CLOUD_PLATFORM,), *, issued_at: int | None = None
    ) -> AccessToken:
        """Issue an opaque access token with these scopes, one hour from `issued_at` (default: now)."""
        start = self.now if issued_at is None else issued_at
        token = AccessToken(
            token=f"ya29.c.{secrets.token_urlsafe(90)}",
            email=account.email,
            scopes=tuple(scopes),
            expiry=start + TOKEN_SECONDS,
        )
        while len(self._access) >= _ACCESS_TOKENS_KEPT:
            del self._access[next(iter(self._access))]  # the oldest: dictionaries keep their order
        self._access[token.token] = token
        return token

    def introspect(self, token: str) -> AccessToken | None:
        """Return what is known about a live access token; None when it was never issued here or has expired."""
        known = self._access.get(token)
        if known is None or known.expiry <= self.now:
            return None
        return known

    def describe(self, token: str) -> str:
        """Return the answer of /admin/introspect as JSON: `active`, and for a live token email, scopes and expiry."""
        known = self.introspect(token)
        if known is None:
            return json.dumps({"active": False})
        facts = {"active": True, "email": known.email, "scopes": list(known.scopes), "expiry": known.expiry}
        return json.dumps(facts)


def _public_der(private: rsa.RSAPrivateKey) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
