"""A ledger file as a gateway leaves it, made by the gateway's own ledger and audit; and damage done to it."""

import json
import sqlite3
from contextlib import closing
from itertools import count

from gateway.audit.chain import BootChain
from gateway.audit.records import Records
from gateway.ledger.sqlite import SqliteLedger
from gateway.terms.asks import Effect, Idempotency, ToolAsk, ToolDeclaration, tool_digest
from gateway.terms.caller import Caller
from gateway.terms.evidence import Evidence
from gateway.terms.money import Unit
from gateway.terms.operations import Admission, Aftercare, Claim, OperationKey, Settlement, Succeeded
from gateway.terms.verdict import Kind, Permit, Refusal

TOOL = ToolDeclaration(
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
CALLER = Caller(
    principal="1001",
    email="trader@example.iam.gserviceaccount.com",
    agent="trader",
    team="desk",
    tenant="acme",
    role="trader",
    models=frozenset(),
    tools=frozenset({"place_order"}),
    budgets=(),
    limits=None,
)


class SteppingClock:
    """A millisecond passes between two looks."""

    def __init__(self):
        self._now_us = count(1_795_953_600_000_000, 1_000)  # 2026-11-29T12:00:00Z

    def unix_us(self):
        return next(self._now_us)

    def monotonic_ns(self):
        return next(self._now_us) * 1_000


def asked(number, arguments):
    data = arguments.encode()
    return ToolAsk(
        tool=TOOL,
        arguments_bytes=data,
        arguments=json.loads(arguments),
        key=f"key-{number}",
        run="run-1",
        digest=tool_digest("place_order", "1", data),
    )


async def write(path, *, operations=2, symbol="AAPL", close=True):
    """One boot with `operations` done and one call refused. Records: boot, intent, outcome, ..., refusal, close."""
    clock = SteppingClock()
    records = Records(clock=clock, instance="gateway", boot="boot-1", redaction_key=b"k" * 32)
    ledger = SqliteLedger(path, clock=clock, chain=BootChain("gateway", "boot-1"), diary=records)
    await ledger.start()
    for number in range(1, operations + 1):
        ask = asked(number, json.dumps({"symbol": symbol}))
        evidence = Evidence(
            request=f"req-{number}",
            operation=f"op-{number}",
            at_unix_us=clock.unix_us(),
            caller=CALLER,
            ask=ask,
            facts={},
            rules=("base.trade",),
            policy_hash="f0" * 32,
        )
        claims = (Claim(scope="agent:trader", unit=Unit.CALLS, window="total", limit=1_000_000, amount=1),)
        reservation = await ledger.admit(
            Admission(
                permit=Permit(caller=CALLER, ask=ask, rules=("base.trade",), policy_hash="f0" * 32),
                operation=f"op-{number}",
                key=OperationKey(tenant="acme", principal="1001", tool="place_order", key=ask.key),
                claims=claims,
                record=records.intent(evidence, claims),
                lease_ms=30_000,
                care=Aftercare(),
            )
        )
        outcome = Succeeded(result=b'{"status": "filled"}')
        record = records.outcome(evidence, outcome)
        await ledger.settle(Settlement(reservation=reservation, outcome=outcome, record=record))
    refusal = Refusal(kind=Kind.FORBIDDEN, reason="policy.denied", sentence="Ask the operator.")
    await ledger.note(records.refusal(evidence, refusal))
    if close:
        await ledger.close()


def damage(path, statement, *values):
    """Change the file behind the gateway's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement, values)
