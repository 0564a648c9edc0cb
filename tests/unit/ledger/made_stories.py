"""A ledger with an operation of every fate, and what someone who may write its tables can do to it."""

import asyncio
import json
import sqlite3
from contextlib import closing

import asyncpg
import msgspec
from made_calls import STREAM_CARE, act, chat_ask, claim, rooms
from made_desks import PostgresDesk, apart
from written_holds import POSTGRES, writable

from gateway.audit.chain import NOTHING_BEFORE, BootChain, leaf_hash
from gateway.audit.recount import recount
from gateway.audit.sources import Database
from gateway.terms.money import Unit
from gateway.terms.operations import Aftercare, Failed, Failure, Loss, Succeeded, Unknown

NO = Failure(reason="no", message="No.")
HOUR, DAY, MONTH = "hour:2026-11-29T12", "day:2026-11-29", "month:2026-11"
LATER_US = 1_000_000


def claims(amount):
    """The same order in every scope and window that counts it."""
    return [
        claim(amount=1),
        claim(scope="tenant:acme", unit=Unit.COST, window=HOUR, limit=1_000, amount=amount),
        claim(scope="tenant:acme", unit=Unit.COST, window=DAY, limit=1_000, amount=amount),
        claim(scope="tenant:acme", unit=Unit.COST, window=MONTH, limit=1_000, amount=amount),
        claim(scope="run:run-1", unit=Unit.COST, window="total", limit=1_000, amount=amount),
        claim(scope="account:paper", unit=Unit.EXPOSURE, window="total", limit=1_000, amount=amount),
    ]


async def tell_every_story(desk):
    """Two boots. The operations, by their number:

    1 charged in part. 2 charged as held. 3 failed, charged a little. 4 unknown. 5 unknown, found out. 6 unknown,
    decided by an operator. 7 went on, and ended for less. 8 went on, and ended in a failure. 9 a stream, 10 an order
    that nobody can be asked for, both lost with the first boot. 11 runs.
    """
    await desk.make().start()
    await desk.settle(await desk.reserve(claims=claims(40)), charged(Unit.COST, 7, (Unit.EXPOSURE, -3)))
    await desk.settle(await desk.reserve(claims=claims(20)), Succeeded(result=b"{}"))
    await desk.settle(await desk.reserve(claims=claims(20)), Failed(failure=NO, charges=((Unit.COST, 2),)))
    await doubt(desk, look=False)
    await doubt(desk, look=True)
    await conclude(desk, charged(Unit.COST, 5))
    await doubt(desk, look=False)
    await resolve(desk, "op-6", charged(Unit.COST, 4))
    for ending in (charged(Unit.EXPOSURE, 6), Failed(failure=NO)):
        went_on = msgspec.structs.replace(charged(Unit.EXPOSURE, 9), live=True)
        await desk.ledger.settle(planned(desk, await desk.reserve(claims=claims(9)), went_on))
        await conclude(desk, ending)
    stream = desk.admission(ask=chat_ask(), claims=claims(11))
    await desk.ledger.admit(msgspec.structs.replace(stream, care=STREAM_CARE))
    await desk.ledger.admit(
        msgspec.structs.replace(desk.admission(claims=claims(13)), care=Aftercare(loss=Loss.PERSON))
    )
    await desk.ledger.close()
    desk.clock.now_us += 31_000_000
    await desk.make().start()
    await desk.reserve(claims=claims(17))


def charged(unit, amount, *more):
    return Succeeded(result=b"{}", charges=((unit, amount), *more))


def planned(desk, reservation, outcome):
    return msgspec.structs.replace(desk.settlement(reservation, outcome), look_unix_us=desk.clock.now_us + LATER_US)


async def doubt(desk, *, look):
    reservation = await desk.reserve(claims=claims(10))
    told = planned(desk, reservation, Unknown(failure=NO))
    await desk.ledger.settle(told if look else msgspec.structs.replace(told, look_unix_us=None))


async def conclude(desk, outcome):
    desk.clock.now_us += 2 * LATER_US
    [watched] = await desk.ledger.take(rooms(1), lease_ms=20_000)
    await desk.ledger.conclude(watched, outcome, desk.records.finding(watched, outcome), None)


async def resolve(desk, operation, outcome):
    seen = await desk.ledger.shown(operation)
    record = desk.records.resolution(act("resolve_operation", operation), seen, outcome, "The venue said so.")
    await desk.ledger.resolve(seen, outcome, record)


def place(desk):
    return Database(desk.path) if isinstance(desk, PostgresDesk) else desk.path


def recounted(desk):
    return apart(lambda: recount(place(desk)))


def write(desk, *statements):
    """Change the tables behind the ledger's back, past their constraints: texts, or pairs of text and values."""
    told = [(one, ()) if isinstance(one, str) else one for one in statements]
    if isinstance(desk, PostgresDesk):
        apart(lambda: asyncio.run(_write_database(desk.path, told)))
        return
    with closing(sqlite3.connect(desk.path)) as connection:
        writable(connection)
        for text, values in told:
            connection.execute(text, values)
        connection.commit()


async def _write_database(url, told):
    connection = await asyncpg.connect(url)
    await connection.execute(POSTGRES)
    for text, values in told:
        parts = text.split("?")
        numbered = "".join(f"{part}${number}" for number, part in enumerate(parts[:-1], 1)) + parts[-1]
        await connection.execute(numbered, *values)
    await connection.close()


def rewrite(desk, operation, kind, change):
    """Give a record of an operation other members, and write the whole chain anew, so that it verifies."""
    renamed, links, statements = {}, {}, []
    rows = desk.rows("SELECT position, instance, boot, sequence, record, leaf, link FROM audit ORDER BY position")
    for position, instance, boot, sequence, record, leaf, link in rows:
        now = _changed(record, operation, kind, change)
        for old, new in renamed.items():
            now = now.replace(old.hex().encode(), new.hex().encode())
        renamed[leaf] = leaf_hash(now)
        _, renamed[link] = BootChain(instance, boot).seal(sequence, links.get(instance, NOTHING_BEFORE), now)
        links[instance] = renamed[link]
        values = (now, renamed[leaf], renamed[link], position)
        statements += [
            ("UPDATE audit SET record = ?, leaf = ?, link = ? WHERE position = ?", values),
            ("UPDATE operations SET intent_leaf = ? WHERE intent_leaf = ?", (renamed[leaf], leaf)),
            ("UPDATE operations SET outcome_leaf = ? WHERE outcome_leaf = ?", (renamed[leaf], leaf)),
        ]
    write(desk, *statements)


def _changed(record, operation, kind, change):
    told = json.loads(record)
    if (told.get("operation"), told["kind"]) != (operation, kind):
        return record
    change(told)
    return json.dumps(told).encode()


def number(operation):
    return f"(SELECT number FROM operations WHERE id = '{operation}')"
