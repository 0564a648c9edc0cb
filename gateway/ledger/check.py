"""Whether the balances of a ledger are what its holds add up to, and whether its holds are where their operations are.

The two questions are the same statements in SQLite and in PostgreSQL.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.ledger.sqlite_files import LedgerFileError, open_for_reading
from gateway.terms.money import OWN

_OWN: Final = ", ".join(f"'{window}'" for window in sorted(OWN))

DIFFERENT: Final = f"""
WITH added AS (
    SELECT scope, unit, time_window,
           CAST(sum(CASE WHEN state IN ('held', 'kept') THEN amount ELSE 0 END) AS BIGINT) AS held,
           CAST(sum(CASE WHEN state IN ('settled', 'released') THEN charged ELSE 0 END) AS BIGINT) AS spent
    FROM holds WHERE time_window NOT IN ({_OWN}) GROUP BY scope, unit, time_window
)
SELECT balances.scope, balances.unit, balances.time_window, balances.held, balances.spent,
       coalesce(added.held, 0), coalesce(added.spent, 0)
FROM balances LEFT JOIN added USING (scope, unit, time_window)
WHERE balances.held <> coalesce(added.held, 0) OR balances.spent <> coalesce(added.spent, 0)
UNION ALL
SELECT added.scope, added.unit, added.time_window, 0, 0, added.held, added.spent
FROM added LEFT JOIN balances USING (scope, unit, time_window) WHERE balances.scope IS NULL
ORDER BY 1, 2, 3
"""  # noqa: S608 - constants

STRAY: Final = """
SELECT operations.id, operations.state, holds.state FROM holds JOIN operations ON operations.number = holds.operation
WHERE holds.state <> CASE operations.state WHEN 'dispatched' THEN 'held' WHEN 'unknown' THEN 'kept'
      WHEN 'reconciling' THEN 'kept' ELSE holds.state END
   OR (operations.state IN ('succeeded', 'failed') AND holds.state NOT IN ('settled', 'released'))
ORDER BY 1 LIMIT 1000
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that does not add up."""

    what: str
    """`balance SCOPE UNIT WINDOW` or `operation ID`."""
    problem: str


def check(path: Path) -> tuple[Difference, ...]:
    """Add up the holds of the file and compare, and compare each hold's state with its operation's.

    Nothing is changed; empty means right. Raises `LedgerFileError` when the file cannot be read.
    """
    try:
        with closing(open_for_reading(path)) as connection:
            connection.execute("BEGIN")
            different = connection.execute(DIFFERENT).fetchall()
            stray = connection.execute(STRAY).fetchall()
    except sqlite3.Error as error:
        raise LedgerFileError(f"cannot check {path}: {error}") from error
    return differences(different, stray)


def differences(different: Iterable[Iterable[object]], stray: Iterable[Iterable[object]]) -> tuple[Difference, ...]:
    """The rows of `DIFFERENT` and of `STRAY` in words."""
    return (
        *(
            Difference(
                what=f"balance {scope} {unit} {window}",
                problem=f"held {held} and spent {spent}, but its holds add up to {held_sum} and {spent_sum}",
            )
            for scope, unit, window, held, spent, held_sum, spent_sum in different
        ),
        *(
            Difference(what=f"operation {operation}", problem=f"it is {state} and has a hold that is {hold}")
            for operation, state, hold in stray
        ),
    )
