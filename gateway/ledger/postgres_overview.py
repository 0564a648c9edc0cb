"""What operators read of a PostgreSQL ledger; see `sqlite_overview`."""

from typing import Final, cast

from gateway.ledger import rows
from gateway.ledger.latches import ENGAGED, latched
from gateway.ledger.postgres_schema import Connection
from gateway.ledger.states import UNFINISHED
from gateway.ledger.tables import Row
from gateway.terms.ids import OperationId
from gateway.terms.latches import Latched
from gateway.terms.operations import Receipt
from gateway.terms.overview import Halt, HaltStanding, Overview, Page

_ENGAGED: Final = "SELECT scope FROM halts WHERE engaged <> 0"
_HALTS: Final = "SELECT scope, engaged, reason, set_by, set_unix_us FROM halts ORDER BY scope"
_UNFINISHED: Final = ", ".join(f"'{state}'" for state in UNFINISHED)
_WITHIN: Final = (
    f"SELECT count(*) FILTER (WHERE state IN ({_UNFINISHED})), count(*) FILTER (WHERE state = 'succeeded'),"  # noqa: S608 - constants
    " count(*) FILTER (WHERE state = 'unknown' AND look_unix_us IS NULL) FROM operations"
    f" WHERE number IN ({rows.UNFINISHED}) AND position($1::text in halts) > 0"
)
_BY_ID: Final = f"SELECT {rows.COLUMNS} FROM operations WHERE id = $1"  # noqa: S608 - constants
_RECORD: Final = "SELECT record FROM audit WHERE instance = $1 AND boot = $2 AND sequence = $3"
_LISTED: Final = (
    f"SELECT {rows.COLUMNS} FROM operations WHERE number < $1 AND ($2::text[] = '{{}}' OR state = ANY($2))"  # noqa: S608 - constants
    " AND (NOT $3::boolean OR (state = 'unknown' AND look_unix_us IS NULL)) ORDER BY number DESC LIMIT $4"
)


async def latches(connection: Connection) -> tuple[Latched, ...]:
    """The latches that are engaged."""
    return tuple(latched(tuple(row)) for row in await connection.fetch(ENGAGED))


async def engaged_scopes(connection: Connection) -> tuple[str, ...]:
    """The scopes of the switches that are set."""
    return tuple(row["scope"] for row in await connection.fetch(_ENGAGED))


async def halts(connection: Connection) -> tuple[HaltStanding, ...]:
    """Every switch, and what of its scope is not at its end."""
    found = []
    for scope, engaged, reason, by, at_us in await connection.fetch(_HALTS):
        halt = Halt(scope=scope, engaged=engaged != 0, reason=reason, by=by, set_unix_us=at_us)
        [(unfinished, live, person)] = await connection.fetch(_WITHIN, f'"{scope}"')
        found.append(HaltStanding(halt=halt, running=unfinished - person, open=live, needs_person=person))
    return tuple(found)


async def listed(connection: Connection, page: Page) -> tuple[Overview, ...]:
    """Operations of everybody, the newest first, without what they hold."""
    states = [state.value for state in page.states]
    found = await connection.fetch(_LISTED, page.before or 1 << 62, states, page.needs_person, page.size)
    return tuple(rows.overview(cast("Row", tuple(row))) for row in found)


async def overview(connection: Connection, operation: OperationId) -> Overview | None:
    """One operation, with what it holds."""
    row = await connection.fetchrow(_BY_ID, operation)
    return None if row is None else rows.overview(cast("Row", tuple(row)), whole=True)


async def record(connection: Connection, receipt: Receipt) -> bytes | None:
    """A record by its place."""
    found = await connection.fetchval(_RECORD, receipt.instance, receipt.boot, receipt.sequence)
    return None if found is None else bytes(found)
