"""Makes what several suites share importable from every test: `whole`, the gateway in one process, and PostgreSQL."""

from real_postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]
