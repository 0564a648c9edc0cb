"""The ledger from its boot record to its closing record, in whichever backend the settings choose."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.assembly.parts import AssemblyError, Parts
from gateway.audit.chain import BootChain
from gateway.audit.records import Records
from gateway.audit.usage_pages import Pages, SqlitePages
from gateway.ledger.sqlite import SqliteLedger
from gateway.ledger.sqlite_files import LedgerFileError
from gateway.settings.reading import Settings
from gateway.terms.ids import BootId, InstanceId

if TYPE_CHECKING:
    from gateway.ledger.postgres import PostgresLedger


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookkeeping:
    """A ledger that is open, and who writes its records."""

    ledger: "SqliteLedger | PostgresLedger"
    records: Records
    pages: Pages
    """The record, for who looks back."""
    boot: BootId


@asynccontextmanager
async def bookkeeping(settings: Settings, parts: Parts) -> AsyncIterator[Bookkeeping]:
    """Open it, and close it at the end. Raises `AssemblyError`; at the end `LedgerUnavailableError`.

    Several gateways share a database, so there each process is an instance of its own, named after the configured one
    with a name behind it that nobody had before. A file is one instance's for good.
    """
    shared = bool(settings.environment.database_url)
    name = settings.file.ledger.instance
    instance, boot = InstanceId(parts.ids.new(name) if shared else name), BootId(parts.ids.new("boot"))
    # Commitments to redacted values can be opened only by who holds this key; nobody keeps it.
    redaction_key = secrets.token_bytes(32)
    records = Records(clock=parts.clock, instance=instance, boot=boot, redaction_key=redaction_key)
    chain = BootChain(instance, boot)
    if shared:
        async with _in_database(settings, parts, chain, records) as (database, pages):
            yield Bookkeeping(ledger=database, records=records, pages=pages, boot=boot)
        return
    file = await _in_file(settings, parts, chain, records)
    try:
        pages = SqlitePages(settings.path(settings.file.ledger.path))
        yield Bookkeeping(ledger=file, records=records, pages=pages, boot=boot)
    finally:
        await file.close()


async def _in_file(settings: Settings, parts: Parts, chain: BootChain, records: Records) -> SqliteLedger:
    path = settings.path(settings.file.ledger.path)
    ledger = SqliteLedger(path, clock=parts.clock, chain=chain, diary=records)
    try:
        await ledger.start()
    except LedgerFileError as error:
        raise AssemblyError(str(error)) from error
    return ledger


@asynccontextmanager
async def _in_database(
    settings: Settings, parts: Parts, chain: BootChain, records: Records
) -> "AsyncIterator[tuple[PostgresLedger, Pages]]":
    from gateway.audit.postgres_pages import PostgresPages  # noqa: PLC0415 - as below
    from gateway.ledger.postgres import PostgresLedger  # noqa: PLC0415 - who keeps a file needs no database's client
    from gateway.ledger.postgres_link import LedgerDatabaseError  # noqa: PLC0415 - as above

    url = settings.environment.database_url
    ledger, pages = PostgresLedger(url, clock=parts.clock, chain=chain, diary=records), PostgresPages(url)
    try:
        await ledger.start()
    except LedgerDatabaseError as error:
        raise AssemblyError(str(error)) from error
    try:
        yield ledger, pages
    finally:
        await pages.close()
        await ledger.close()
