"""A restart tells the truth about what the process before left, and the boots are one chain."""

import sqlite3
from contextlib import closing

import msgspec
import pytest
from made_calls import CALLER, Desk, claim, members, tool_ask

from gateway.audit.verify import verify
from gateway.ledger.check import check
from gateway.ledger.settlement import AlreadySettledError
from gateway.terms.operations import Replay, State


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / "ledger.db")


def stored(path):
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT instance, boot, sequence, record, link FROM audit ORDER BY position"
        ).fetchall()
    return [(instance, boot, sequence, members(record), link) for instance, boot, sequence, record, link in rows]


async def test_after_a_crash_what_ran_is_unknown_and_its_holds_are_kept(desk):
    """Attack rows 25 and 27."""
    await desk.make().start()
    ask = tool_ask(key="same")
    reservation = await desk.reserve(ask=ask, claims=[claim(amount=3)])
    ended = await desk.do(claims=[claim()])
    late = desk.settlement(reservation)
    desk.crash()
    async with desk.open() as ledger:
        operation = await ledger.get(reservation.operation, CALLER)
        assert (operation.state, operation.failure.reason) == (State.UNKNOWN, "operation.lost")
        assert operation.outcome.boot == "boot-2"
        assert await desk.admit(ask=ask) == Replay(operation=operation)
        assert await ledger.get(ended.id, CALLER) == ended
        with pytest.raises(AlreadySettledError, match="another owner"):
            await ledger.settle(late)
        with pytest.raises(AlreadySettledError, match="unknown"):
            await ledger.settle(
                msgspec.structs.replace(late, reservation=msgspec.structs.replace(reservation, fence=2))
            )
        lost = stored(desk.path)[operation.outcome.sequence + 4]
        assert (lost[3]["kind"], lost[3]["operation"]) == ("lost", operation.id)
    with closing(sqlite3.connect(desk.path)) as connection:
        assert connection.execute("SELECT held, spent FROM balances").fetchall() == [(3, 1)]
        assert connection.execute("SELECT state FROM holds ORDER BY operation").fetchall() == [("kept",), ("settled",)]
    report = verify(desk.path)
    assert (report.ok, report.open_count) == (True, 0)
    assert [(boot.boot, boot.closed) for boot in report.boots] == [("boot-1", False), ("boot-2", True)]
    assert check(desk.path) == ()


async def test_a_boot_follows_the_end_of_the_one_before(desk):
    for _ in range(3):
        async with desk.open():
            await desk.refuse()
    records = stored(desk.path)
    assert [(boot, sequence, told["kind"]) for _, boot, sequence, told, _ in records] == [
        (f"boot-{number}", sequence, kind)
        for number in (1, 2, 3)
        for sequence, kind in enumerate(("boot", "refusal", "close"))
    ]
    befores = [told["before"] for _, _, _, told, _ in records if told["kind"] == "boot"]
    assert befores[0] is None
    assert [(before["boot"], before["sequence"], before["link"]) for before in befores[1:]] == [
        ("boot-1", 2, records[2][4].hex()),
        ("boot-2", 2, records[5][4].hex()),
    ]


async def test_instances_have_chains_of_their_own(desk):
    async with desk.open():
        await desk.refuse()
    other = Desk(desk.path, instance="gateway-2")
    async with other.open():
        await other.refuse()
    async with desk.open():
        await desk.refuse()
    report = verify(desk.path)
    assert report.ok
    assert [(boot.instance, boot.boot) for boot in report.boots] == [
        ("gateway-1", "boot-1"),
        ("gateway-2", "boot-1"),
        ("gateway-1", "boot-2"),
    ]


async def test_what_another_instance_left_in_this_file_is_lost_too(desk):
    await desk.make().start()
    reservation = await desk.reserve()
    desk.crash()
    async with Desk(desk.path, instance="gateway-2").open() as ledger:
        assert (await ledger.get(reservation.operation, CALLER)).state is State.UNKNOWN
    assert verify(desk.path).ok


async def test_a_crash_of_the_crash_repeats_nothing(desk):
    await desk.make().start()
    await desk.reserve(claims=[claim()])
    desk.crash()
    for _ in range(3):
        await desk.make().start()
        desk.crash()
    kinds = [told["kind"] for _, _, _, told, _ in stored(desk.path)]
    assert kinds.count("lost") == 1
    assert verify(desk.path).ok


async def test_the_start_and_the_close_give_receipts(desk):
    first = await desk.make().start()
    last = await desk.ledger.close()
    assert (first.sequence, last.sequence) == (0, 1)
    assert verify(desk.path, receipts=[first, last]).ok
