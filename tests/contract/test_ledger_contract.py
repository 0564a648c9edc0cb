"""What every ledger does, whatever keeps its tables. `made_desks.BACKENDS` names them."""

import asyncio
from dataclasses import replace

import msgspec
import pytest
from made_calls import CALLER, chat_ask, claim, evidence, other_caller, rooms, tool_ask

from gateway.audit.chain import leaf_hash
from gateway.ledger.admission import AdmissionError
from gateway.ledger.settlement import AlreadySettledError, SettlementError
from gateway.terms.asks import CountAsk, ReadAsk
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.money import LONG_MAX, Unit
from gateway.terms.operations import Failed, Failure, Replay, Reservation, State, Succeeded, Unknown
from gateway.terms.verdict import Kind, Refusal

NO = Failure(reason="venue.rejected", message="The venue said no.")
NOBODY_KNOWS = Failure(reason="upstream.timeout", message="No reply came.")


async def restart(desk):
    """Close the ledger and open it again; the fixture closes the last."""
    await desk.ledger.close()
    await desk.make().start()


async def test_an_admission_is_durable_with_its_holds_and_intent(desk):
    reservation = await desk.reserve(claims=[claim(amount=3), claim(unit=Unit.TOKENS, limit=100, amount=40)])
    assert desk.balance() == (3, 0)
    assert desk.balance(unit=Unit.TOKENS) == (40, 0)
    assert desk.rows("SELECT state, kind, version, run, fence FROM operations") == [
        ("dispatched", "tool", "1", "run-1", 1)
    ]
    [*_, intent] = desk.records_stored()
    assert (intent["kind"], intent["operation"]) == ("intent", reservation.operation)
    [(leaf,)] = desk.rows("SELECT leaf FROM audit WHERE sequence = ?", reservation.intent.sequence)
    assert (
        leaf
        == reservation.intent.leaf_hash
        == leaf_hash(desk.records.intent(evidence(reservation.permit.ask, reservation.operation), reservation.claims))
    )


async def test_success_charges_as_held_where_it_says_nothing_else(desk):
    reservation = await desk.reserve(claims=[claim(amount=2), claim(unit=Unit.TOKENS, limit=100, amount=40)])
    operation = await desk.settle(reservation, Succeeded(result=b'{"a":1}', charges=((Unit.TOKENS, 7),)))
    assert (operation.state, operation.result, operation.failure) == (State.SUCCEEDED, b'{"a":1}', None)
    assert (desk.balance(), desk.balance(unit=Unit.TOKENS)) == ((0, 2), (0, 7))
    assert desk.rows("SELECT unit, charged, state FROM holds ORDER BY unit") == [
        ("calls", 2, "settled"),
        ("tokens", 7, "settled"),
    ]


async def test_failure_charges_only_what_it_says(desk):
    reservation = await desk.reserve(claims=[claim(amount=2), claim(unit=Unit.TOKENS, limit=100, amount=40)])
    operation = await desk.settle(reservation, Failed(failure=NO, charges=((Unit.TOKENS, 7),)))
    assert (operation.state, operation.result, operation.failure) == (State.FAILED, b"", NO)
    assert (desk.balance(), desk.balance(unit=Unit.TOKENS)) == ((0, 0), (0, 7))
    assert desk.rows("SELECT unit, charged, state FROM holds ORDER BY unit") == [
        ("calls", 0, "released"),
        ("tokens", 7, "settled"),
    ]


async def test_what_nobody_knows_stays_held(desk):
    reservation = await desk.reserve(claims=[claim(amount=2)])
    operation = await desk.settle(reservation, Unknown(failure=NOBODY_KNOWS))
    assert (operation.state, operation.failure) == (State.UNKNOWN, NOBODY_KNOWS)
    assert desk.balance() == (2, 0)
    assert desk.rows("SELECT state FROM holds") == [("kept",)]


