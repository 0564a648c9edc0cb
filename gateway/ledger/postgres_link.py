"""One connection to PostgreSQL that is made anew when it was lost, and what its errors mean.

No sentence here holds the address that was given, nor what PostgreSQL says of it beyond its own words: the address may
hold a password.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from gateway.ledger.postgres_schema import Connection

CONNECT_S: Final = 5.0
STATEMENT_S: Final = 4.0
"""How long a statement may take, its waiting for other gateways' locks included."""

_SETTINGS: Final = {
    "application_name": "agentic-gateway",
    "statement_timeout": "4000",
    # A gateway that is frozen between two statements (Cloud Run takes the processor away) must not keep the others out.
    "idle_in_transaction_session_timeout": "2000",
    "default_transaction_isolation": "read committed",
    "synchronous_commit": "on",
    # Statements are few and always alike; planning each anew costs more than it could ever save.
    "plan_cache_mode": "force_generic_plan",
    # Everything is looked up by an index. A plan that was made when the tables were empty would read them whole for
    # ever: measured, after each 2,000 calls a call cost the database 60 us more, until its statistics were gathered.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    OSError,
    TimeoutError,
)
"""The connection is gone, or nothing can be known of it any more."""

TRIED_AGAIN: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
"""PostgreSQL undid the transaction for another's sake."""


class LedgerDatabaseError(Exception):
    """The database cannot be used as ledger; the sentence says what to do. The gateway must not start."""


@dataclass(slots=True)
class Link:
    """At most one connection, for one task."""

    url: str = field(repr=False)
    connection: Connection | None = None

    @property
    def alive(self) -> bool:
        """Whether there is a connection that is not known to be lost."""
        return self.connection is not None and not self.connection.is_closed()

    async def connected(self) -> Connection:
        """The connection, or a new one. Raises what `connect` raises."""
        if self.connection is None or self.connection.is_closed():
            self.connection = await connect(self.url)
        return self.connection

    def drop(self) -> None:
        """Let the connection go without a word; nothing can be known of it."""
        if self.connection is not None:
            self.connection.terminate()
            self.connection = None

    async def close(self) -> None:
        """Say goodbye, if it can be heard."""
        if self.connection is not None and not self.connection.is_closed():
            try:
                await self.connection.close(timeout=1.0)
            except LOST:
                self.drop()
        self.connection = None


async def connect(url: str) -> Connection:
    """A new connection. Raises `LedgerDatabaseError` for what an operator must change, or one of `LOST`."""
    try:
        return await asyncpg.connect(
            url,
            timeout=CONNECT_S,
            command_timeout=STATEMENT_S + 0.5,
            max_cached_statement_lifetime=0,
            server_settings=_SETTINGS,
        )
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise LedgerDatabaseError(
            "PostgreSQL refuses the role or the password of GATEWAY_DATABASE_URL: give it others, or allow it in"
            " pg_hba.conf"
        ) from _unspoken(error)
    except asyncpg.InvalidCatalogNameError as error:
        raise LedgerDatabaseError("there is no database of the name in GATEWAY_DATABASE_URL: create it") from _unspoken(
            error
        )
    except (ssl.SSLError, asyncpg.exceptions.ClientConfigurationError, ValueError) as error:
        raise LedgerDatabaseError(
            f"GATEWAY_DATABASE_URL cannot be used ({type(error).__name__}): look at its host, its sslmode and the"
            " certificates that it names"
        ) from None


async def connect_first(url: str) -> Connection:
    """A connection at the start, where one that cannot be had is a sentence. Raises `LedgerDatabaseError`."""
    try:
        return await connect(url)
    except LOST as error:
        raise LedgerDatabaseError(unreachable(error)) from _unspoken(error)
    except asyncpg.PostgresError as error:
        raise LedgerDatabaseError(f"PostgreSQL does not let the gateway in: {error}") from _unspoken(error)


def is_loss(error: Exception) -> bool:
    """Whether the connection is gone. asyncpg's word for a value that no column takes is an InterfaceError too."""
    return isinstance(error, LOST) and not isinstance(error, ValueError)


def unreachable(error: BaseException) -> str:
    """The sentence for a database that cannot be reached now."""
    if isinstance(error, asyncio.TimeoutError):
        why = "it does not answer"
    elif isinstance(error, OSError) and error.strerror:
        why = error.strerror
    else:
        why = type(error).__name__
    return f"cannot reach PostgreSQL at GATEWAY_DATABASE_URL: {why}. Start it, or look at its address"


def _unspoken(error: BaseException) -> BaseException | None:
    """A cause without the traceback whose frames hold the address."""
    error.__traceback__ = None
    return error
