"""A real PostgreSQL for tests: one server a session, one database a test; skipped, with the reason, without one."""

import asyncio
from itertools import count

import asyncpg
import pytest

from localcloud.postgres import NoPostgresError, postgres

_NAMES = count(1)


@pytest.fixture(scope="session")
def postgres_server():
    """The server."""
    try:
        serving = postgres()
        server = serving.__enter__()
    except NoPostgresError as error:
        pytest.skip(str(error))
    yield server
    serving.__exit__(None, None, None)


@pytest.fixture
def postgres_url(postgres_server):
    """The address of a new, empty database."""
    name = f"test_{next(_NAMES)}"
    asyncio.run(told(postgres_server, f"CREATE DATABASE {name}"))
    yield postgres_server.url(name)
    asyncio.run(told(postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))


async def told(server, statement):
    """Tell the server something as its owner."""
    connection = await asyncpg.connect(server.url())
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def rows_of(url, statement, *values):
    """Rows of a database, as tuples."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *values)]
    finally:
        await connection.close()
