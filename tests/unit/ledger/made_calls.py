"""Callers, asks and admissions for the tests of ledger and audit, and a ledger joined with the real audit."""

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count

import msgspec

from gateway.audit.chain import BootChain
from gateway.audit.records import Records
from gateway.ledger import sqlite
from gateway.ledger.sqlite import SqliteLedger
from gateway.terms.aftercare import Room
from gateway.terms.asks import ChatAsk, Effect, Idempotency, ToolAsk, ToolDeclaration, tool_digest
from gateway.terms.caller import Caller, Operator
from gateway.terms.conversation import Conversation, Speaker, Text, Turn
from gateway.terms.evidence import Evidence, OperatorAct
from gateway.terms.money import Unit
from gateway.terms.operations import (
    Admission,
    Aftercare,
    Claim,
    Loss,
    OperationKey,
    Reservation,
    Settlement,
    Similar,
    Succeeded,
)
from gateway.terms.overview import Halt
from gateway.terms.strict_json import frozen, strict_object
from gateway.terms.verdict import Kind, Permit, Refusal

NOON_US = 1_795_953_600_000_000  # 2026-11-29T12:00:00Z
SECRET = b"s" * 32
INSTANCE = "gateway-1"


@dataclass
class StillClock:
    """A clock that moves when told to."""

    now_us: int = NOON_US

    def unix_us(self):
        return self.now_us

    def monotonic_ns(self):
        return self.now_us * 1000


CALLER = Caller(
    principal="1001",
    email="trader@example.iam.gserviceaccount.com",
    agent="trader",
    team="desk",
    tenant="acme",
    role="trader",
    models=frozenset({"gemini"}),
    tools=frozenset({"place_order"}),
    budgets=(),
    limits=None,
)

PLACE_ORDER = ToolDeclaration(
    name="place_order",
    version="1",
    description="Place an order.",
    arguments_schema="{}",
    effect=Effect.IRREVERSIBLE,
    idempotency=Idempotency.NATIVE_KEY,
    timeout_ms=5_000,
    redacted=frozenset(),
    hash="ab" * 32,
)


CARE = Aftercare(
    loss=Loss.ASK,
    memo=b"memo",
    halts=("all", "tenant:acme", "team:desk", "agent:trader", "tool:place_order", "symbol:ACME", "venue:paper"),
)


STREAM_CARE = Aftercare(loss=Loss.CHARGE, halts=("all", "tenant:acme", "team:desk", "agent:trader", "model:gemini"))
OPERATOR = Operator(principal="9", email="oncall@example.iam.gserviceaccount.com", name="oncall")


def act(what="set_halt", about="all"):
    return OperatorAct(request="req-1", at_unix_us=NOON_US, operator=OPERATOR, what=what, about=about)


def tool_ask(key="k-1", arguments='{"symbol":"ACME"}', tool=PLACE_ORDER, run="run-1"):
    data = arguments.encode()
    return ToolAsk(
        tool=tool,
        arguments_bytes=data,
        arguments=frozen(strict_object(data, size_max=1 << 20)),
        key=key,
        run=run,
        digest=tool_digest(tool.name, tool.version, data),
    )


def chat_ask(prompt="my secret plan", digest=b"c" * 32):
    turns = (Turn(speaker=Speaker.USER, parts=(Text(text=prompt),)),)
    return ChatAsk(
        model="gemini",
        conversation=Conversation(system_instruction="", turns=turns),
        max_output_tokens=100,
        input_tokens_bound=50,
        run="run-1",
        digest=digest,
    )


def claim(scope="agent:trader", unit=Unit.CALLS, window="day:2026-11-29", limit=10, amount=1):
    return Claim(scope=scope, unit=unit, window=window, limit=limit, amount=amount)


def evidence(ask, operation="op-1", caller=CALLER, facts=None, at_us=NOON_US):
    return Evidence(
        request="req-1",
        operation=operation,
        at_unix_us=at_us,
        caller=caller,
        ask=ask,
        facts=facts or {},
        rules=("allow-trading",),
        policy_hash="f0" * 32,
    )


@dataclass
class Desk:
    """A ledger in a file, and what is needed to use it; every start is a boot of its own."""

    path: object
    clock: StillClock = field(default_factory=StillClock)
    boots: object = field(default_factory=lambda: count(1))
    names: object = field(default_factory=lambda: count(1))
    instance: str = INSTANCE
    records: Records = None
    ledger: SqliteLedger = None
    care: Aftercare = CARE

    def make(self):
        boot = f"boot-{next(self.boots)}"
        self.records = Records(clock=self.clock, instance=self.instance, boot=boot, redaction_key=SECRET)
        self.ledger = self.made(clock=self.clock, chain=BootChain(self.instance, boot), diary=self.records)
        return self.ledger

    def made(self, **parts):
        return SqliteLedger(self.path, **parts)

    @asynccontextmanager
    async def open(self):
        await self.make().start()
        try:
            yield self.ledger
        finally:
            await self.ledger.close()

    def crash(self):
        """What a killed process leaves: no closing record, and no lock."""
        opened, self.ledger._opened = self.ledger._opened, None
        sqlite._let_go(opened)

    def admission(self, ask=None, claims=(), caller=CALLER, key=None, operation=None, guards=()):
        operation = operation or f"op-{next(self.names)}"
        ask = ask or tool_ask(key=operation)
        chosen = key or (ask.key if isinstance(ask, ToolAsk) else operation)
        told = evidence(ask, operation, caller)
        return Admission(
            permit=Permit(caller=caller, ask=ask, rules=told.rules, policy_hash=told.policy_hash),
            operation=operation,
            key=OperationKey(tenant=caller.tenant, principal=caller.principal, tool=ask.name, key=chosen),
            claims=tuple(claims),
            record=self.records.intent(told, tuple(claims)),
            lease_ms=30_000,
            care=msgspec.structs.replace(
                self.care if isinstance(ask, ToolAsk) else STREAM_CARE,
                similar=tuple(guard for guard in guards if isinstance(guard, Similar)),
            ),
            guards=tuple(guards),
        )

    async def admit(self, **wanted):
        return await self.ledger.admit(self.admission(**wanted))

    async def reserve(self, **wanted) -> Reservation:
        verdict = await self.admit(**wanted)
        assert isinstance(verdict, Reservation), verdict
        return verdict

    def settlement(self, reservation, outcome=None):
        outcome = outcome or Succeeded(result=b'{"status":"filled"}')
        told = evidence(reservation.permit.ask, reservation.operation, reservation.permit.caller)
        return Settlement(reservation=reservation, outcome=outcome, record=self.records.outcome(told, outcome))

    async def settle(self, reservation, outcome=None):
        return await self.ledger.settle(self.settlement(reservation, outcome))

    async def do(self, **wanted):
        """Admit and settle."""
        return await self.settle(await self.reserve(**wanted))

    async def halt(self, scope, *, engaged=True, reason="no"):
        halt = Halt(scope=scope, engaged=engaged, reason=reason, by="oncall")
        return await self.ledger.halt(halt, self.records.halt(halt, act(about=scope)))

    async def refuse(self, reason="policy.denied"):
        refusal = Refusal(kind=Kind.FORBIDDEN, reason=reason, sentence="Ask the operator.")
        return await self.ledger.note(self.records.refusal(evidence(tool_ask(), ""), refusal))


def rooms(most):
    """Room for so many withdrawals and as many looks, of all tools."""
    return tuple(Room(withdraw=withdraw, most=most) for withdraw in (True, False))


def other_caller(**changes):
    return replace(CALLER, **changes)


def members(record):
    return json.loads(record)
