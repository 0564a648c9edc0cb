"""The tables of the ledger in SQLite, and how a file gets from one version of them to the next.

The words are chosen to be columns in PostgreSQL too (`time_window`, because WINDOW is reserved there). Times are
microseconds since 1970, amounts 64-bit integers in the unit's own measure, hashes 32 raw bytes. `gateway.audit.sources`
reads `audit` and `operations` by itself: change them there as well.
"""

import sqlite3
from typing import Final

APPLICATION_ID: Final = 0x41475731
"""`AGW1`, in the header of every ledger file."""

_OPERATIONS: Final = """
CREATE TABLE operations(
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    tool TEXT NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('tool', 'chat', 'count')),
    run TEXT NOT NULL,
    version TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('claimed', 'dispatched', 'succeeded', 'failed', 'unknown', 'reconciling')),
    result BLOB NOT NULL,
    failure_reason TEXT,
    failure_message TEXT,
    rules TEXT NOT NULL,
    policy_hash TEXT NOT NULL,
    intent_instance TEXT NOT NULL,
    intent_boot TEXT NOT NULL,
    intent_sequence INTEGER NOT NULL,
    intent_leaf BLOB NOT NULL,
    outcome_instance TEXT,
    outcome_boot TEXT,
    outcome_sequence INTEGER,
    outcome_leaf BLOB,
    created_unix_us INTEGER NOT NULL,
    lease_until_unix_us INTEGER NOT NULL,
    owner_instance TEXT NOT NULL,
    owner_boot TEXT NOT NULL,
    fence INTEGER NOT NULL,
    UNIQUE (tenant, principal, tool, key)
) STRICT
"""
"""`rules` is a JSON array of names; the owner is who may settle, with this fence.

`number` counts: what belongs to an operation refers to it and not to `id`, whose chance would spread the rows of every
commit over the whole file.
"""

_OPEN_OPERATIONS: Final = """
CREATE INDEX open_operations ON operations(state) WHERE state IN ('claimed', 'dispatched', 'reconciling')
"""
"""So that a start finds what was lost without reading the whole history."""

_BALANCES: Final = """
CREATE TABLE balances(
    scope TEXT NOT NULL,
    unit TEXT NOT NULL,
    time_window TEXT NOT NULL,
    held INTEGER NOT NULL CHECK (held >= 0),
    spent INTEGER NOT NULL CHECK (spent >= 0 OR unit = 'exposure_micro_usd'),
    PRIMARY KEY (scope, unit, time_window)
) STRICT, WITHOUT ROWID
"""
"""Only exposure may be negative: who sells what was held before this ledger began ends below zero."""

_HOLDS: Final = """
CREATE TABLE holds(
    operation INTEGER NOT NULL REFERENCES operations(number),
    scope TEXT NOT NULL,
    unit TEXT NOT NULL,
    time_window TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    charged INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('held', 'settled', 'released', 'kept')),
    PRIMARY KEY (operation, scope, unit, time_window)
) STRICT, WITHOUT ROWID
"""
"""held: the operation runs. kept: it is unknown. settled: `charged` took the amount's place. released: nothing did."""

_HALTS: Final = """
CREATE TABLE halts(
    scope TEXT PRIMARY KEY,
    engaged INTEGER NOT NULL CHECK (engaged IN (0, 1)),
    reason TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_unix_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID
"""

_BOOTS: Final = """
CREATE TABLE boots(
    number INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    boot TEXT NOT NULL,
    UNIQUE (instance, boot)
) STRICT
"""
"""In the order in which they began, to find the end of the boot before without reading the log."""

_AUDIT: Final = """
CREATE TABLE audit(
    position INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    boot TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    record BLOB NOT NULL,
    leaf BLOB NOT NULL,
    link BLOB NOT NULL,
    UNIQUE (instance, boot, sequence)
) STRICT
"""

_CARE: Final = (
    "ALTER TABLE operations ADD COLUMN loss TEXT NOT NULL DEFAULT 'person'",
    "ALTER TABLE operations ADD COLUMN memo BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE operations ADD COLUMN halts TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE operations ADD COLUMN look_unix_us INTEGER",
    "ALTER TABLE operations ADD COLUMN looks INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE operations ADD COLUMN withdraw INTEGER NOT NULL DEFAULT 0 CHECK (withdraw IN (0, 1))",
    "UPDATE operations SET loss = 'charge' WHERE kind <> 'tool'",
    "CREATE INDEX watched_operations ON operations(look_unix_us) WHERE look_unix_us IS NOT NULL",
    "CREATE INDEX unknown_operations ON operations(number) WHERE state = 'unknown'",
)
"""How an effect is looked after: see `gateway.terms.operations.Aftercare`. `halts` is a JSON array of scopes.

`look_unix_us` is when somebody must look for it: of an unknown operation without one, a person decides.
"""

