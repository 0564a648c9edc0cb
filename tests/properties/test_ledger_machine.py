"""Whatever is asked of a ledger in whatever order, restarts and crashes between, it agrees with a few dictionaries."""

import asyncio
import shutil
import sys
import tempfile
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from real_postgres import told

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "ledger"))

from made_accounts import BUY, LONG_ONLY, LOST, SELL, SHORTS, Account, came_to
from made_calls import CALLER, claim, tool_ask
from made_desks import PostgresDesk, SqliteDesk

from gateway.ledger.settlement import AlreadySettledError
from gateway.terms.money import MICRO, Unit
from gateway.terms.operations import Failed, Failure, Replay, Reservation, State, Succeeded, Unknown
from gateway.terms.verdict import Kind

NO = Failure(reason="no", message="No.")
LIMITS = {Unit.CALLS: 12, Unit.TOKENS: 60, Unit.EXPOSURE: 40}
SCOPES = {"tenant:acme": "month:2026-11", "agent:trader": "day:2026-11-29"}
"""Each counts in a window of its own."""


KEYS = st.sampled_from(["k-1", "k-2", "k-3", "k-4"])
ARGUMENTS = st.sampled_from(['{"symbol":"ACME"}', '{"symbol":"OTHER"}'])
CLAIMS = st.lists(
    st.tuples(st.sampled_from(list(SCOPES)), st.sampled_from(list(LIMITS)), st.integers(0, 25)),
    max_size=4,
    unique_by=lambda told: told[:2],
)


def charges():
    """Charges of some units; only exposure is ever given back."""
    amounts = {Unit.CALLS: st.integers(0, 3), Unit.TOKENS: st.integers(0, 30), Unit.EXPOSURE: st.integers(-15, 15)}
    return st.fixed_dictionaries({}, optional=amounts).map(lambda told: tuple(told.items()))


OUTCOMES = st.one_of(
    st.builds(lambda told: Succeeded(result=b'{"ok":true}', charges=told), charges()),
    st.builds(lambda told: Failed(failure=NO, charges=told), charges()),
    st.just(Unknown(failure=NO)),
)


class Operation:
    """An operation of the model."""

    def __init__(self, reservation, claims):
        self.reservation = reservation
        self.holds = {(scope, unit): amount for scope, unit, amount in claims}
        self.charged = {}
        self.state = State.DISPATCHED

    def settle(self, outcome):
        if isinstance(outcome, Unknown):
            self.state = State.UNKNOWN
            return
        self.state = State.SUCCEEDED if isinstance(outcome, Succeeded) else State.FAILED
        told = dict(outcome.charges)
        for (scope, unit), held in self.holds.items():
            self.charged[scope, unit] = told.get(unit, held if self.state is State.SUCCEEDED else 0)
        self.holds = {}


