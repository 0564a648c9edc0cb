"""The one token that a call presents, out of all the headers that it brought."""

import re
from typing import Final

from gateway.identity.token import malformed, unauthenticated
from gateway.terms.caller import Credentials
from gateway.terms.limits import TOKEN_BYTES_MAX

_BEARER: Final = re.compile(r"bearer ([^ ,]+)", re.IGNORECASE | re.ASCII)
_HEADER_LENGTH_MAX: Final = len("bearer ") + TOKEN_BYTES_MAX


def presented(credentials: Credentials) -> str:
    """The token to check, not yet read. Raises `RefusedError`.

    Where `x-serverless-authorization` is present, Cloud Run's edge checked that header only and left `authorization` to
    the application (Cloud Run study, section 2.2), so only the former may say who calls. `authorization` may then hold
    a key of the application's own, which is ignored, or the same ID token. A different ID token there is refused: one
    of the two was checked by nobody, and a caller who sends two identities is a caller who hopes for a mistake.
    """
    _refuse_duplicate(credentials.authorization)
    _refuse_duplicate(credentials.serverless_authorization)
    if credentials.serverless_authorization:
        token = _bearer(credentials.serverless_authorization[0])
        if credentials.authorization:
            _refuse_other_token(token, credentials.authorization[0])
        return token
    if credentials.authorization:
        return _bearer(credentials.authorization[0])
    raise unauthenticated("identity.no_token", "Send an ID token in the header `authorization: Bearer TOKEN`.")


def _refuse_duplicate(values: tuple[str, ...]) -> None:
    if len(values) > 1:
        raise unauthenticated("identity.duplicate_header", "Send each authorization header exactly once.")


def _bearer(value: str) -> str:
    if len(value) > _HEADER_LENGTH_MAX:
        raise unauthenticated("identity.too_long", f"Send an ID token of at most {TOKEN_BYTES_MAX} bytes.")
    match = _BEARER.fullmatch(value)
    if match is None:
        raise malformed("write the header as `Bearer TOKEN`, with one token and nothing else")
    return match.group(1)


def _refuse_other_token(token: str, value: str) -> None:
    """Compare without the signatures: the edge may have removed one of the two."""
    match = _BEARER.fullmatch(value)
    if match is None or match.group(1).count(".") != 2:
        return
    if match.group(1).rpartition(".")[0] != token.rpartition(".")[0]:
        raise unauthenticated(
            "identity.two_tokens", "Send one ID token: the two authorization headers hold different ones."
        )
