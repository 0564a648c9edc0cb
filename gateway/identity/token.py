"""A Google ID token: its strict reading, and what it must say whatever its signature is worth.

The specification is section 2.3 of the Cloud Run study. The usual libraries accept a list of audiences, `exp` as a
string, the last of two equal claims and any `typ` (governance study, attack rows 4 to 9); nothing of that passes here.
"""

import base64
import re
from dataclasses import dataclass
from typing import Final

from gateway.terms.ids import Principal
from gateway.terms.limits import TOKEN_BYTES_MAX
from gateway.terms.strict_json import JsonRefusedError, JsonValue, strict_object
from gateway.terms.verdict import Kind, Refusal, RefusedError

REMOVED_SIGNATURE: Final = "SIGNATURE_REMOVED_BY_GOOGLE"
"""Stands in the signature's place when Cloud Run's edge has checked the token and made it useless to anyone else."""

ISSUERS: Final = frozenset({"https://accounts.google.com", "accounts.google.com"})
SKEW_S_MAX: Final = 60
"""How far the clocks of Google and this machine may be apart."""
LIFETIME_S_MAX: Final = 24 * 3600
"""Google's tokens live for an hour; one of more than a day is none of Google's."""

SUBJECT: Final = re.compile(r"[0-9]{1,255}")
EMAIL: Final = re.compile(r"[\x21-\x3f\x41-\x7e]{1,64}@[a-zA-Z0-9.-]{1,255}")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_KID: Final = re.compile(r"[\x20-\x7e]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What every token must say."""

    audience: str
    """Exactly this: the service's URL or its custom audience."""
    skew_s: int = SKEW_S_MAX
    """In seconds, 0 to 60."""

    def __post_init__(self) -> None:
        if not self.audience:
            raise ValueError("configure the audience: without one, a token for any service would pass")
        if not 0 <= self.skew_s <= SKEW_S_MAX:
            raise ValueError(f"configure a clock skew of 0 to {SKEW_S_MAX} seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as read: its form is right, nothing of it is proven."""

    signed: bytes
    """What the signature is over."""
    signature: bytes | None
    """None when the edge removed it."""
    kid: str
    """Only ever a key into our own set of keys."""
    payload: dict[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token says that matters."""

    subject: Principal
    email: str
    expires_unix_s: int


def unauthenticated(reason: str, sentence: str) -> RefusedError:
    """A refusal for which the caller must send another token. The sentence never repeats anything of the token."""
    return RefusedError(Refusal(kind=Kind.UNAUTHENTICATED, reason=reason, sentence=sentence))


def malformed(detail: str) -> RefusedError:
    """The refusal of what has not the form of an ID token."""
    return unauthenticated("identity.malformed", f"Send a Google-signed ID token, no other kind of token: {detail}.")


def parsed(text: str) -> Token:
    """Read a token in compact form (RFC 7515, section 7.1) or raise `RefusedError`.

    Refused: anything but three parts of unpadded canonical base64url, duplicate members, `alg` other than RS256, `typ`
    other than JWT, `crit`, an empty signature. Keys and addresses in the header (`jwk`, `jku`, `x5u`, `x5c`) are not
    looked at.
    """
    if len(text) > TOKEN_BYTES_MAX:
        raise unauthenticated("identity.too_long", f"Send an ID token of at most {TOKEN_BYTES_MAX} bytes.")
    parts = text.split(".")
    if len(parts) != 3:
        raise malformed("it has three parts with dots between them")
    header, payload, signature = parts
    kid = _checked_header(_object(header))
    if not signature:
        raise unauthenticated("identity.signature", "Send the token with its signature; this one has none.")
    return Token(
        signed=f"{header}.{payload}".encode("ascii"),
        signature=None if signature == REMOVED_SIGNATURE else _bytes(signature),
        kid=kid,
        payload=_object(payload),
    )


def checked(payload: dict[str, JsonValue], expected: Expected, now_unix_s: int) -> Claims:
    """What a payload says, if it says all that it must now; else raise `RefusedError`."""
    if _text(payload, "iss") not in ISSUERS:
        raise unauthenticated("identity.issuer", "Send an ID token that Google issued (`iss`).")
    if _audience(payload) != expected.audience:
        raise unauthenticated(
            "identity.audience", "Ask for an ID token whose audience is exactly the one that this gateway is set to."
        )
    expires = _checked_times(payload, expected.skew_s, now_unix_s)
    if payload.get("email_verified") is not True:
        raise unauthenticated(
            "identity.email_unverified",
            "Send an ID token with a verified e-mail address; impersonation must ask for it (`includeEmail`).",
        )
    subject, email = _text(payload, "sub"), _text(payload, "email")
    if SUBJECT.fullmatch(subject) is None or EMAIL.fullmatch(email) is None:
        raise _claims("`sub` is a number and `email` an address")
    _check_party(payload, subject, email)
    return Claims(subject=Principal(subject), email=email, expires_unix_s=expires)


def decoded_base64url(part: str) -> bytes:
    """Decode unpadded base64url (RFC 7515, section 2). Raises ValueError, also for bits beyond the last byte.

    Those bits are why one token could otherwise be written in several ways.
    """
    if _BASE64URL.fullmatch(part) is None or len(part) % 4 == 1:
        raise ValueError("not base64url without padding")
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part.encode("ascii"):
        raise ValueError("not the shortest base64url of its bytes")
    return raw


def _bytes(part: str) -> bytes:
    try:
        return decoded_base64url(part)
    except ValueError:
        raise malformed("each part is base64url without padding") from None


def _object(part: str) -> dict[str, JsonValue]:
    try:
        return strict_object(_bytes(part), size_max=TOKEN_BYTES_MAX)
    except JsonRefusedError:
        raise malformed("its header and payload are JSON objects that say nothing twice") from None


def _checked_header(header: dict[str, JsonValue]) -> str:
    if header.get("alg") != "RS256":
        raise unauthenticated("identity.algorithm", "Send an ID token signed with RS256, the only algorithm taken.")
    if header.get("typ", "JWT") != "JWT":
        raise unauthenticated("identity.type", "Send an ID token (`typ` JWT), not another kind of token.")
    if "crit" in header:
        raise unauthenticated("identity.critical", "Send an ID token without critical extensions (`crit`).")
    kid = header.get("kid")
    if not isinstance(kid, str) or _KID.fullmatch(kid) is None:
        raise malformed("its header names the signing key (`kid`)")
    return kid


def _checked_times(payload: dict[str, JsonValue], skew_s: int, now_unix_s: int) -> int:
    issued, expires = _seconds(payload, "iat"), _seconds(payload, "exp")
    if not 0 < expires - issued <= LIFETIME_S_MAX:
        raise unauthenticated("identity.lifetime", "Send an ID token that lives for at most a day.")
    if now_unix_s >= expires + skew_s:
        raise unauthenticated("identity.expired", "Fetch a new ID token: this one has expired.")
    starts = max(issued, _seconds(payload, "nbf")) if "nbf" in payload else issued
    if starts > now_unix_s + skew_s:
        raise unauthenticated("identity.not_yet_valid", "Set the clock: this ID token is from the future.")
    return expires


def _check_party(payload: dict[str, JsonValue], subject: str, email: str) -> None:
    """Refuse a token that was made for a client other than the account itself (attack rows 3 and 7).

    `azp` of a service account's token is the account: by number from the metadata server and IAM, by address when the
    account exchanged its own key.
    """
    if "azp" in payload and _text(payload, "azp") not in (subject, email):
        raise unauthenticated(
            "identity.authorized_party", "Send an ID token that the service account asked for itself (`azp`)."
        )
    if "act" in payload:
        raise unauthenticated("identity.delegated", "Send an ID token of your own, not one on behalf of another.")


def _audience(payload: dict[str, JsonValue]) -> str:
    audience = payload.get("aud")
    if not isinstance(audience, str):
        raise unauthenticated("identity.audience", "Send an ID token with one audience, as a text.")
    return audience


def _text(payload: dict[str, JsonValue], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str):
        raise _claims(f"`{name}` is a text")
    return value


def _seconds(payload: dict[str, JsonValue], name: str) -> int:
    value = payload.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _claims(f"`{name}` is a whole number of seconds")
    return value


def _claims(detail: str) -> RefusedError:
    return unauthenticated("identity.claims", f"Send a Google-signed ID token as Google made it: {detail}.")
