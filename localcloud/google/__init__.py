"""Google's identity side on one machine: the token issuer with its published keys, and the metadata servers."""

from localcloud.google.identities import AccountError, GoogleConfig, ServiceAccount, TokenAge
from localcloud.google.issuer import AccessToken, Issuer, SigningKey
from localcloud.google.local import LocalGoogle
from localcloud.google.metadata import MetadataServer

__all__ = [
    "AccessToken",
    "AccountError",
    "GoogleConfig",
    "Issuer",
    "LocalGoogle",
    "MetadataServer",
    "ServiceAccount",
    "SigningKey",
    "TokenAge",
]
