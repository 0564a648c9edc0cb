"""Makes what several suites share importable from every test: `whole`, the gateway in one process, and PostgreSQL."""

import os

from real_postgres import postgres_server, postgres_url

# grpcio, which many tests call, would start its threads again in every process that is about to become another program,
# and sometimes end it (SIGABRT, a poller without its descriptor). Read once, when grpcio is first used.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

__all__ = ["postgres_server", "postgres_url"]
