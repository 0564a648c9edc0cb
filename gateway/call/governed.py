"""One call on its way: the steps that every governed call takes, in the order in which they are taken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from gateway.call.stations import Stations
from gateway.call.windows import window
from gateway.terms.asks import Ask, ChatAsk, ToolAsk
from gateway.terms.caller import Caller
from gateway.terms.evidence import Evidence
from gateway.terms.ids import IdempotencyKey, OperationId, RunId
from gateway.terms.limits import COMMIT_RESERVE_S, UPSTREAM_RESERVE_S
from gateway.terms.operations import (
    Admission,
    Claim,
    Demand,
    Operation,
    OperationKey,
    Outcome,
    Reservation,
    Settlement,
)
from gateway.terms.passage import Passage
from gateway.terms.verdict import Hold, Kind, Permit, Refusal, RefusedError, granted


async def identified(at: Stations, passage: Passage) -> Caller:
    """Who is calling, from the token alone (invariant 3)."""
    with passage.stages.stage("identity"):
        return granted(await at.identity.identify(passage.credentials))


@dataclass(frozen=True, slots=True, kw_only=True)
class Governed:
    """A call of a known caller that has its form."""

    at: Stations
    passage: Passage
    caller: Caller
    ask: Ask
    facts: dict[str, int | str | bool] = field(default_factory=dict)
    """What is known of the world by now; policy, limits and every record see the same."""

    @asynccontextmanager
    async def recorded(self) -> AsyncIterator[None]:
        """Leave a record of a refusal inside, whatever station gave it."""
        try:
            yield
        except RefusedError as error:
            await self._note_refusal(error.refusal)
            raise

    async def permit(self) -> Permit:
        """May they; and did a person agree, where the rules ask for one."""
        with self.passage.stages.stage("policy"):
            verdict = await self.at.policy.decide(self.caller, self.ask, self.facts)
        if isinstance(verdict, Hold):
            # Approvals have no desk yet: what needs a person cannot happen, and the caller is told so.
            verdict = Refusal(
                kind=Kind.FORBIDDEN,
                reason="approval.required",
                sentence="A person must approve this call, and this gateway has no approval desk yet.",
                rules=verdict.rules,
                policy_hash=verdict.policy_hash,
            )
        return granted(verdict)

    def admission(self, permit: Permit, demand: Demand, lease_ms: int) -> Admission:
        """All that must become true before the effect, or a refusal of a call that cannot end in time."""
        self._refuse_bankrupt()
        operation = OperationId(self.at.ids.new("op"))
        claims = self._claims(demand)
        evidence = self.evidence(operation, permit)
        return Admission(
            permit=permit,
            operation=operation,
            key=self.key(operation),
            claims=claims,
            record=self.at.recorder.intent(evidence, claims),
            lease_ms=lease_ms,
        )

    def key(self, operation: OperationId = OperationId("")) -> OperationKey:  # noqa: B008 - a constant
        """What makes a repeat of this call the same call. A call without a key of its own is never a repeat."""
        chosen = self.ask.key if isinstance(self.ask, ToolAsk) else IdempotencyKey(operation)
        return OperationKey(tenant=self.caller.tenant, principal=self.caller.principal, tool=self.ask.name, key=chosen)

    async def settle(self, reservation: Reservation, outcome: Outcome, evidence: Evidence) -> Operation:
        """Prove it: outcome, charges and record durable in one commit."""
        record = self.at.recorder.outcome(replace(evidence, at_unix_us=self.at.clock.unix_us()), outcome)
        with self.passage.stages.stage("settle"):
            operation = await self.at.ledger.settle(Settlement(reservation=reservation, outcome=outcome, record=record))
        stages = self.passage.stages.spent_ns()
        self.tell(
            "call.settled",
            operation=operation.id,
            state=operation.state.value,
            stages_ms={name: round(spent / 1e6, 3) for name, spent in stages.items()},
        )
        return operation

    def evidence(self, operation: OperationId, permit: Permit | None) -> Evidence:
        """What is known now, for a record."""
        return Evidence(
            request=self.passage.request,
            operation=operation,
            at_unix_us=self.at.clock.unix_us(),
            caller=self.caller,
            ask=self.ask,
            facts=self.facts,
            rules=permit.rules if permit else (),
            policy_hash=permit.policy_hash if permit else "",
        )

    def tell(self, event: str, **fields: object) -> None:
        """Tell the witness, with what every event of this call says."""
        said = {"request": self.passage.request, "agent": self.caller.agent, "ask": self.ask.name}
        self.at.witness.tell(event, said | fields)

    def _refuse_bankrupt(self) -> None:
        left = self.passage.left_s()
        needed = COMMIT_RESERVE_S + UPSTREAM_RESERVE_S
        if left is None or left >= needed:
            return
        sentence = (
            f"{max(left, 0) * 1000:.0f} ms are left and the call needs at least {needed * 1000:.0f} ms; "
            "nothing was sent. Call again with a longer timeout."
        )
        raise RefusedError(Refusal(kind=Kind.LATE, reason="deadline.bankrupt", sentence=sentence))

    def _claims(self, demand: Demand) -> tuple[Claim, ...]:
        run = self.ask.run if isinstance(self.ask, ToolAsk | ChatAsk) else RunId("")
        now_us = self.at.clock.unix_us()
        held = tuple(
            Claim(
                scope=f"run:{self.caller.agent}:{run}" if budget.scope == "run" else budget.scope,
                unit=budget.unit,
                window=window(budget.window, now_us),
                limit=budget.amount,
                amount=demand.amounts[budget.unit],
            )
            for budget in self.caller.budgets
            if budget.unit in demand.amounts and (budget.scope != "run" or run)
        )
        return held + demand.claims

    async def _note_refusal(self, refusal: Refusal) -> None:
        """Shielded: a leaving caller cannot keep a refusal out of the record."""
        record = self.at.recorder.refusal(self.evidence(OperationId(""), None), refusal)
        self.tell("call.refused", reason=refusal.reason, rules=refusal.rules)
        await asyncio.shield(self.at.effects.start(self.at.ledger.note(record)))
