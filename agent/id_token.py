"""What an agent must know of an ID token: that it is one, for whom it is, and when it ends.

Its signature is for the gateway to check, and for the edge before it.
"""

import base64
import binascii
import json
import re
from typing import Final

LENGTH_MAX: Final = 8 * 1024
JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
"""RFC 7515, section 7.1: three parts in base64url. Nothing that could break out of a header."""

UNIX_S_MAX: Final = 2**40


def expiry_unix_s(token: str, audience: str) -> int:
    """`exp` in seconds of Unix time (RFC 7519, 4.1.4). Raises `ValueError` for what is no token for this audience."""
    form = JWT.fullmatch(token)
    if form is None or len(token) > LENGTH_MAX:
        raise ValueError("what it gave is no JWT")
    claims = _claims(form[1])
    if claims.get("aud") != audience:
        raise ValueError(f"it is for another audience than {audience}")
    expires = claims.get("exp")
    if type(expires) is not int or not 0 < expires < UNIX_S_MAX:
        raise ValueError("it does not say when it ends")
    return expires


def _claims(part: str) -> dict[str, object]:
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise ValueError("its claims cannot be read") from None
    if not isinstance(claims, dict):
        raise ValueError("its claims are no JSON object")  # noqa: TRY004 - bad content, not a bad call
    return claims