async def test_charges_may_pass_what_was_held(desk):
    """What was really used is charged, also beyond the hold and the limit; the next call is refused then."""
    reservation = await desk.reserve(claims=[claim(unit=Unit.TOKENS, limit=100, amount=40)])
    await desk.settle(reservation, Succeeded(result=b"{}", charges=((Unit.TOKENS, 140),)))
    assert desk.balance(unit=Unit.TOKENS) == (0, 140)
    refusal = await desk.admit(claims=[claim(unit=Unit.TOKENS, limit=100, amount=0)])
    assert (refusal.kind, refusal.reason) == (Kind.EXHAUSTED, "budget.tokens")
    assert "0 are left" in refusal.sentence


async def test_a_charge_without_a_budget_is_only_recorded(desk):
    await desk.settle(await desk.reserve(), Succeeded(result=b"{}", charges=((Unit.TOKENS, 7),)))
    assert desk.rows("SELECT * FROM balances") == []
    assert desk.records_stored()[-1]["charges"] == {"tokens": 7}


async def test_an_amount_of_zero_is_held_and_may_be_charged(desk):
    reservation = await desk.reserve(claims=[claim(scope="account:A", unit=Unit.EXPOSURE, limit=100, amount=0)])
    await desk.settle(reservation, Succeeded(result=b"{}", charges=((Unit.EXPOSURE, 60),)))
    assert desk.balance("account:A", Unit.EXPOSURE) == (0, 60)


async def test_exposure_is_given_back_and_may_go_below_zero(desk):
    for charged in (-70, 20):
        reservation = await desk.reserve(claims=[claim(scope="account:A", unit=Unit.EXPOSURE, limit=100, amount=0)])
        await desk.settle(reservation, Succeeded(result=b"{}", charges=((Unit.EXPOSURE, charged),)))
    assert desk.balance("account:A", Unit.EXPOSURE) == (0, -50)
    await desk.reserve(claims=[claim(scope="account:A", unit=Unit.EXPOSURE, limit=100, amount=100)])


@pytest.mark.parametrize(
    "charges",
    [
        ((Unit.TOKENS, -1),),
        ((Unit.TOKENS, 1), (Unit.TOKENS, 2)),
        ((Unit.TOKENS, LONG_MAX + 1),),
        ((Unit.EXPOSURE, -(2**63)),),
    ],
)
async def test_charges_that_cannot_be_change_nothing(desk, charges):
    reservation = await desk.reserve(claims=[claim(unit=Unit.TOKENS, limit=100, amount=40)])
    stored = len(desk.records_stored())
    with pytest.raises(SettlementError):
        await desk.settle(reservation, Succeeded(result=b"{}", charges=charges))
    assert desk.balance(unit=Unit.TOKENS) == (40, 0)
    assert len(desk.records_stored()) == stored
    await desk.settle(reservation)


async def test_a_charge_that_would_overflow_the_balance_is_refused(desk):
    reservation = await desk.reserve(claims=[claim(unit=Unit.TOKENS, limit=100, amount=1)])
    await desk.settle(reservation, Succeeded(result=b"{}", charges=((Unit.TOKENS, LONG_MAX),)))
    other = await desk.reserve(claims=[claim(unit=Unit.TOKENS, window="total", limit=100, amount=1)])
    await desk.settle(other, Succeeded(result=b"{}", charges=((Unit.TOKENS, LONG_MAX),)))
    first = await desk.reserve(claims=[claim(scope="account:A", unit=Unit.EXPOSURE, limit=LONG_MAX, amount=0)])
    second = await desk.reserve(claims=[claim(scope="account:A", unit=Unit.EXPOSURE, limit=LONG_MAX, amount=0)])
    await desk.settle(first, Succeeded(result=b"{}", charges=((Unit.EXPOSURE, LONG_MAX),)))
    with pytest.raises(LedgerUnavailableError):
        await desk.settle(second, Succeeded(result=b"{}", charges=((Unit.EXPOSURE, 1),)))
    assert desk.balance("account:A", Unit.EXPOSURE) == (0, LONG_MAX)
    await desk.settle(second, Failed(failure=NO))


