"""What an operator does: who is it, is it well formed, make it durable with its record."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.call.governed import Governed, note_operator
from gateway.call.stations import Stations
from gateway.terms.asks import Unformed
from gateway.terms.caller import Operator
from gateway.terms.evidence import OperatorAct
from gateway.terms.halts import KnownScopes, reason_fault, scope_fault
from gateway.terms.latches import Latched, Reset
from gateway.terms.operations import Receipt
from gateway.terms.overview import Halt, HaltStanding
from gateway.terms.passage import Passage
from gateway.terms.verdict import Kind, Refusal, RefusedError, Violation, malformed

_NO_OPERATOR: Final = Refusal(
    kind=Kind.FORBIDDEN,
    reason="operator.required",
    sentence="Only an operator of this gateway may do this, and an agent never is one; the attempt is on record.",
)
_NO_LATCH: Final = Refusal(
    kind=Kind.NOT_FOUND,
    reason="latch.unknown",
    sentence="No latch stands in this scope; ListLatches shows those that do.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operated:
    """A call of a known operator."""

    at: Stations
    passage: Passage
    act: OperatorAct

    @property
    def operator(self) -> Operator:
        """Whose call it is."""
        return self.act.operator

    @asynccontextmanager
    async def recorded(self) -> AsyncIterator[None]:
        """Leave a record of a refusal inside."""
        try:
            yield
        except RefusedError as error:
            await note_operator(self.at, self.act, error.refusal)
            raise

    def tell(self, event: str, **fields: object) -> None:
        """Tell the witness, with what every event of this call says."""
        said = {"request": self.act.request, "operator": self.operator.name, "ask": self.act.what}
        self.at.witness.tell(event, said | {"about": self.act.about} | fields)


async def operating(at: Stations, passage: Passage, what: str, about: str = "") -> Operated:
    """Who is operating, from the token alone; an agent is refused, on record."""
    with passage.stages.stage("identity"):
        who = await at.identity.identify(passage.credentials)
    if isinstance(who, Refusal):
        raise RefusedError(who)
    if not isinstance(who, Operator):
        call = Governed(at=at, passage=passage, caller=who, ask=Unformed(what=what, about=about))
        async with call.recorded():
            raise RefusedError(_NO_OPERATOR)
    act = OperatorAct(request=passage.request, at_unix_us=at.clock.unix_us(), operator=who, what=what, about=about)
    return Operated(at=at, passage=passage, act=act)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """A halt switch as it stands now, and the record of it."""

    halt: Halt
    record: Receipt


async def set_halt(at: Stations, passage: Passage, scope: str, reason: str, *, unknown: bool = False) -> Switched:
    """Engage a switch; once this returns, nothing of its scope is admitted.

    A scope that no call here can be in is refused, because a misspelled one would stop nothing; `unknown` sets it all
    the same, as for an instance with another configuration.
    """
    call = await operating(at, passage, "set_halt", scope)
    if not unknown:
        async with call.recorded():
            _refuse_unknown(at.scopes, scope)
    return await _switch(call, scope, reason, engaged=True)


def _refuse_unknown(known: KnownScopes, scope: str) -> None:
    if scope_fault(scope) or known.knows(scope):
        return
    near = known.near(scope)
    meant = f"did you mean {' or '.join(near)}?" if near else "nothing here is called nearly so."
    told = f"no call of this gateway is in {scope}, so nothing was stopped: {meant}"
    raise RefusedError(
        Refusal(
            kind=Kind.MALFORMED,
            reason="halt.unknown_scope",
            sentence=f"{told[0].upper()}{told[1:]} To set it all the same, say that it is unknown"
            " (`gateway halt set --unknown`); `all` stops everything.",
            violations=(Violation(field="scope", description=told),),
        )
    )


async def lift_halt(at: Stations, passage: Passage, scope: str, reason: str) -> Switched:
    """Release a switch."""
    return await _switch(await operating(at, passage, "lift_halt", scope), scope, reason, engaged=False)


async def _switch(call: Operated, scope: str, reason: str, *, engaged: bool) -> Switched:
    async with call.recorded():
        for field, fault in (("scope", scope_fault(scope)), ("reason", reason_fault(reason))):
            if fault:
                raise RefusedError(malformed(field, fault))
    halt = Halt(scope=scope, engaged=engaged, reason=reason, by=call.operator.name)
    record = call.at.recorder.halt(halt, call.act)
    # Whether or not the operator waits for the answer, the switch is thrown.
    with call.passage.stages.stage("commit"):
        receipt = await call.at.effects.start(call.at.ledger.halt(halt, record))
    # What is open in its scope is withdrawn at once, here or by whichever instance is first.
    call.at.bell.set()
    call.tell("halt.set" if engaged else "halt.lifted", reason=reason)
    return Switched(halt=halt, record=receipt)


async def list_halts(at: Stations, passage: Passage) -> tuple[HaltStanding, ...]:
    """Every switch that was ever set, and what of its scope is not at its end yet."""
    await operating(at, passage, "list_halts")
    return await at.ledger.halts()


async def list_latches(at: Stations, passage: Passage) -> tuple[Latched, ...]:
    """The latches that are engaged, in the order of their scopes."""
    await operating(at, passage, "list_latches")
    return await at.ledger.latches()


async def reset_latch(at: Stations, passage: Passage, scope: str, reason: str) -> Receipt:
    """Let executions pass again that a latch stops; their count begins anew."""
    call = await operating(at, passage, "reset_latch", scope)
    async with call.recorded():
        fault = reason_fault(reason)
        if fault:
            raise RefusedError(malformed("reason", fault))
        reset = Reset(scope=scope, reason=reason, by=call.operator.name)
        with passage.stages.stage("commit"):
            receipt = await at.effects.start(at.ledger.reset_latch(reset, at.recorder.unlatched(reset, call.act)))
        if receipt is None:
            raise RefusedError(_NO_LATCH)
    call.tell("latch.reset", reason=reason)
    return receipt
