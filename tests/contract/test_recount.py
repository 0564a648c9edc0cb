"""Amounts are added up again from the records: what someone changed in the tables, or in the records, is named.

Each change is made so that everything else fits it, where the one who makes it can: a hold and its balance together, a
record and the whole chain after it.
"""

import asyncio
import json
import sqlite3
from contextlib import aclosing, closing

import pytest
from made_calls import claim
from made_desks import BACKENDS, PostgresDesk, problems
from made_stories import DAY, HOUR, MONTH, number, place, recounted, rewrite, tell_every_story, write
from whole import RESTING_BUY, agent, budget, world
from written_holds import writable

import gateway.audit.recount as recounting
from gateway.audit.amounts import Hold, Sum
from gateway.audit.recount import Difference, recount
from gateway.audit.sources import UnreadableAuditError
from gateway.ledger.check import check
from gateway.ledger.postgres_check import check_database
from gateway.terms.money import OWN

COST, EXPOSURE, CALLS = "cost_micro_usd", "exposure_micro_usd", "calls"
RUN = ("run:run-1", COST, "total")


@pytest.fixture(params=BACKENDS)
def open_desk(request):
    """While its gateway runs."""
    desk = BACKENDS[request.param](request)
    with asyncio.Runner() as runner:
        desk.runner = runner
        runner.run(tell_every_story(desk))
        yield desk
        runner.run(desk.ledger.close())


@pytest.fixture
def desk(open_desk):
    """With nothing left to do for its gateway but to close."""
    assert problems(recounted(open_desk)) == []
    return open_desk


def added(desk):
    """What the sums over the holds alone find."""
    if isinstance(desk, PostgresDesk):
        return asyncio.run(check_database(desk.path))
    return check(desk.path)


def stored(desk, operation):
    """Its rows of holds."""
    rows = desk.rows(
        f"SELECT scope, unit, time_window, state, amount, charged FROM holds WHERE operation = {number(operation)}"
    )
    return {tuple(row[:3]): Hold(*row[3:]) for row in rows}


def moved(held=0, spent=0, at=RUN):
    """A balance, changed to fit what was done to a hold."""
    words = "UPDATE balances SET held = held + ?, spent = spent + ? WHERE scope = ? AND unit = ? AND time_window = ?"
    return words, (held, spent, *at)


def hold(operation, change, at=RUN):
    """One hold, changed."""
    return f"{change} WHERE operation = {number(operation)} AND scope = ? AND unit = ? AND time_window = ?", at


def test_every_fate_of_an_operation_adds_up_in_every_window(desk):
    told = recounted(desk)
    assert (told.ok, told.operations, told.balances) == (True, 11, 6)
    # 7 + 20 + 2 + 5 + 4 + 9 + 0 + 11 charged; 10 unknown, 13 lost, 17 running.
    balances = set(desk.rows("SELECT time_window, held, spent FROM balances WHERE unit = ?", COST))
    assert balances == {(window, 40, 58) for window in (HOUR, DAY, MONTH, "total")}
    states = {name: {one.state for one in stored(desk, name).values()} for name in ("op-4", "op-8", "op-9", "op-11")}
    assert states == {"op-4": {"kept"}, "op-8": {"released"}, "op-9": {"settled"}, "op-11": {"held"}}


def test_also_when_its_gateway_is_closed(desk):
    desk.runner.run(desk.ledger.close())
    assert recounted(desk).ok
    desk.runner.run(desk.make().start())


def test_a_balance_that_was_changed(desk):
    write(desk, moved(held=-1, spent=2, at=("tenant:acme", COST, MONTH)))
    told = recounted(desk)
    [difference] = told.differences
    assert difference == Difference(None, ("tenant:acme", COST, MONTH), Sum(39, 60), Sum(40, 58))
    assert told.bad is None


def test_a_balance_that_was_deleted(desk):
    write(desk, ("DELETE FROM balances WHERE time_window = ?", (HOUR,)))
    assert recounted(desk).differences == (Difference(None, ("tenant:acme", COST, HOUR), None, Sum(40, 58)),)


def test_a_balance_that_was_invented(desk):
    write(desk, ("INSERT INTO balances VALUES (?, ?, ?, 5, 6)", ("agent:other", CALLS, DAY)))
    assert recounted(desk).differences == (Difference(None, ("agent:other", CALLS, DAY), Sum(5, 6), None),)