async def test_a_reservation_settles_once(desk):
    reservation = await desk.reserve(claims=[claim(amount=2)])
    await desk.settle(reservation)
    stored = desk.records_stored()
    for outcome in (Succeeded(result=b"{}"), Failed(failure=NO), Unknown(failure=NOBODY_KNOWS)):
        with pytest.raises(AlreadySettledError):
            await desk.settle(reservation, outcome)
    assert desk.records_stored() == stored
    assert desk.balance() == (0, 2)


async def test_of_two_racing_settlements_one_wins(desk):
    reservation = await desk.reserve(claims=[claim(amount=2)])
    done = await asyncio.gather(*(desk.settle(reservation) for _ in range(8)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) == ["AlreadySettledError"] * 7 + ["Operation"]
    assert desk.balance() == (0, 2)


async def test_another_owner_or_another_operation_cannot_settle(desk):
    reservation = await desk.reserve(claims=[claim(amount=2)])
    with pytest.raises(AlreadySettledError):
        await desk.settle(msgspec.structs.replace(reservation, fence=2))
    with pytest.raises(SettlementError):
        await desk.settle(msgspec.structs.replace(reservation, operation="op-none"))
    assert desk.balance() == (2, 0)
    await desk.settle(reservation)


async def test_a_repeat_of_a_running_call_waits(desk):
    ask = tool_ask(key="same")
    reservation = await desk.reserve(ask=ask, claims=[claim()])
    for verdict in (await desk.admit(ask=ask, claims=[claim()]), await desk.ledger.find(reservation.key, ask.digest)):
        assert (verdict.kind, verdict.reason) == (Kind.IN_PROGRESS, "operation.in_progress")
        assert verdict.operation_id == reservation.operation
        assert verdict.retry_after_ms > 0
    assert desk.balance() == (1, 0)


@pytest.mark.parametrize("outcome", [Succeeded(result=b'{"x":1}'), Failed(failure=NO), Unknown(failure=NOBODY_KNOWS)])
async def test_a_repeat_of_an_ended_call_gets_what_is_stored(desk, outcome):
    ask = tool_ask(key="same")
    reservation = await desk.reserve(ask=ask, claims=[claim()])
    operation = await desk.settle(reservation, outcome)
    stored, balance = len(desk.records_stored()), desk.balance()
    assert await desk.admit(ask=ask, claims=[claim()]) == Replay(operation=operation)
    assert await desk.ledger.find(reservation.key, ask.digest) == Replay(operation=operation)
    assert (len(desk.records_stored()), desk.balance()) == (stored, balance)


async def test_another_request_with_the_same_key_is_refused(desk):
    reservation = await desk.reserve(ask=tool_ask(key="same"))
    other = tool_ask(key="same", arguments='{"symbol":"OTHER"}')
    for _ in range(2):
        for verdict in (await desk.admit(ask=other), await desk.ledger.find(reservation.key, other.digest)):
            assert (verdict.kind, verdict.reason) == (Kind.KEY_REUSED, "operation.key_reused")
        if not (await desk.ledger.get(reservation.operation, CALLER)).state.final:
            await desk.settle(reservation)


async def test_keys_of_other_callers_tools_and_tenants_never_meet(desk):
    """Attack rows 2 and 26."""
    ask = tool_ask(key="same")
    first = await desk.reserve(ask=ask)
    for caller in (other_caller(principal="1002"), other_caller(tenant="rival")):
        assert (
            await desk.ledger.find(
                msgspec.structs.replace(first.key, principal=caller.principal, tenant=caller.tenant), ask.digest
            )
            is None
        )
        assert isinstance(await desk.admit(ask=ask, caller=caller), Reservation)
    cancel = replace(ask.tool, name="cancel_order")
    assert isinstance(await desk.admit(ask=tool_ask(key="same", tool=cancel)), Reservation)


async def test_an_operation_is_shown_to_its_caller_only(desk):
    """Attack row 2: another's is as absent as none."""
    reservation = await desk.reserve()
    shown = await desk.ledger.get(reservation.operation, CALLER)
    assert (shown.id, shown.state, shown.intent) == (reservation.operation, State.DISPATCHED, reservation.intent)
    assert await desk.ledger.get("op-none", CALLER) is None
    assert await desk.ledger.get(reservation.operation, other_caller(principal="1002")) is None
    assert await desk.ledger.get(reservation.operation, other_caller(tenant="rival")) is None


async def test_a_stored_operation_is_what_was_told(desk):
    ask = tool_ask(key="same")
    reservation = await desk.reserve(ask=ask)
    settled = await desk.settle(reservation)
    assert await desk.ledger.get(reservation.operation, CALLER) == settled
    assert (settled.key, settled.version, settled.fingerprint) == (reservation.key, "1", ask.digest)
    assert (settled.rules, settled.policy_hash) == (reservation.permit.rules, reservation.permit.policy_hash)
    assert settled.lease_until_unix_us - settled.created_unix_us == 30_000_000
    assert settled.created_unix_us == desk.clock.now_us


async def test_chats_and_counts_are_operations_too(desk):
    chat = await desk.reserve(ask=chat_ask())
    counted = await desk.reserve(
        ask=CountAsk(model="gemini", conversation=chat.permit.ask.conversation, digest=b"n" * 32)
    )
    for reservation in (chat, counted):
        await desk.settle(reservation, Succeeded(result=b'{"finish":"stop"}'))
    assert desk.rows("SELECT kind, tool, run FROM operations ORDER BY number") == [
        ("chat", "chat:gemini", "run-1"),
        ("count", "count:gemini", ""),
    ]


async def test_a_refused_claim_leaves_nothing(desk):
    """All claims or none, in the given order; the first that does not fit is named."""
    stored = len(desk.records_stored())
    refusal = await desk.admit(claims=[claim(amount=3), claim(scope="team:desk", limit=2, amount=3)])
    assert (refusal.kind, refusal.reason) == (Kind.EXHAUSTED, "budget.calls")
    for word in ("team:desk", "day:2026-11-29", "2 calls", "2 are left", "needs 3", "next window", "operator"):
        assert word in refusal.sentence
    assert refusal.policy_hash
    assert desk.rows("SELECT (SELECT count(*) FROM balances), (SELECT count(*) FROM operations)") == [(0, 0)]
    assert len(desk.records_stored()) == stored


async def test_a_claim_fits_to_the_last_unit(desk):
    for _ in range(10):
        await desk.reserve(claims=[claim(limit=10)])
    refusal = await desk.admit(claims=[claim(limit=10)])
    assert "0 are left" in refusal.sentence
    await desk.reserve(claims=[claim(limit=11)])


async def test_a_budget_for_ever_has_no_next_window(desk):
    refusal = await desk.admit(claims=[claim(window="total", limit=0)])
    assert "next window" not in refusal.sentence


async def test_exposure_is_a_limit_and_no_budget(desk):
    await desk.reserve(claims=[claim(scope="account:A", unit=Unit.EXPOSURE, window="total", limit=100, amount=70)])
    refusal = await desk.admit(
        claims=[claim(scope="account:A", unit=Unit.EXPOSURE, window="total", limit=100, amount=31)]
    )
    assert (refusal.kind, refusal.reason) == (Kind.FORBIDDEN, "limit.exposure")
    assert "30 are left" in refusal.sentence


async def test_what_is_unknown_still_counts_against_the_limit(desk):
    reservation = await desk.reserve(claims=[claim(limit=1)])
    await desk.settle(reservation, Unknown(failure=NOBODY_KNOWS))
    assert isinstance(await desk.admit(claims=[claim(limit=1)]), Refusal)


@pytest.mark.parametrize(
    "limit, amount",
    [(LONG_MAX, LONG_MAX + 1), (2**70, 2**70), (2**63, 1), (-1, 0)],
)
async def test_what_has_no_64_bits_fits_nowhere(desk, limit, amount):
    refusal = await desk.admit(claims=[claim(limit=limit, amount=amount)])
    assert refusal.reason == "budget.calls"
    assert desk.rows("SELECT * FROM balances") == []


async def test_sums_do_not_wrap(desk):
    await desk.reserve(claims=[claim(limit=LONG_MAX, amount=LONG_MAX - 1)])
    assert isinstance(await desk.admit(claims=[claim(limit=LONG_MAX, amount=LONG_MAX - 1)]), Refusal)
    await desk.reserve(claims=[claim(limit=LONG_MAX, amount=1)])
    assert desk.balance() == (LONG_MAX, 0)


@pytest.mark.parametrize("claims", [[claim(), claim(limit=5)], [claim(amount=-1)]])
async def test_claims_that_would_spoil_a_balance_are_a_defect(desk, claims):
    with pytest.raises(AdmissionError):
        await desk.admit(claims=claims)
    assert desk.rows("SELECT * FROM balances") == []


async def test_a_reading_needs_no_reservation(desk):
    with pytest.raises(AdmissionError):
        await desk.ledger.admit(
            msgspec.structs.replace(
                desk.admission(),
                permit=msgspec.structs.replace(desk.admission().permit, ask=ReadAsk(what="list_tools", operation="")),
            )
        )


async def test_the_commits_that_are_counted_had_something_in_them(desk):
    began = desk.ledger.commits
    reservation = await desk.reserve(claims=[claim(limit=3, amount=3)])
    assert desk.ledger.commits == began + 1
    assert isinstance(await desk.admit(claims=[claim(limit=3)]), Refusal)
    assert await desk.ledger.get(reservation.operation, CALLER) is not None
    await desk.ledger.take(rooms(1), lease_ms=1_000)
    assert desk.ledger.commits == began + 1
    await desk.settle(reservation, Failed(failure=NO))
    assert desk.ledger.commits == began + 2


async def test_two_hundred_racing_calls_get_exactly_what_is_there(desk):
    """Attack row 24."""
    scopes = [claim(scope="tenant:acme", limit=1_000), claim(limit=37)]
    verdicts = await asyncio.gather(*(desk.admit(claims=scopes) for _ in range(200)))
    granted = [verdict for verdict in verdicts if isinstance(verdict, Reservation)]
    assert len(granted) == 37
    assert desk.balance() == desk.balance("tenant:acme") == (37, 0)
    assert {verdict.reason for verdict in verdicts if isinstance(verdict, Refusal)} == {"budget.calls"}


async def test_of_racing_calls_with_one_key_one_runs(desk):
    ask = tool_ask(key="same")
    verdicts = await asyncio.gather(*(desk.admit(ask=ask, claims=[claim()]) for _ in range(50)))
    assert sum(isinstance(verdict, Reservation) for verdict in verdicts) == 1
    assert desk.balance() == (1, 0)


SCOPES = ("all", "tenant:acme", "team:desk", "agent:trader", "tool:place_order", "symbol:ACME", "venue:paper")


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_halt_stops_what_is_in_its_scope(desk, scope):
    """Attack row 29: nothing is dispatched after the durable trip."""
    receipt = await desk.halt(scope, reason="the market is closed")
    refusal = await desk.admit(claims=[claim()])
    assert (refusal.kind, refusal.reason) == (Kind.FORBIDDEN, "halt.engaged")
    assert scope in refusal.sentence
    assert "the market is closed" in refusal.sentence
    assert desk.balance() == (0, 0)
    assert desk.records_stored()[receipt.sequence]["kind"] == "halt"
    await desk.halt(scope, engaged=False)
    await desk.reserve()


async def test_halts_of_others_stop_nothing(desk):
    for scope in (
        "tenant:rival",
        "team:other",
        "agent:other",
        "tool:cancel_order",
        "symbol:ACM",
        "venue:live",
        "model:gemini",
    ):
        await desk.halt(scope)
    await desk.reserve()
    assert (await desk.admit(ask=chat_ask())).reason == "halt.engaged"


async def test_a_halt_outlives_a_restart(desk):
    await desk.halt("all")
    await restart(desk)
    assert (await desk.admit()).reason == "halt.engaged"


async def test_a_note_is_durable_and_has_its_place(desk):
    receipt = await desk.refuse("limit.notional")
    assert desk.records_stored()[receipt.sequence]["refusal"]["reason"] == "limit.notional"
    assert (receipt.instance, receipt.boot) == ("gateway-1", "boot-1")


async def test_balances_and_operations_survive_a_restart(desk):
    ask = tool_ask(key="same")
    reservation = await desk.reserve(ask=ask, claims=[claim(limit=10, amount=9)])
    operation = await desk.settle(reservation)
    await restart(desk)
    assert desk.balance() == (0, 9)
    assert await desk.admit(ask=ask) == Replay(operation=operation)
    assert isinstance(await desk.admit(claims=[claim(limit=10, amount=2)]), Refusal)
    await desk.do(claims=[claim(limit=10, amount=1)])


async def test_what_ran_at_the_close_is_unknown_and_stays_held(desk):
    """Nobody will record its outcome, and a paused owner cannot either (attack rows 25 and 27)."""
    reservation = await desk.reserve(claims=[claim(amount=4)])
    late = desk.settlement(reservation)
    await restart(desk)
    operation = await desk.ledger.get(reservation.operation, CALLER)
    assert (operation.state, operation.failure.reason) == (State.UNKNOWN, "operation.lost")
    assert desk.balance() == (4, 0)
    with pytest.raises(AlreadySettledError):
        await desk.ledger.settle(late)
    kinds = [record["kind"] for record in desk.records_stored()]
    assert kinds == ["boot", "intent", "lost", "close", "boot"]


async def test_a_caller_that_leaves_while_it_waits_harms_nothing(desk):
    """Its unit is committed all the same, and the records after it stand where they should."""
    waiting = [asyncio.ensure_future(desk.admit(claims=[claim(limit=1_000)])) for _ in range(40)]  # a test's own tasks
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(one, asyncio.CancelledError) for one in done) == 20
    await desk.do()
    assert desk.balance() == (40, 0)
    assert desk.rows("SELECT count(*) FROM operations") == [(41,)]
    assert desk.verified().ok