class Ledgers(RuleBasedStateMachine):
    """A ledger and its model."""

    @initialize()
    def start(self):
        self.runner = asyncio.Runner()
        self.desk = self.new_desk()
        self.by_key = {}
        self.notes = 0
        self.boots = 1
        self.traders = [Account(agent="careful", limits=LONG_ONLY), Account(agent="bold", limits=SHORTS)]
        self.trades = 0
        self.run(self.desk.make().start())

    def run(self, work):
        return self.runner.run(work)

    def balance(self, scope, unit):
        operations = self.by_key.values()
        held = sum(one.holds.get((scope, unit), 0) for one in operations)
        return held, sum(one.charged.get((scope, unit), 0) for one in operations)

    def fits(self, claims):
        """What is below zero makes no room beyond the limit."""
        return all(self.taken(scope, unit) + amount <= LIMITS[unit] for scope, unit, amount in claims)

    def taken(self, scope, unit):
        held, spent = self.balance(scope, unit)
        return held + max(0, spent)

    @rule(key=KEYS, arguments=ARGUMENTS, claims=CLAIMS)
    def admit(self, key, arguments, claims):
        ask = tool_ask(key=key, arguments=arguments)
        told = [
            claim(scope=scope, unit=unit, window=SCOPES[scope], limit=LIMITS[unit], amount=amount)
            for scope, unit, amount in claims
        ]
        fits = self.fits(claims)
        verdict = self.run(self.desk.admit(ask=ask, claims=told))
        earlier = self.by_key.get(key)
        if earlier is None:
            if fits:
                assert isinstance(verdict, Reservation)
                self.by_key[key] = Operation(verdict, claims)
            else:
                assert verdict.reason in {f"budget.{unit}" for unit in LIMITS} | {"limit.exposure"}
        else:
            self.is_repeat(verdict, earlier, ask)

    def is_repeat(self, verdict, earlier, ask):
        if earlier.reservation.permit.ask.digest != ask.digest:
            assert verdict.kind is Kind.KEY_REUSED
        elif earlier.state is State.DISPATCHED:
            assert verdict.kind is Kind.IN_PROGRESS
        else:
            assert isinstance(verdict, Replay)
            assert (verdict.operation.id, verdict.operation.state) == (earlier.reservation.operation, earlier.state)

    @rule(key=KEYS, arguments=ARGUMENTS)
    def find(self, key, arguments):
        ask = tool_ask(key=key, arguments=arguments)
        operation_key = self.desk.admission(ask=ask).key
        verdict = self.run(self.desk.ledger.find(operation_key, ask.digest))
        if key in self.by_key:
            self.is_repeat(verdict, self.by_key[key], ask)
        else:
            assert verdict is None

    @rule(key=KEYS, outcome=OUTCOMES)
    def settle(self, key, outcome):
        operation = self.by_key.get(key)
        if operation is None:
            return
        if operation.state is not State.DISPATCHED:
            with pytest.raises(AlreadySettledError):
                self.run(self.desk.settle(operation.reservation, outcome))
            return
        stored = self.run(self.desk.settle(operation.reservation, outcome))
        operation.settle(outcome)
        assert stored.state is operation.state

    @rule(
        turn=st.integers(0, 1), side=st.sampled_from([BUY, SELL]), shares=st.integers(1, 9), dollars=st.integers(1, 140)
    )
    def trade(self, turn, side, shares, dollars):
        """One of two agents on one account; a whole number of shares is filled, or nobody knows at the price of 7."""
        trader = self.traders[turn]
        reservation = self.run(trader.order(self.desk, side, shares))
        if not isinstance(reservation, Reservation):
            return
        self.trades += 1
        if dollars == 7:
            self.run(self.desk.settle(reservation, LOST))
            return
        self.run(self.desk.settle(reservation, came_to(reservation, side, shares, shares, price=dollars * MICRO)))
        for one in self.traders:
            one.fill(side, shares)

    @rule(crash=st.booleans())
    def restart(self, crash):
        if crash:
            self.run(self.crash())
            self.desk.clock.now_us += 31_000_000  # what it ran has no lease any more
        else:
            self.run(self.desk.ledger.close())
        self.boots += 1
        self.run(self.desk.make().start())
        for operation in self.by_key.values():
            if operation.state is State.DISPATCHED:
                operation.state = State.UNKNOWN

    def new_desk(self):
        self.folder = Path(tempfile.mkdtemp())
        return SqliteDesk(self.folder / "ledger.db")

    async def crash(self):
        self.desk.crash()

    @rule()
    def note(self):
        self.run(self.desk.refuse())
        self.notes += 1

    @invariant()
    def exposure_is_what_is_open(self):
        """Never below zero, nothing where nothing is open, and the cost of what an agent has open of its own."""
        told = self.desk.rows("SELECT scope, unit, time_window, spent FROM balances")
        spent = {tuple(place): amount for *place, amount in told}
        for scope in ("tenant:acme", "account:paper/main", "agent:careful", "agent:bold"):
            exposure = spent.get((scope, Unit.EXPOSURE, "total"), 0)
            lot = "account:paper/main" if scope.startswith("tenant:") else scope
            position = spent.get((f"{lot}/AAPL", Unit.POSITION, "paper/main"), 0)
            assert exposure == spent.get((f"{lot}/AAPL", Unit.BOOK, "paper/main"), 0)
            assert (exposure > 0) is (position != 0)
        held = self.traders[0].held
        assert spent.get(("account:paper/main/AAPL", Unit.POSITION, "paper/main"), 0) == held * 10**9

    @invariant()
    def balances_are_the_models(self):
        windows = ", ".join(f"'{window}'" for window in SCOPES.values())
        stored = self.desk.rows(f"SELECT scope, unit, held, spent FROM balances WHERE time_window IN ({windows})")
        for scope, unit, held, spent in stored:
            assert (held, spent) == self.balance(scope, Unit(unit))
        places = {place for one in self.by_key.values() for place in (*one.holds, *one.charged)}
        assert places <= {(scope, unit) for scope, unit, _, _ in stored}

    @invariant()
    def operations_are_the_models(self):
        for operation in self.by_key.values():
            stored = self.run(self.desk.ledger.get(operation.reservation.operation, CALLER))
            assert stored.state is operation.state

    @invariant()
    def everything_adds_up(self):
        assert self.desk.checked() == ()
        report = self.desk.verified()
        assert report.ok, report.bad
        told = dict(report.kinds)
        assert (told.get("intent", 0), told.get("refusal", 0), told["boot"]) == (
            len(self.by_key) + self.trades,
            self.notes,
            self.boots,
        )
        assert report.open_count == sum(one.state is State.DISPATCHED for one in self.by_key.values())

    def teardown(self):
        self.run(self.desk.ledger.close())
        self.forget()
        self.runner.close()

    def forget(self):
        shutil.rmtree(self.folder)


class PostgresLedgers(Ledgers):
    """The same in PostgreSQL, a database an example."""

    names = count(1)

    def __init__(self, server):
        super().__init__()
        self.server = server
        self.database = f"machine_{next(self.names)}"

    def new_desk(self):
        self.run(told(self.server, f"CREATE DATABASE {self.database}"))
        return PostgresDesk(self.server.url(self.database))

    async def crash(self):
        await self.desk.crash_now()

    def forget(self):
        self.run(told(self.server, f"DROP DATABASE {self.database} WITH (FORCE)"))


Ledgers.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLedgers = Ledgers.TestCase


def test_postgres_ledgers(postgres_server):
    run_state_machine_as_test(
        lambda: PostgresLedgers(postgres_server),
        settings=settings(
            max_examples=8, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
