"""Reads the environment and the configuration file, whole and once."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.settings.environment import Environment, environment_of
from gateway.settings.faults import SettingsError, reason
from gateway.settings.file import File
from gateway.settings.references import secret_of
from gateway.settings.shape import shaped
from gateway.settings.tool_tables import HttpServiceTable, McpServerTable

FILE_BYTES_MAX: Final = 1024 * 1024
ORDER_KEY_LENGTH_MIN: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The file, checked, with its secrets, and what the environment says."""

    file: File
    base: Path
    """Where relative paths of the file begin: its own folder."""
    environment: Environment
    secrets: Mapping[str, str] = field(repr=False)
    """By their references."""

    def path(self, text: str) -> Path:
        """A path of the file."""
        return self.base / text


def read_settings(config: Path, variables: Mapping[str, str]) -> Settings:
    """Read and check everything, or raise `SettingsError` with all that is wrong."""
    environment, environment_faults = environment_of(variables)
    file, faults = _read(config)
    base = config.absolute().parent
    secrets: dict[str, str] = {}
    if file is not None:
        faults += _secret_faults(file, base, variables, secrets)
        if not file.ledger.path and not environment.database_url:
            faults.append("ledger.path: is empty: write where the ledger is kept, or set GATEWAY_DATABASE_URL")
        if file.tls is not None and variables.get("K_SERVICE"):
            faults.append("tls: leave it out: Cloud Run ends TLS itself, and speaks cleartext HTTP/2 to the gateway")
    faults += environment_faults
    if file is None or faults:
        raise SettingsError(str(config), faults)
    return Settings(file=file, base=base, environment=environment, secrets=secrets)


def read_file(config: Path) -> File:
    """Read and check the file alone, without environment and secrets. Raises `SettingsError`."""
    file, faults = _read(config)
    if file is None or faults:
        raise SettingsError(str(config), faults)
    return file


def _read(config: Path) -> tuple[File | None, list[str]]:
    try:
        with config.open("rb") as source:
            data = source.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        return None, [f"it cannot be read: {reason(error)}"]
    if len(data) > FILE_BYTES_MAX:
        return None, [f"it is longer than {FILE_BYTES_MAX} bytes: this is no configuration"]
    try:
        raw = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        return None, [f"it is not UTF-8 at byte {error.start}"]
    except RecursionError:
        return None, ["it is nested too deep"]
    except ValueError as error:
        # TOMLDecodeError says where; a number beyond what Python reads is the other ValueError.
        return None, [f"it is not TOML: {error}"]
    return shaped(raw)


def _secret_faults(file: File, base: Path, variables: Mapping[str, str], secrets: dict[str, str]) -> Iterator[str]:
    """Look up every secret and keep it; say which cannot be had, or is too short to be nobody's guess."""
    for place, reference in _references(file):
        try:
            secrets[reference] = secret_of(reference, base, variables)
        except ValueError as error:
            yield f"{place}: {error}"
            continue
        if place.endswith(("order_key", "call_key")) and len(secrets[reference]) < ORDER_KEY_LENGTH_MIN:
            yield f"{place}: give it a secret of at least {ORDER_KEY_LENGTH_MIN} characters"


def _references(file: File) -> Iterator[tuple[str, str]]:
    """The places of all secrets, and the references that stand there."""
    for venue in file.venues:
        for name in ("key_id", "secret_key", "order_key"):
            yield f"venues.{venue.name}.{name}", getattr(venue, name)
    for account in file.ccxt_venues:
        for name in ("key_id", "secret_key", "order_key"):
            yield f"ccxt_venues.{account.name}.{name}", getattr(account, name)
    for upstream in file.upstreams:
        if upstream.api_key:
            yield f"upstreams.{upstream.name}.api_key", upstream.api_key
    services: tuple[tuple[str, HttpServiceTable | McpServerTable], ...] = (
        *((f"http_services.{service.name}", service) for service in file.http_services),
        *((f"mcp_servers.{server.name}", server) for server in file.mcp_servers),
    )
    for place, service in services:
        for number, credential in enumerate(service.credentials, 1):
            yield f"{place}.credentials#{number}.secret", credential.secret
        if isinstance(service, HttpServiceTable) and service.call_key:
            yield f"{place}.call_key", service.call_key
