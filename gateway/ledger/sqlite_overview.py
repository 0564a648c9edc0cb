"""What is read of a SQLite ledger beside its rules: for operators, and right before an effect."""

import json
import sqlite3
from typing import Final

from gateway.ledger import rows
from gateway.ledger.halts import halt_refusal
from gateway.ledger.latches import ENGAGED, latched
from gateway.ledger.repeats import not_owned
from gateway.ledger.sqlite_book import BY_ID
from gateway.ledger.states import UNFINISHED
from gateway.terms.ids import OperationId
from gateway.terms.latches import Latched
from gateway.terms.money import Unit
from gateway.terms.operations import Counted, Receipt, Reservation, State
from gateway.terms.overview import Halt, HaltStanding, Overview, Page
from gateway.terms.verdict import Refusal

_ENGAGED: Final = "SELECT scope, reason FROM halts WHERE engaged <> 0"
"""Few: a switch has a row only once it was set."""
_STANDING: Final = "SELECT state, fence FROM operations WHERE id = ?"
_HALTS: Final = "SELECT scope, engaged, reason, set_by, set_unix_us FROM halts ORDER BY scope"
_UNFINISHED: Final = ", ".join(f"'{state}'" for state in UNFINISHED)
_WITHIN: Final = (
    f"SELECT count(*) FILTER (WHERE state IN ({_UNFINISHED})), count(*) FILTER (WHERE state = 'succeeded'),"  # noqa: S608 - constants
    " count(*) FILTER (WHERE state = 'unknown' AND look_unix_us IS NULL) FROM operations"
    f" WHERE number IN ({rows.UNFINISHED}) AND instr(halts, ?) > 0"
)
_COUNTED: Final = (
    "SELECT coalesce(held, 0), coalesce(spent, 0) FROM json_each(?) AS asked LEFT JOIN balances"
    " ON scope = asked.value ->> 0 AND unit = asked.value ->> 1 AND time_window = 'total' ORDER BY asked.key"
)
_RECORD: Final = "SELECT record FROM audit WHERE instance = ? AND boot = ? AND sequence = ?"


def counted(reader: sqlite3.Connection, places: tuple[tuple[str, Unit], ...]) -> tuple[Counted, ...]:
    """What is held and charged in each place over all time, at one moment."""
    asked = json.dumps([[scope, unit.value] for scope, unit in places])
    return tuple(Counted(held=held, spent=spent) for held, spent in reader.execute(_COUNTED, (asked,)).fetchall())


def stopped(reader: sqlite3.Connection, reservation: Reservation, scopes: tuple[str, ...]) -> Refusal | None:
    """Why this effect must not leave after all."""
    for scope, reason in reader.execute(_ENGAGED).fetchall() if scopes else ():
        if scope in scopes:
            return halt_refusal(scope, reason, reservation.permit.policy_hash)
    row = reader.execute(_STANDING, (reservation.operation,)).fetchone()
    return not_owned(reservation, None if row is None else (State(row[0]), row[1]))


def latches(reader: sqlite3.Connection) -> tuple[Latched, ...]:
    """The latches that are engaged."""
    return tuple(map(latched, reader.execute(ENGAGED).fetchall()))


def engaged_scopes(reader: sqlite3.Connection) -> tuple[str, ...]:
    """The scopes of the switches that are set."""
    return tuple(scope for scope, _ in reader.execute(_ENGAGED).fetchall())


def halts(reader: sqlite3.Connection) -> tuple[HaltStanding, ...]:
    """Every switch, and what of its scope is not at its end."""
    return tuple(
        _standing(reader, Halt(scope=scope, engaged=engaged != 0, reason=reason, by=by, set_unix_us=at_us))
        for scope, engaged, reason, by, at_us in reader.execute(_HALTS).fetchall()
    )


def listed(reader: sqlite3.Connection, page: Page) -> tuple[Overview, ...]:
    """Operations of everybody, the newest first, without what they hold."""
    conditions, values = ["number < ?"], list[str | int]([page.before or 1 << 62])
    if page.states:
        conditions.append(f"state IN ({', '.join('?' * len(page.states))})")
        values.extend(page.states)
    if page.needs_person:
        conditions.append("state = 'unknown' AND look_unix_us IS NULL")
    where = " AND ".join(conditions)
    statement = f"SELECT {rows.COLUMNS} FROM operations WHERE {where} ORDER BY number DESC LIMIT ?"  # noqa: S608 - constants
    return tuple(rows.overview(row) for row in reader.execute(statement, (*values, page.size)).fetchall())


def overview(reader: sqlite3.Connection, operation: OperationId) -> Overview | None:
    """One operation, with what it holds."""
    row = reader.execute(BY_ID, (operation,)).fetchone()
    return None if row is None else rows.overview(row, whole=True)


def record(reader: sqlite3.Connection, receipt: Receipt) -> bytes | None:
    """A record by its place."""
    row = reader.execute(_RECORD, (receipt.instance, receipt.boot, receipt.sequence)).fetchone()
    return None if row is None else bytes(row[0])


def _standing(reader: sqlite3.Connection, halt: Halt) -> HaltStanding:
    ((unfinished, live, needs_person),) = reader.execute(_WITHIN, (f'"{halt.scope}"',)).fetchall()
    return HaltStanding(halt=halt, running=unfinished - needs_person, open=live, needs_person=needs_person)
