"""What the environment says: where to listen, and on what kind of machine this is."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

HOST: Final = "0.0.0.0"  # noqa: S104 - a container listens on all of its addresses
PORT: Final = "8080"
CONFIG: Final = "gateway.toml"
DATABASE_URL: Final = "GATEWAY_DATABASE_URL"
TIMING: Final = "GATEWAY_TIMING"
METADATA_HOST: Final = "metadata.google.internal"

_METADATA: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?")

_LOST: Final = (
    "GATEWAY_LEDGER_MAY_BE_LOST: this is Cloud Run (K_SERVICE is set), where every instance has a disk of its own that"
    " is gone when it ends, and with it the ledger: idempotency keys, spent budgets, exposures, the record. Give it a"
    " database (GATEWAY_DATABASE_URL), run it where its disk stays, or write 'accepted' to let it serve all the same"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The environment, read; meaningful only if it had no faults."""

    host: str
    port: int
    """0 lets the system choose."""
    edge_enforced: bool
    """The operator says so, and this is Cloud Run: only then is a token without a signature worth anything."""
    ledger_may_be_lost: bool
    """The operator accepted a ledger on Cloud Run's own disk."""
    metadata_host: str
    costs_told: bool
    """`gateway-timing` tells also what each stage cost."""
    database_url: str = field(repr=False)
    """The PostgreSQL database that holds the ledger, with its password; empty: a file holds it."""


def config_path(environment: Mapping[str, str]) -> str:
    """The configuration file that is used where the command line names none."""
    return environment.get("GATEWAY_CONFIG") or CONFIG


def database_url(variables: Mapping[str, str]) -> str:
    """The address of the ledger's database, as it is given; empty where a file is the ledger."""
    return variables.get(DATABASE_URL) or ""


def environment_of(variables: Mapping[str, str]) -> tuple[Environment, list[str]]:
    """What the variables say, and everything that is wrong with them. An empty variable counts as absent."""
    port = variables.get("PORT") or PORT
    known = Environment(
        host=variables.get("GATEWAY_HOST") or HOST,
        port=int(port) if _is_port(port) else 0,
        edge_enforced=variables.get("GATEWAY_EDGE_IAM") == "required" and bool(variables.get("K_SERVICE")),
        ledger_may_be_lost=variables.get("GATEWAY_LEDGER_MAY_BE_LOST") == "accepted",
        metadata_host=variables.get("GCE_METADATA_HOST") or METADATA_HOST,
        costs_told=variables.get(TIMING) == "costs",
        database_url=database_url(variables),
    )
    return known, list(_faults(variables, known))


def _faults(variables: Mapping[str, str], known: Environment) -> Iterator[str]:
    on_cloud_run = bool(variables.get("K_SERVICE"))
    if not _is_port(variables.get("PORT") or PORT):
        yield "PORT: write a port number, 1 to 65535, or 0 for any"
    if not _is_address(known.host):
        yield "GATEWAY_HOST: write an IP address of this machine, 0.0.0.0 for all"
    if not _METADATA.fullmatch(known.metadata_host):
        yield "GCE_METADATA_HOST: write HOST or HOST:PORT"
    edge = variables.get("GATEWAY_EDGE_IAM", "")
    if edge not in ("", "required"):
        yield "GATEWAY_EDGE_IAM: write 'required' (Cloud Run checks every caller) or leave it out"
    if edge == "required" and not on_cloud_run:
        yield "GATEWAY_EDGE_IAM: leave it out: this is not Cloud Run (no K_SERVICE), so nobody checks callers before"
    if variables.get(TIMING, "") not in ("", "costs"):
        yield f"{TIMING}: write 'costs' (gateway-timing tells what each stage cost, too) or leave it out"
    if variables.get("GATEWAY_LEDGER_MAY_BE_LOST", "") not in ("", "accepted"):
        yield "GATEWAY_LEDGER_MAY_BE_LOST: write 'accepted' or leave it out"
    elif on_cloud_run and not known.ledger_may_be_lost and not known.database_url:
        yield _LOST
    if known.database_url and not _is_database(known.database_url):
        # Not repeated: whatever it is, it may hold a password.
        yield (
            f"{DATABASE_URL}: write postgresql://ROLE:PASSWORD@HOST:PORT/DATABASE, with the password's special"
            " characters as %XX, or postgresql://ROLE:PASSWORD@/DATABASE?host=FOLDER for a socket"
        )


def _is_database(url: str) -> bool:
    """Whether it names a database on a server. Which parameters follow, PostgreSQL's client decides."""
    try:
        parts = urlsplit(url)
        named = parts.port is None or parts.port > 0
    except ValueError:
        return False
    database = parts.path.removeprefix("/")
    place = parts.hostname or "host=" in parts.query
    known = parts.scheme in {"postgresql", "postgres"}
    return url.isascii() and url.isprintable() and known and named and bool(place and database and "/" not in database)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