async def test_one_failing_call_harms_no_other_of_its_moment(desk):
    reservation = await desk.reserve()
    await desk.settle(reservation)
    done = await asyncio.gather(
        desk.do(claims=[claim()]),
        desk.settle(reservation),
        desk.admit(claims=[claim(limit=0)]),
        desk.admit(claims=[claim(amount=-1)]),
        desk.do(claims=[claim()]),
        return_exceptions=True,
    )
    assert [type(one).__name__ for one in done] == [
        "Operation",
        "AlreadySettledError",
        "Refusal",
        "AdmissionError",
        "Operation",
    ]
    assert desk.balance() == (0, 2)
    assert desk.verified().ok


async def test_reads_see_only_what_is_committed(desk):
    admission = desk.admission()
    admitting = asyncio.ensure_future(desk.ledger.admit(admission))
    seen = await desk.ledger.get(admission.operation, CALLER)
    assert seen is None or desk.rows("SELECT id FROM operations") == [(admission.operation,)]
    await admitting
    assert (await desk.ledger.get(admission.operation, CALLER)).state is State.DISPATCHED


async def test_a_closed_ledger_refuses(desk):
    await desk.ledger.close()
    for call in (desk.admit(), desk.refuse(), desk.ledger.get("op-1", CALLER), desk.ledger.close()):
        with pytest.raises(LedgerUnavailableError):
            await call
    await desk.make().start()