_SIGNED_BALANCES: Final = """
CREATE TABLE signed_balances(
    scope TEXT NOT NULL,
    unit TEXT NOT NULL,
    time_window TEXT NOT NULL,
    held INTEGER NOT NULL CHECK (held >= 0),
    spent INTEGER NOT NULL CHECK (spent >= 0 OR unit IN ('exposure_micro_usd', 'position_nano')),
    PRIMARY KEY (scope, unit, time_window)
) STRICT, WITHOUT ROWID
"""
"""A position may be negative too, for the same reason as an exposure; a CHECK only changes with its table."""

_RATES: Final = """
CREATE TABLE rates(
    scope TEXT PRIMARY KEY,
    due_unix_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID
"""

_SIGHTINGS: Final = """
CREATE TABLE sightings(
    scope TEXT NOT NULL,
    bucket INTEGER NOT NULL CHECK (bucket BETWEEN 0 AND 255),
    entries BLOB NOT NULL,
    PRIMARY KEY (scope, bucket)
) STRICT
"""

_LATCHES: Final = """
CREATE TABLE latches(
    scope TEXT PRIMARY KEY,
    engaged INTEGER NOT NULL CHECK (engaged IN (0, 1)),
    operation TEXT NOT NULL,
    set_unix_us INTEGER NOT NULL,
    reset_by TEXT NOT NULL,
    reset_reason TEXT NOT NULL,
    reset_unix_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID
"""

_BARRIERS: Final = """
CREATE TABLE barriers(
    scope TEXT NOT NULL,
    unit TEXT NOT NULL,
    time_window TEXT NOT NULL,
    began_unix_us INTEGER NOT NULL,
    taken INTEGER NOT NULL,
    PRIMARY KEY (scope, unit, time_window)
) STRICT, WITHOUT ROWID
"""

_SIMILAR: Final = "ALTER TABLE operations ADD COLUMN alike TEXT NOT NULL DEFAULT '[]'"
"""What is forgotten if nothing came of an operation: a JSON array of scope, digest in hexadecimal, and window."""

_DUE: Final = (
    "CREATE INDEX due_operations ON operations(withdraw, look_unix_us, number, tool) WHERE look_unix_us IS NOT NULL",
    "DROP INDEX watched_operations",
)
"""What is due, in the order in which it is taken: what waits for one upstream is passed over inside of the index."""

_OWN_HOLDS: Final = (
    "ALTER TABLE operations ADD COLUMN holds TEXT NOT NULL DEFAULT '[]'",
    """
UPDATE operations SET holds = (
    SELECT json_group_array(json_array(scope, unit, time_window, amount, charged, state))
    FROM holds WHERE operation = number
)
""",
    "DROP TABLE holds",
    """
CREATE VIEW holds AS
    SELECT number AS operation, hold.value ->> 0 AS scope, hold.value ->> 1 AS unit, hold.value ->> 2 AS time_window,
           hold.value ->> 3 AS amount, hold.value ->> 4 AS charged, hold.value ->> 5 AS state
    FROM operations, json_each(operations.holds) AS hold
""",
)
"""What an operation holds is a JSON array of its own row, and no rows beside it: it is written whenever the row is, and
an order's fifteen amounts cost fifteen rows twice. `holds` shows them as rows to who reads.
"""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (_OPERATIONS, _OPEN_OPERATIONS, _BALANCES, _HOLDS, _HALTS, _BOOTS, _AUDIT),
    _CARE,
    (
        _SIGNED_BALANCES,
        "INSERT INTO signed_balances SELECT scope, unit, time_window, held, spent FROM balances",
        "DROP TABLE balances",
        "ALTER TABLE signed_balances RENAME TO balances",
        _RATES,
        _SIGHTINGS,
        _LATCHES,
        _BARRIERS,
    ),
    (_SIMILAR,),
    _DUE,
    _OWN_HOLDS,
)
"""The statements that lead from version N to N + 1 of `PRAGMA user_version`; what was released is never changed."""


class SchemaError(Exception):
    """The file is no ledger, or one of a newer gateway."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this version's tables, each step in a transaction. Raises `SchemaError`."""
    version = _pragma(connection, "user_version")
    mark = _pragma(connection, "application_id")
    if mark != APPLICATION_ID and (mark or version or _has_tables(connection)):
        raise SchemaError("it is another program's database: give the ledger a file of its own")
    if version > len(MIGRATIONS):
        raise SchemaError(
            f"a newer gateway wrote it (version {version}, this one knows {len(MIGRATIONS)}): start that one"
        )
    for number in range(version, len(MIGRATIONS)):
        connection.execute("BEGIN EXCLUSIVE")
        try:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            connection.execute("ROLLBACK")
            raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
