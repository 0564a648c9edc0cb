"""Who exists in the local Google: service accounts, the project they live in, and how old their tokens are."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Self

_EMAIL = re.compile(r"[a-z0-9][a-z0-9.-]*@[a-z0-9][a-z0-9.-]*")
_NAME = re.compile(r"[a-z][a-z0-9-]*")


class AccountError(ValueError):
    """A service account, identity or project was described in a way that Google would not accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """One service account: its e-mail, and the unique number that is the `sub` of its tokens."""

    email: str
    unique_id: str

    @classmethod
    def of(cls, email: str) -> Self:
        """Return the account of an e-mail; the number is derived from it, so that every run has the same.

        Raises AccountError for anything that is not a lower-case e-mail address.
        """
        if not _EMAIL.fullmatch(email):
            raise AccountError(f"{email!r} is no service account: give a lower-case e-mail address.")
        number = int.from_bytes(hashlib.sha256(email.encode()).digest(), "big") % 10**20
        return cls(email=email, unique_id=f"1{number:020d}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAge:
    """How fresh the tokens of a metadata server are, in seconds.

    The real server may hand out a token that it has cached, with less than an hour left. `born` makes every token
    that much older; with `reuse`, one token is handed out again until less than `least_left` of its life is left.
    """

    born: int = 0
    reuse: bool = False
    least_left: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.born < 3600 or not 0 <= self.least_left < 3600:
            raise AccountError("A token's age and its least remaining life are 0 to 3599 seconds.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleConfig:
    """What the local Google consists of: one metadata server per identity (name -> e-mail), and one issuer.

    Port 0 lets the system choose; metadata servers always get a port of their own from the system.
    """

    identities: dict[str, str]
    project_id: str = "local-project"
    project_number: int = 123456789012
    region: str = "us-central1"
    host: str = "127.0.0.1"
    issuer_port: int = 0
    keys_max_age: int = 3600
    token_age: TokenAge = field(default_factory=TokenAge)

    def __post_init__(self) -> None:
        for name in self.identities:
            if not _NAME.fullmatch(name):
                raise AccountError(f"{name!r} is no identity name: use lower-case letters, digits and hyphens.")
        if self.keys_max_age < 0:
            raise AccountError("The keys' max-age is a number of seconds, 0 or more.")

    def accounts(self) -> dict[str, ServiceAccount]:
        """Return name -> account; raises AccountError for an e-mail that is none."""
        return {name: ServiceAccount.of(email) for name, email in self.identities.items()}
