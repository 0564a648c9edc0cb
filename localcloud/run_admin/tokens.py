"""Tokens of service accounts for those who may impersonate them: what iamcredentials gives."""

import datetime as dt

from localcloud.google.identities import ServiceAccount
from localcloud.google.issuer import Issuer
from localcloud.run_admin.errors import ApiError
from localcloud.run_admin.project import Project
from localcloud.run_admin.shapes import JsonObject


class TokenMint:
    """Asks the issuer, after the project has said that the operator may. Raises ApiError where he may not."""

    def __init__(self, project: Project, issuer: Issuer) -> None:
        self._project = project
        self._issuer = issuer

    def access_token(self, email: str) -> JsonObject:
        """An access token of the account, for an hour."""
        self._project.impersonate(email)
        token = self._issuer.access_token(ServiceAccount.of(email))
        expires = dt.datetime.fromtimestamp(token.expiry, dt.UTC)
        return {"accessToken": token.token, "expireTime": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}

    def id_token(self, email: str, audience: str, *, with_email: bool) -> JsonObject:
        """An ID token of the account for an audience; without its address unless that was asked for (study, 2.3)."""
        self._project.impersonate(email)
        if not audience:
            raise ApiError(400, "The audience must not be empty.")
        claims = self._issuer.claims(ServiceAccount.of(email), audience)
        if not with_email:
            del claims["email"], claims["email_verified"]
        return {"token": self._issuer.sign(claims)}
