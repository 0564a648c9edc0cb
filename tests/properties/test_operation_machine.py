"""Whatever happens to operations in whatever order, at whichever of the instances, they are where a plain model says.

The model knows no leases table, no searches and no units of work: an operation is a few fields of one object. The
ledger is one instance over a file, or three over one database.
"""

import asyncio
import shutil
import sys
import tempfile
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from real_postgres import told

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "ledger"))

from made_calls import OPERATOR, StillClock, act, claim, rooms, tool_ask
from made_desks import PostgresDesk, SqliteDesk

from gateway.ledger.states import TRANSITIONS
from gateway.terms.faults import AlreadySettledError
from gateway.terms.money import Unit
from gateway.terms.operations import Aftercare, Failed, Failure, Loss, Replay, Reservation, State, Succeeded, Unknown
from gateway.terms.overview import Page
from gateway.terms.verdict import Kind, Refusal

NO = Failure(reason="no", message="No.")
SECOND_US = 1_000_000
LEASE_US = 30 * SECOND_US
"""Of a call, as `made_calls` admits it."""

LOOK_LEASE_MS = 20_000
LIMIT = 9
SYMBOLS = ("A", "B")
EXPOSURE = {"scope": "account:paper", "unit": Unit.EXPOSURE, "window": "total", "limit": LIMIT}
WINDOWS = ("total", "hour:2026-11-29T12", "day:2026-11-29")

KEYS = st.sampled_from(["k-1", "k-2", "k-3", "k-4", "k-5"])
TURNS = st.integers(0, 4)
WAITS = st.sampled_from([0, 1, 31])
AMOUNTS = st.integers(0, 4)
CHARGED = st.integers(-3, 5)
INSTANCES = st.integers(0, 2)
LOSSES = st.sampled_from([Loss.ASK, Loss.ASK, Loss.PERSON, Loss.CHARGE])
ENDINGS = st.sampled_from(["filled", "open", "unknown", "failed", "open", "unknown"])
FINDINGS = st.sampled_from(["filled", "open", "failed", "not yet", "never"])


class Known:
    """An operation of the model."""

    def __init__(self, reservation, loss, symbol, amount, lease_us):
        self.reservation, self.loss, self.symbol, self.held = reservation, loss, symbol, amount
        self.amount, self.charged, self.state = amount, 0, State.DISPATCHED
        self.lease_us, self.owner = lease_us, None
        self.look_us, self.looks, self.marked = None, 0, False

    def become(self, state):
        assert any(move[0] is self.state and after is state for move, after in TRANSITIONS.items())
        self.state = state

    def charge(self, amount):
        self.held, self.charged = 0, amount

    @property
    def going_on(self):
        return self.state in (State.DISPATCHED, State.RECONCILING) or self.look_us is not None


