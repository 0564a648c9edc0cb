"""One call on its way: the steps that every governed call takes, in the order in which they are taken."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from gateway.call.care import aftercare
from gateway.call.claims import claims
from gateway.call.stations import Stations
from gateway.terms.asks import Ask, ToolAsk, Unformed
from gateway.terms.caller import Caller, Operator
from gateway.terms.evidence import Evidence, Facts, OperatorAct
from gateway.terms.faults import LedgerUnavailableError
from gateway.terms.ids import IdempotencyKey, OperationId, RuleId
from gateway.terms.limits import COMMIT_RESERVE_S, UPSTREAM_RESERVE_S
from gateway.terms.money import Unit
from gateway.terms.operations import (
    Admission,
    Demand,
    Operation,
    OperationKey,
    Outcome,
    Replay,
    Reservation,
    Settlement,
    Succeeded,
    Unknown,
)
from gateway.terms.passage import Passage
from gateway.terms.verdict import APPROVAL_REQUIRED, Hold, Kind, Permit, Refusal, RefusedError, granted

NO_OPERATION: Final = OperationId("")
NO_FACTS: Final[Facts] = MappingProxyType({})
NEEDED_S: Final = COMMIT_RESERVE_S + UPSTREAM_RESERVE_S
"""What the stages after admission take at least."""

LOOK_AFTER_US: Final = 1_000_000
"""When an effect that is unknown or goes on is looked for first."""

_OVER_BUDGET: Final = frozenset({f"budget.{Unit.TOKENS}", f"budget.{Unit.COST}"})
"""Refusals of an amount that a smaller demand may fit under."""

_LATE_S: Final = 0.001
"""A call that ends so shortly before its deadline was ended by it."""

_LATE: Final = Refusal(
    kind=Kind.LATE,
    reason="deadline.passed",
    sentence="The deadline passed before the call was admitted; nothing was sent. Call again with a longer timeout.",
)
_UNREADABLE: Final = Refusal(
    kind=Kind.UNAVAILABLE,
    reason="halt.unreadable",
    sentence="The halt switches could not be read right before the call was sent, so it was not; try again later.",
)
_FAULT: Final = Refusal(
    kind=Kind.INTERNAL,
    reason="gateway.fault",
    sentence="The gateway failed before the call was admitted; nothing was sent.",
)
_OPERATOR: Final = Refusal(
    kind=Kind.FORBIDDEN,
    reason="operator.only",
    sentence="An operator of this gateway is no agent: use OperatorService, or call as an agent's service account.",
)
_FOREIGN: Final = Refusal(
    kind=Kind.FORBIDDEN,
    reason="policy.undecided",
    sentence="The rules decided on another call than this one; tell the operator.",
)


@dataclass(slots=True, kw_only=True)
class Governed:
    """A call of a known caller. What is known of it grows from step to step; what was decided never changes."""

    at: Stations
    passage: Passage
    caller: Caller
    ask: Ask | Unformed
    facts: Facts = field(default_factory=lambda: NO_FACTS)
    """What is known of the world by now: policy, limits and every record see the same."""
    policy_hash: str = ""

    @asynccontextmanager
    async def recorded(self) -> AsyncIterator[None]:
        """Leave a record of why the call goes no further, whatever station or fault of ours ends it inside.

        A ledger that cannot record raises `LedgerUnavailableError`, and then nothing else is answered.
        """
        try:
            yield
        except RefusedError as error:
            answer = await self._note(error.refusal)
            if answer is error.refusal:
                raise
            raise RefusedError(answer) from error
        except asyncio.CancelledError:
            if self.late:
                self.at.effects.start(self._note(_LATE))
            raise
        except LedgerUnavailableError:
            raise
        except Exception:
            await self._note(_FAULT)
            raise

    async def permit(self, ask: Ask, facts: Facts = NO_FACTS) -> Permit:
        """May they; and did a person agree, where the rules ask for one. `facts` are those of this ask."""
        with self.passage.stages.stage("policy"):
            verdict = await self.at.policy.decide(self.caller, ask, facts)
        if isinstance(verdict, Hold):
            # Approvals have no desk yet: what needs a person cannot happen, and the caller is told so.
            verdict = Refusal(
                kind=Kind.FORBIDDEN,
                reason=APPROVAL_REQUIRED,
                sentence="A person must approve this call, and this gateway has no approval desk yet.",
                rules=verdict.rules,
                policy_hash=verdict.policy_hash,
            )
        permit = granted(verdict)
        if permit.caller is not self.caller or permit.ask is not ask:
            raise RefusedError(_FOREIGN)
        self.policy_hash = permit.policy_hash
        return permit

    def key(self, ask: Ask, operation: OperationId = NO_OPERATION) -> OperationKey:
        """What makes a repeat of a call the same call. A call without a key of its own is never a repeat."""
        chosen = ask.key if isinstance(ask, ToolAsk) else IdempotencyKey(operation)
        return OperationKey(tenant=self.caller.tenant, principal=self.caller.principal, tool=ask.name, key=chosen)

    def admission(self, permit: Permit, demand: Demand, lease_ms: int) -> Admission:
        """All that must become true before the effect, or a refusal of a call that cannot end in time."""
        self._refuse_bankrupt()
        operation = OperationId(self.at.ids.new("op"))
        held = claims(permit, demand, operation, self.at.clock.unix_us())
        return Admission(
            permit=permit,
            operation=operation,
            key=self.key(permit.ask, operation),
            claims=held,
            record=self.at.recorder.intent(self.evidence(operation, permit.rules), held),
            lease_ms=lease_ms,
            care=aftercare(permit, demand),
            guards=demand.guards,
        )

    async def admit(self, admission: Admission, lesser: Callable[[], Admission] | None = None) -> Reservation | Replay:
        """Can they pay: the first commit. To be run as an effect, so that a refusal is recorded without its caller.

        Where a budget does not have what is asked for, the `lesser` admission is tried, if there is one.
        """
        async with self.recorded():
            with self.passage.stages.stage("admit"):
                verdict = await self.at.ledger.admit(admission)
                if lesser is not None and isinstance(verdict, Refusal) and verdict.reason in _OVER_BUDGET:
                    verdict = await self.at.ledger.admit(lesser())
            if isinstance(verdict, Refusal):
                raise RefusedError(verdict)
        if isinstance(verdict, Reservation):
            self.passage.reply_headers["gateway-operation"] = verdict.operation
        return verdict

    async def settle(self, reservation: Reservation, outcome: Outcome) -> Operation:
        """Prove it: outcome, charges and record durable in one commit. To be run as an effect.

        Where that fails, the operation stays open and everything held until the recovery has made it durable after
        all, or its lease ends; the caller must not think that nothing happened.
        """
        operation = reservation.operation
        try:
            settlement = self._settlement(reservation, outcome)
            with self.passage.stages.stage("settle"):
                settled = await self._settled(settlement)
        except Exception as error:
            what = type(outcome).__name__.lower()
            self.tell("outcome.record_failed", operation=operation, outcome=what, error=repr(error))
            raise RefusedError(_unrecorded(operation)) from error
        spent = {name: round(spent_ns / 1e6, 3) for name, spent_ns in self.passage.stages.spent_ns().items()}
        self.tell("call.settled", operation=operation, state=settled.state.value, stages_ms=spent)
        return settled

    async def stopped(self, reservation: Reservation, admission: Admission) -> Refusal | None:
        """Right before the effect, once more: why it must not leave after all. What cannot be read stops it."""
        with self.passage.stages.stage("stopped"):
            refusal = await self._halted(reservation, admission)
        if refusal is not None:
            self.tell("call.stopped", operation=reservation.operation, reason=refusal.reason)
        return refusal

    async def may_hedge(self, reservation: Reservation, admission: Admission) -> bool:
        """The same, before a second request of the call leaves: it is an effect like the first one."""
        refusal = await self._halted(reservation, admission)
        if refusal is not None:
            self.tell("hedge.stopped", operation=reservation.operation, reason=refusal.reason)
        return refusal is None

    async def _halted(self, reservation: Reservation, admission: Admission) -> Refusal | None:
        try:
            return await self.at.ledger.stopped(reservation, admission.care.halts)
        except LedgerUnavailableError as error:
            self.tell("halt.unreadable", operation=reservation.operation, error=str(error))
            return _UNREADABLE

    def _settlement(self, reservation: Reservation, outcome: Outcome) -> Settlement:
        record = self.at.recorder.outcome(self.evidence(reservation.operation, reservation.permit.rules), outcome)
        unfinished = isinstance(outcome, Unknown) or (isinstance(outcome, Succeeded) and outcome.live)
        look_us = self.at.clock.unix_us() + LOOK_AFTER_US if unfinished else None
        return Settlement(reservation=reservation, outcome=outcome, record=record, look_unix_us=look_us)

    async def _settled(self, settlement: Settlement) -> Operation:
        try:
            settled = await self.at.ledger.settle(settlement)
        except LedgerUnavailableError:
            self.at.unsettled.keep(settlement)
            raise
        self.at.changes.tell(settled.id)
        return settled

    def evidence(self, operation: OperationId, rules: tuple[RuleId, ...]) -> Evidence:
        """What is known now, for a record."""
        return Evidence(
            request=self.passage.request,
            operation=operation,
            at_unix_us=self.at.clock.unix_us(),
            caller=self.caller,
            ask=self.ask,
            facts=self.facts,
            rules=rules,
            policy_hash=self.policy_hash,
        )

    def tell(self, event: str, **fields: object) -> None:
        """Tell the witness, with what every event of this call says."""
        said = {"request": self.passage.request, "agent": self.caller.agent, "ask": self.ask.name}
        self.at.witness.tell(event, said | fields)

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        left_s = self.passage.left_s()
        return left_s is not None and left_s < _LATE_S

    def _refuse_bankrupt(self) -> None:
        left_s = self.passage.left_s()
        if left_s is None or left_s >= NEEDED_S:
            return
        sentence = (
            f"{max(left_s, 0) * 1000:.0f} ms are left and the call needs at least {NEEDED_S * 1000:.0f} ms; "
            "nothing was sent. Call again with a longer timeout."
        )
        raise RefusedError(Refusal(kind=Kind.LATE, reason="deadline.bankrupt", sentence=sentence))

    async def _note(self, refusal: Refusal) -> Refusal:
        """Make a refusal durable, also when its caller leaves meanwhile; what to answer.

        An agent that is refused too often is told so, and its refusals are recorded in sums.
        """
        recorder, counted = self.at.recorder, self.at.denials.count(self.caller, refusal)
        records: list[bytes] = []
        if counted.sum is not None:
            self.tell("calls.denied", count=counted.sum.count, reasons=counted.sum.reasons)
            records.append(recorder.denied(counted.sum))
        if counted.recorded:
            self.tell("call.refused", reason=refusal.reason, rules=refusal.rules)
            records.append(recorder.refusal(self.evidence(NO_OPERATION, ()), refusal))
        for record in records:
            await self.at.effects.start(self.at.ledger.note(record))
        return counted.answer


async def arrived(at: Stations, passage: Passage, ask: Ask | Unformed) -> Governed:
    """Who is calling, from the token alone (invariant 3); nothing of the request is looked at before."""
    with passage.stages.stage("identity"):
        caller = await at.identity.identify(passage.credentials)
    if isinstance(caller, Refusal):
        raise RefusedError(caller)
    if isinstance(caller, Operator):
        about = ask.about if isinstance(ask, Unformed) else ""
        now_us = at.clock.unix_us()
        act = OperatorAct(request=passage.request, at_unix_us=now_us, operator=caller, what=ask.name, about=about)
        await note_operator(at, act, _OPERATOR)
        raise RefusedError(_OPERATOR)
    return Governed(at=at, passage=passage, caller=caller, ask=ask)


async def note_operator(at: Stations, act: OperatorAct, refusal: Refusal) -> None:
    """Make the refusal of an operator durable, also when it leaves meanwhile."""
    told = {"request": act.request, "operator": act.operator.name, "ask": act.what, "reason": refusal.reason}
    at.witness.tell("call.refused", told)
    await at.effects.start(at.ledger.note(at.recorder.operator_refusal(act, refusal)))


def _unrecorded(operation: OperationId) -> Refusal:
    return Refusal(
        kind=Kind.UNAVAILABLE,
        reason="ledger.outcome_unrecorded",
        sentence="The call was sent and its outcome cannot be recorded now. Repeat it with the same key or ask for its "
        "operation later; never send it under another key.",
        operation_id=operation,
    )