def test_a_charge_that_was_lowered_with_its_balance(desk):
    write(desk, hold("op-2", "UPDATE holds SET charged = 1"), moved(spent=-19))
    assert added(desk) == ()
    assert recounted(desk).differences == (
        Difference("op-2", RUN, Hold("settled", 20, 1), Hold("settled", 20, 20)),
        Difference(None, RUN, Sum(40, 39), Sum(40, 58)),
    )


def test_an_amount_that_was_lowered_while_it_is_held(desk):
    write(desk, hold("op-11", "UPDATE holds SET amount = 0"), moved(held=-17))
    assert added(desk) == ()
    [of_hold, of_balance] = recounted(desk).differences
    assert of_hold == Difference("op-11", RUN, Hold("held", 0, 0), Hold("held", 17, 0))
    assert of_balance == Difference(None, RUN, Sum(23, 58), Sum(40, 58))


@pytest.mark.parametrize("operation", ["op-4", "op-10"])
def test_a_hold_of_an_unknown_operation_that_was_let_go(desk, operation):
    amount = stored(desk, operation)[RUN].amount
    write(desk, hold(operation, "UPDATE holds SET state = 'released'"), moved(held=-amount))
    [of_hold, _] = recounted(desk).differences
    assert of_hold == Difference(operation, RUN, Hold("released", amount, 0), Hold("kept", amount, 0))


@pytest.mark.parametrize("operation", ["op-1", "op-3", "op-5", "op-6", "op-7", "op-9"])
def test_a_charge_of_any_ending_that_was_taken_back(desk, operation):
    before = stored(desk, operation)[RUN]
    assert before.charged > 0
    write(desk, hold(operation, "UPDATE holds SET charged = 0, state = 'released'"), moved(spent=-before.charged))
    assert added(desk) == ()
    [of_hold, _] = recounted(desk).differences
    assert of_hold == Difference(operation, RUN, Hold("released", before.amount, 0), before)


def test_a_hold_that_was_deleted_with_its_balance(desk):
    write(desk, hold("op-2", "DELETE FROM holds"), moved(spent=-20))
    assert added(desk) == ()
    [of_hold, of_balance] = recounted(desk).differences
    assert of_hold == Difference("op-2", RUN, None, Hold("settled", 20, 20))
    assert of_balance == Difference(None, RUN, Sum(40, 38), Sum(40, 58))


def test_a_hold_that_was_moved_to_another_window(desk):
    there = ("run:run-1", COST, MONTH)
    write(
        desk,
        hold("op-2", f"UPDATE holds SET time_window = '{MONTH}'"),
        moved(spent=-20),
        ("INSERT INTO balances VALUES (?, ?, ?, 0, 20)", there),
    )
    assert added(desk) == ()
    assert set(recounted(desk).differences) == {
        Difference("op-2", RUN, None, Hold("settled", 20, 20)),
        Difference("op-2", there, Hold("settled", 20, 20), None),
        Difference(None, RUN, Sum(40, 38), Sum(40, 58)),
        Difference(None, there, Sum(0, 20), None),
    }


def test_a_hold_that_no_record_tells_of(desk):
    there = ("agent:other", CALLS, DAY)
    write(
        desk,
        (f"INSERT INTO holds VALUES ({number('op-2')}, ?, ?, ?, 3, 2, 'settled')", there),
        ("INSERT INTO balances VALUES (?, ?, ?, 0, 2)", there),
    )
    assert added(desk) == ()
    assert recounted(desk).differences == (
        Difference("op-2", there, Hold("settled", 3, 2), None),
        Difference(None, there, Sum(0, 2), None),
    )


def test_an_operation_that_was_deleted_with_all_that_it_left(desk):
    """A record without a hold."""
    before = stored(desk, "op-2")
    write(
        desk,
        f"DELETE FROM holds WHERE operation = {number('op-2')}",
        "DELETE FROM operations WHERE id = 'op-2'",
        *(moved(spent=-one.charged, at=at) for at, one in before.items()),
    )
    assert added(desk) == ()
    told = recounted(desk)
    assert {one for one in told.differences if one.operation} == {
        Difference("op-2", at, None, one) for at, one in before.items()
    }
    assert told.difference_count == 2 * len(before)
    assert "its records are there and the table has no such operation" in told.bad.problem


