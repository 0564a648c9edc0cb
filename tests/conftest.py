"""Makes what several suites share importable from every test: `whole`, the gateway in one process, and PostgreSQL."""

import os

from real_postgres import postgres_server, postgres_url

# gRPC's own threads and a fork do not go together: without its help, a child only executes what it is to become.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

__all__ = ["postgres_server", "postgres_url"]