class Operations(RuleBasedStateMachine):
    """A ledger, and what its operations must be."""

    instances = 1

    @initialize(losses=st.lists(LOSSES, min_size=1, max_size=3))
    def start(self, losses):
        """With some operations: what becomes of them is the question, not whether there are any."""
        self.runner = asyncio.Runner()
        self.clock = StillClock()
        self.names = count(1)
        self.place = self.new_place()
        self.desks = [self.desk(number) for number in range(self.instances)]
        self.known, self.taken, self.halted = {}, [], set()
        for desk in self.desks:
            self.run(desk.make().start())
        for number, loss in enumerate(losses, 1):
            self.admit(number, f"k-{number}", "A", 2, loss)

    def run(self, work):
        return self.runner.run(work)

    def at(self, number):
        return self.desks[number % len(self.desks)]

    def new_place(self):
        self.folder = Path(tempfile.mkdtemp())
        return self.folder / "ledger.db"

    def desk(self, number):
        return SqliteDesk(self.place, clock=self.clock, names=self.names)

    @property
    def held(self):
        return sum(one.held for one in self.known.values())

    @property
    def charged(self):
        return sum(one.charged for one in self.known.values())

    @rule(instance=INSTANCES, key=KEYS, symbol=st.sampled_from(SYMBOLS), amount=AMOUNTS, loss=LOSSES)
    def admitted(self, instance, key, symbol, amount, loss):
        self.admit(instance, key, symbol, amount, loss)

    def admit(self, instance, key, symbol, amount, loss):
        desk = self.at(instance)
        desk.care = Aftercare(loss=loss, memo=b"memo", halts=("all", f"symbol:{symbol}"))
        claims = [claim(**EXPOSURE | {"window": window}, amount=amount) for window in WINDOWS]
        verdict = self.run(desk.admit(ask=tool_ask(key=key), claims=claims))
        if self.halted & {"all", f"symbol:{symbol}"}:
            assert verdict.reason == "halt.engaged"
        elif key in self.known:
            self.is_repeat(verdict, self.known[key])
        elif amount and self.held + max(0, self.charged) + amount > LIMIT:  # what is below zero makes no room
            assert verdict.reason == "limit.exposure"
        else:
            assert isinstance(verdict, Reservation)
            self.known[key] = Known(verdict, loss, symbol, amount, self.clock.now_us + LEASE_US)

    def is_repeat(self, verdict, known):
        """The same at every instance: come again while it runs, and else what is stored."""
        if known.state is State.DISPATCHED:
            assert verdict.kind is Kind.IN_PROGRESS
        else:
            assert isinstance(verdict, Replay)
            assert (verdict.operation.id, verdict.operation.state) == (known.reservation.operation, known.state)

    def one(self, turn, state):
        """One of the operations, in that state if there is one."""
        fitting = [one for one in self.known.values() if one.state is state] or list(self.known.values())
        return fitting[turn % len(fitting)]

    @rule(instance=INSTANCES, turn=TURNS)
    def stopped(self, instance, turn):
        """The last look before the effect, wherever it is made."""
        known = self.one(turn, State.DISPATCHED)
        told = self.run(self.at(instance).ledger.stopped(known.reservation, ("all", f"symbol:{known.symbol}")))
        if self.halted & {"all", f"symbol:{known.symbol}"}:
            assert isinstance(told, Refusal)
            assert told.reason == "halt.engaged"
        elif known.state is State.DISPATCHED:
            assert told is None
        else:
            assert told.reason == "operation.lost"

    @rule(instance=INSTANCES, turn=TURNS, ending=ENDINGS, charged=CHARGED, later_s=st.integers(0, 40))
    def settle(self, instance, turn, ending, charged, later_s):
        known = self.one(turn, State.DISPATCHED)
        desk = self.at(instance)
        settlement = desk.settlement(known.reservation, self.outcome(ending, charged))
        look_us = self.clock.now_us + later_s * SECOND_US
        work = desk.ledger.settle(msgspec.structs.replace(settlement, look_unix_us=look_us))
        if known.state is not State.DISPATCHED:
            with pytest.raises(AlreadySettledError):
                self.run(work)
            return
        self.run(work)
        plan = look_us if ending == "open" or (ending == "unknown" and known.loss is Loss.ASK) else None
        known.look_us = 0 if plan is not None and known.marked else plan
        self.ended(known, ending, charged)

    def outcome(self, ending, charged):
        charges = ((Unit.EXPOSURE, charged),)
        match ending:
            case "filled" | "open":
                return Succeeded(result=b"{}", charges=charges, live=ending == "open")
            case "failed":
                return Failed(failure=NO)
            case _:
                return Unknown(failure=NO)

    def ended(self, known, ending, charged):
        if ending == "unknown":
            known.become(State.UNKNOWN)
            return
        known.become(State.FAILED if ending == "failed" else State.SUCCEEDED)
        known.charge(0 if ending == "failed" else charged)

    @rule(instance=INSTANCES, wait_s=WAITS)
    def expire(self, instance, wait_s):
        self.clock.now_us += wait_s * SECOND_US
        lost = self.run(self.at(instance).ledger.expire())
        now_us = self.clock.now_us
        model = [
            one
            for one in self.known.values()
            if one.state in (State.DISPATCHED, State.RECONCILING) and one.lease_us < now_us
        ]
        assert sorted(lost) == sorted(one.reservation.operation for one in model)
        for one in model:
            self.lose(one)

    def lose(self, one):
        if one.state is State.DISPATCHED and one.loss is Loss.CHARGE:
            one.become(State.FAILED)
            one.charge(one.amount)
            return
        asked = one.state is State.RECONCILING or one.loss is Loss.ASK
        one.become(State.UNKNOWN)
        one.look_us = self.clock.now_us if asked else None

    @precondition(lambda self: any(one.look_us is not None for one in self.known.values()))
    @rule(instance=INSTANCES, most=st.integers(1, 3), wait_s=WAITS)
    def take(self, instance, most, wait_s):
        """Each instance gets what is due, withdrawals first and then what is longest due, and none what another has."""
        self.clock.now_us += wait_s * SECOND_US
        desk = self.at(instance)
        taken = self.run(desk.ledger.take(rooms(most), lease_ms=LOOK_LEASE_MS))
        due = [one for one in self.known.values() if one.look_us is not None and one.look_us <= self.clock.now_us]
        due.sort(key=lambda one: one.look_us)
        due = [one for marked in (True, False) for one in [one for one in due if one.marked is marked][:most]]
        assert [one.operation.id for one in taken] == [one.reservation.operation for one in due]
        lease_us = self.clock.now_us + LOOK_LEASE_MS * 1_000
        for watched, one in zip(taken, due, strict=True):
            assert (watched.looks, watched.withdraw, dict(watched.held)) == (
                one.looks,
                one.marked,
                {Unit.EXPOSURE: one.amount},
            )
            if one.state is State.UNKNOWN:
                one.become(State.RECONCILING)
                one.lease_us, one.look_us = lease_us, None
            else:
                one.look_us = lease_us
            one.owner = watched.fence
            self.taken.append((watched, one))

    @precondition(lambda self: self.taken)
    @rule(instance=INSTANCES, turn=TURNS, found=FINDINGS, charged=CHARGED, later_s=st.integers(0, 40))
    def find_out(self, instance, turn, found, charged, later_s):
        """By whichever look: only the last owner's counts."""
        watched, one = self.taken[-1 - turn % len(self.taken)]
        desk, look_us = self.at(instance), self.clock.now_us + later_s * SECOND_US
        plan = look_us if found in ("open", "not yet") else None
        if found in ("not yet", "never"):
            work = desk.ledger.postpone(watched, plan)
        else:
            outcome = self.outcome(found, charged)
            work = desk.ledger.conclude(watched, outcome, desk.records.finding(watched, outcome), plan)
        if not self.owns(watched, one):
            with pytest.raises(AlreadySettledError):
                self.run(work)
            return
        self.run(work)
        with pytest.raises(AlreadySettledError):
            self.run(desk.ledger.postpone(watched, look_us))  # what was given back is nobody's
        one.owner = None
        one.look_us = 0 if plan is not None and one.marked and not watched.withdraw else plan
        if found in ("not yet", "never"):
            one.looks += 1
            if watched.lost:
                one.become(State.UNKNOWN)
            return
        same = not watched.lost and found == "open" and charged == one.charged
        one.looks = one.looks + 1 if same else 0
        if watched.lost:
            self.ended(one, found, charged)
        else:
            # The answer that was stored stays; what it cost is what it was in the end.
            one.charge(0 if found == "failed" else charged)

    def owns(self, watched, one):
        if one.owner != watched.fence:
            return False
        return one.state is (State.RECONCILING if watched.lost else State.SUCCEEDED)

    @rule(instance=INSTANCES, turn=TURNS, happened=st.booleans(), charged=CHARGED)
    def resolve(self, instance, turn, happened, charged):
        known = self.one(turn, State.UNKNOWN)
        ledger, records = self.at(instance).ledger, self.at(instance).records
        seen = self.run(ledger.shown(known.reservation.operation))
        outcome = self.outcome("filled" if happened else "failed", charged)
        told = act("resolve_operation", seen.operation.id)
        record = records.resolution(told, seen, outcome, f"said {OPERATOR.name}")
        if known.state is not State.UNKNOWN:
            with pytest.raises(AlreadySettledError):
                self.run(ledger.resolve(seen, outcome, record))
            return
        self.run(ledger.resolve(seen, outcome, record))
        known.become(State.SUCCEEDED if happened else State.FAILED)
        known.charge(charged if happened else 0)
        known.look_us = None

    @rule(instance=INSTANCES, scope=st.sampled_from(["all", "symbol:A"]), engaged=st.sampled_from([True, False, False]))
    def halt(self, instance, scope, engaged):
        self.run(self.at(instance).halt(scope, engaged=engaged))
        (self.halted.add if engaged else self.halted.discard)(scope)
        for one in self.known.values():
            marked = one.state is State.UNKNOWN or one.going_on
            if self.halted & {"all", f"symbol:{one.symbol}"} and marked and not one.marked:
                one.marked, one.looks = True, 0
                given_up = one.state is State.UNKNOWN and one.loss is Loss.ASK and one.look_us is None
                if one.look_us is not None or given_up:
                    one.look_us = self.clock.now_us if given_up else min(one.look_us, self.clock.now_us)

    @invariant()
    def all_is_as_the_model_says(self):
        for desk in self.desks:
            listed = {
                one.operation.id: (one.operation.state, one.look_unix_us, one.looks, one.needs_person)
                for one in self.run(desk.ledger.listed(Page(size=50)))
            }
            assert listed == {
                one.reservation.operation: (
                    one.state,
                    one.look_us,
                    one.looks,
                    one.state is State.UNKNOWN and one.look_us is None,
                )
                for one in self.known.values()
            }

    @invariant()
    def nothing_is_held_or_charged_but_what_the_model_says(self):
        balances = self.desks[0].rows("SELECT held, spent FROM balances WHERE scope = ?", "account:paper")
        assert set(balances) == {(self.held, self.charged)}
        assert len(balances) == len(WINDOWS)
        assert self.desks[0].checked() == ()

    def teardown(self):
        for desk in self.desks:
            self.run(desk.ledger.close())
        assert self.desks[0].verified().ok
        self.forget()
        self.runner.close()

    def forget(self):
        shutil.rmtree(self.folder)


class PostgresOperations(Operations):
    """The same at three instances of one database."""

    instances = 3
    databases = count(1)

    def __init__(self, server):
        super().__init__()
        self.server = server
        self.database = f"operations_{next(self.databases)}"

    def new_place(self):
        self.run(told(self.server, f"CREATE DATABASE {self.database}"))
        return self.server.url(self.database)

    def desk(self, number):
        return PostgresDesk(self.place, clock=self.clock, names=self.names, instance=f"gateway-{number + 1}")

    def forget(self):
        self.run(told(self.server, f"DROP DATABASE {self.database} WITH (FORCE)"))


Operations.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestOperations = Operations.TestCase


def test_postgres_operations(postgres_server):
    run_state_machine_as_test(
        lambda: PostgresOperations(postgres_server),
        settings=settings(
            max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