def test_an_operation_whose_records_were_taken_out(desk):
    """A hold without a record: of an operation that is not told of, and of one that is only begun."""
    write(
        desk,
        "UPDATE operations SET id = 'op-other' WHERE id = 'op-2'",
        ("UPDATE audit SET record = ? WHERE sequence = 2 AND boot = 'boot-1'", (b'{"v":1,"kind":"heartbeat"}',)),
    )
    told = recounted(desk)
    others = {one for one in told.differences if one.operation == "op-other"}
    assert {one.place: one.ledger for one in others} == stored(desk, "op-other")
    assert {one.records for one in others} == {None}
    first = [one for one in told.differences if one.operation == "op-1" and one.place == RUN]
    assert first == [Difference("op-1", RUN, Hold("settled", 40, 7), Hold("held", 40, 0))]
    assert told.bad.sequence == 2
    assert "its bytes are not those that were hashed" in told.bad.problem


def test_a_record_that_says_another_amount_in_a_chain_written_anew(desk):
    rewrite(desk, "op-2", "intent", lambda told: told["claims"][4].update(amount=19))
    rewrite(desk, "op-6", "resolved", lambda told: told["charges"].update(cost_micro_usd=1))
    told = recounted(desk)
    assert told.bad is None
    ops = {one for one in told.differences if one.operation}
    assert Difference("op-2", RUN, Hold("settled", 20, 20), Hold("settled", 19, 19)) in ops
    assert Difference("op-6", RUN, Hold("settled", 10, 4), Hold("settled", 10, 1)) in ops
    assert len(ops) == 1 + 4
    assert Difference(None, RUN, Sum(40, 58), Sum(40, 54)) in told.differences


def test_a_record_that_says_another_amount_where_it_stands(desk):
    [(record, position)] = [
        (record, position)
        for record, position in desk.rows("SELECT record, position FROM audit")
        if b'"kind":"resolved"' in record
    ]
    changed = record.replace(b'"cost_micro_usd":4', b'"cost_micro_usd":3')
    write(desk, ("UPDATE audit SET record = ? WHERE position = ?", (changed, position)))
    told = recounted(desk)
    assert "its bytes are not those that were hashed" in told.bad.problem
    assert Difference("op-6", RUN, Hold("settled", 10, 4), Hold("settled", 10, 3)) in told.differences
    assert Difference(None, RUN, Sum(40, 58), Sum(40, 57)) in told.differences


@pytest.mark.parametrize(
    ("operation", "kind", "change"),
    [
        ("op-2", "intent", lambda told: told.pop("claims")),
        ("op-11", "intent", lambda told: told.pop("claims")),
        ("op-1", "outcome", lambda told: told.pop("charges")),
        ("op-5", "reconciled", lambda told: told.pop("charges")),
        ("op-2", "intent", lambda told: told.update(claims=told["claims"] * 2)),
        ("op-2", "intent", lambda told: told["claims"][0].update(amount=-1)),
        ("op-2", "intent", lambda told: told["claims"][0].update(amount=2**63)),
        ("op-2", "intent", lambda told: told["claims"][0].update(amount="many")),
        ("op-1", "outcome", lambda told: told["charges"].update(calls=-(2**63))),
    ],
)
def test_records_that_do_not_tell_their_amounts_are_counted_and_named(desk, operation, kind, change):
    rewrite(desk, operation, kind, change)
    told = recounted(desk)
    assert (told.ok, told.untold_count, told.untold) == (False, 1, (operation,))
    assert (told.differences, told.bad) == ((), None)
    # Its holds are taken as they stand, so what was done to a balance is still seen.
    write(desk, moved(spent=1))
    assert recounted(desk).differences == (Difference(None, RUN, Sum(40, 59), Sum(40, 58)),)


def test_what_was_forged_to_have_more_than_64_bits_is_summed_all_the_same(desk):
    for operation in ("op-2", "op-7"):
        rewrite(desk, operation, "intent", lambda told: told["claims"][4].update(amount=2**63 - 1))
    told = recounted(desk)
    [of_balance] = [one for one in told.differences if one.operation is None]
    assert of_balance.records.spent == 2 * (2**63 - 1) + 29


def test_an_ending_that_was_taken_out_of_a_chain_written_anew(desk):
    """Its operation runs, as the records have it."""
    rewrite(desk, "op-2", "outcome", lambda told: told.update(kind="heartbeat"))
    told = recounted(desk)
    assert Difference("op-2", RUN, Hold("settled", 20, 20), Hold("held", 20, 0)) in told.differences
    assert "its ending is not the record that the table names" in told.bad.problem


