"""The ledger's file: made so that only its owner reads it, locked so that only one process writes it."""

import fcntl
import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from gateway.ledger.sqlite_schema import SchemaError, migrate

BUSY_MS: Final = 2_000
"""How long a statement waits for a lock of a reader outside, such as a verifier."""

STATEMENTS_CACHED: Final = 128
"""Prepared statements that a connection keeps: more than the ledger has."""


CHECKPOINT_PAGES: Final = 4_000
"""Pages of 4 KiB in the write-ahead log before a commit also copies them into the file: rarely, and 16 MB at most."""

CACHE_KIB: Final = 8_000
"""Pages that the writing connection keeps."""


class LedgerFileError(Exception):
    """The ledger cannot be opened; the sentence says what to do. The gateway must not start."""


class FileLock:
    """Keeps other processes from the ledger until it is released or the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock beside the ledger at `path`. Raises `LedgerFileError` when another process has it."""
        place = path.with_name(path.name + ".lock")
        try:
            self._descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LedgerFileError(f"cannot create {place}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._descriptor, 20).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise LedgerFileError(
                f"the ledger {path} is in use by process {owner or 'unknown'}: stop it, or give this one another file"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)


def prepare(path: Path) -> None:
    """Check the folder and make sure of a file that only its owner reads. Raises `LedgerFileError`."""
    folder = path.parent
    try:
        mode = folder.stat().st_mode
    except OSError as error:
        raise LedgerFileError(f"cannot use the folder {folder}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise LedgerFileError(f"{folder} is no folder")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise LedgerFileError(f"anyone may replace files in {folder}: take the right to write there from others")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LedgerFileError(f"cannot write {path}: {error.strerror}") from error
    os.close(descriptor)


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The one connection that writes: WAL, every commit on the disk before it returns. Raises `LedgerFileError`."""
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,  # it is opened by the starting thread and then used by the writer's alone
        cached_statements=STATEMENTS_CACHED,
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection)
        journal = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    except (sqlite3.Error, SchemaError) as error:
        connection.close()
        raise LedgerFileError(f"cannot use {path} as ledger: {error}") from error
    if journal != "wal":
        connection.close()
        raise LedgerFileError(f"{path} cannot have a write-ahead log: put it on a local disk")
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that sees what is committed, and changes nothing."""
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, cached_statements=STATEMENTS_CACHED
    )
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.execute("PRAGMA query_only = ON")
    return connection
