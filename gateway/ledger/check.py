"""Whether the balances of a ledger file are what its holds add up to."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.ledger.sqlite_files import LedgerFileError, open_for_reading

_DIFFERENT: Final = """
WITH added AS (
    SELECT scope, unit, time_window,
           sum(CASE WHEN state IN ('held', 'kept') THEN amount ELSE 0 END) AS held,
           sum(CASE WHEN state IN ('settled', 'released') THEN charged ELSE 0 END) AS spent
    FROM holds GROUP BY scope, unit, time_window
)
SELECT balances.scope, balances.unit, balances.time_window, balances.held, balances.spent,
       coalesce(added.held, 0) AS held_sum, coalesce(added.spent, 0) AS spent_sum
FROM balances LEFT JOIN added USING (scope, unit, time_window)
WHERE balances.held <> held_sum OR balances.spent <> spent_sum
UNION ALL
SELECT added.scope, added.unit, added.time_window, 0, 0, added.held, added.spent
FROM added LEFT JOIN balances USING (scope, unit, time_window) WHERE balances.scope IS NULL
ORDER BY 1, 2, 3
"""

_STRAY: Final = """
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
            different = connection.execute(_DIFFERENT).fetchall()
            stray = connection.execute(_STRAY).fetchall()
    except sqlite3.Error as error:
        raise LedgerFileError(f"cannot check {path}: {error}") from error
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