def test_all_is_read_as_at_one_moment_while_calls_go_on(open_desk, monkeypatch):
    monkeypatch.setattr(recounting, "PROGRESS_EVERY", 1)
    calls = iter(range(5))

    def calling(_done, _total):
        if next(calls, None) is not None:
            one = claim(scope="agent:late", limit=100, amount=3)
            open_desk.runner.run(open_desk.do(claims=[one]))

    told = recount(place(open_desk), calling)
    assert problems(told) == []
    assert told.operations == 11
    after = recount(place(open_desk))
    assert (after.ok, after.operations) == (True, 16)


def test_more_differences_than_are_named_are_counted(desk, monkeypatch):
    monkeypatch.setattr(recounting, "SHOWN_MAX", 2)
    write(desk, "UPDATE holds SET amount = amount + 1")
    told = recounted(desk)
    assert (len(told.differences), told.difference_count) == (2, 66)


def test_an_export_has_no_amounts_to_compare(tmp_path):
    (tmp_path / "out").write_bytes(b'{"format":"agentic-gateway-audit","version":1,"records":0}\n{"end":0}\n')
    with pytest.raises(UnreadableAuditError, match="cannot open"):
        recount(tmp_path / "out")


SLOW = "@pace deltas=40 interval_ms=5 size=2\nTell me."
BUDGETS = (
    budget("calls", 1_000, window="hour"),
    budget("calls", 1_000, scope="tenant:acme", window="month"),
    budget("tokens", 10_000_000),
    budget("cost_micro_usd", 10**12, scope="run", window="total"),
    budget("cost_micro_usd", 10**12, scope="tenant:acme", window="month"),
    budget("notional_micro_usd", 10**12),
)


async def a_day_of_calls(around, folder):
    """Orders and streams of a whole gateway that come to every kind of ending, and its killed one's."""
    trader = [agent(budgets=BUDGETS)]
    async with around.gateway(folder, trader) as whole:
        await whole.act(key="filled", run="r-1")
        await whole.converse(run="r-1")
        async with aclosing(whole.stream(SLOW, run="r-2")) as told:
            async for _ in told:
                break
        resting = await whole.act(RESTING_BUY, key="resting")
        around.exchange_fails("status_before", status=403, remaining=1)
        await whole.act(RESTING_BUY | {"quantity": "1"}, key="failed")
        around.lose_replies()
        await whole.act(RESTING_BUY | {"quantity": "3"}, key="found-out")
        around.exchange.faults.clear()
        await whole.act({"order_id": json.loads(resting.operation.result)["order_id"]}, key="c", tool="cancel_order")
        await whole.swept(6, 5)
        around.lose_replies()
        await whole.act(RESTING_BUY | {"quantity": "4"}, key="unknown")
        await whole.agree()
        async with aclosing(whole.stream(SLOW, run="r-3")) as told:
            await anext(told)
            return whole.snapshot(folder / "killed")


async def test_every_hold_of_real_calls_is_the_records(tmp_path):
    """Whichever of them is changed, with its balance, is found, and no other."""
    async with world() as around:
        killed = await a_day_of_calls(around, tmp_path)
        async with around.gateway(killed, [agent(budgets=BUDGETS)]) as again:
            around.clock.pass_s(600)
            await again.swept(2, 1)
            kinds = {record["kind"] for record in again.told("lost", "reconciled", "followed", "outcome")}
            assert kinds == {"lost", "reconciled", "followed", "outcome"}
            assert len({window for _, _, window in again.held()}) >= 4
            await again.agree()
    with closing(sqlite3.connect(again.path)) as connection:
        writable(connection)
        holds = connection.execute("SELECT * FROM holds WHERE state IN ('settled', 'kept')").fetchall()
        for changed, *at, _, _, state in holds:
            add_to_hold(connection, changed, at, state, 1)
            assert check(again.path) == ()
            found = [one.place for one in recount(again.path).differences]
            assert found == [tuple(at)] * (1 if at[2] in OWN else 2)  # the hold, and its balance if it has one
            add_to_hold(connection, changed, at, state, -1)
    assert len(holds) > 20
    assert recount(again.path).ok


def add_to_hold(connection, operation, at, state, more):
    """And to its balance."""
    of_hold, of_balance = ("amount", "held") if state == "kept" else ("charged", "spent")
    where = "scope = ? AND unit = ? AND time_window = ?"
    connection.execute(
        f"UPDATE holds SET {of_hold} = {of_hold} + ? WHERE operation = ? AND {where}",
        (more, operation, *at),
    )
    connection.execute(f"UPDATE balances SET {of_balance} = {of_balance} + ? WHERE {where}", (more, *at))
    connection.commit()
