"""What a call needs of each station, and the value that joins them."""

from asyncio import Event, Future
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gateway.call.changes import Changes
from gateway.call.denials import Denials
from gateway.call.keeping import Aftercare, Oversight
from gateway.call.unsettled import Unsettled
from gateway.terms.aftercare import Finding, Watched
from gateway.terms.asks import Ask, ToolAsk, ToolDeclaration, ToolRequest
from gateway.terms.caller import Caller, Credentials, Operator
from gateway.terms.clock import Clock, IdSource
from gateway.terms.conversation import Conversation, Routed, TokenCount
from gateway.terms.evidence import Denied, Evidence, Facts, OperatorAct
from gateway.terms.halts import KnownScopes
from gateway.terms.ids import ModelName, OperationId, ToolName
from gateway.terms.latches import Reset
from gateway.terms.models import Model
from gateway.terms.money import Unit
from gateway.terms.operations import (
    Admission,
    Claim,
    Counted,
    Demand,
    Failed,
    Operation,
    OperationKey,
    Outcome,
    Rate,
    Receipt,
    Rehearsal,
    Replay,
    Reservation,
    Settlement,
    Succeeded,
    Tally,
)
from gateway.terms.overview import Halt, Overview
from gateway.terms.usage import UsageQuery, UsageReport
from gateway.terms.verdict import Hold, Permit, Refusal

Value = TypeVar("Value")


class Identity(Protocol):
    """Who is calling."""

    async def identify(self, credentials: Credentials) -> Caller | Operator | Refusal:
        """The registered agent, or operator, behind a verified token."""
        ...


class Policy(Protocol):
    """May they."""

    async def decide(self, caller: Caller, ask: Ask, facts: Facts) -> Permit | Hold | Refusal:
        """Anything but a clear yes of the rules is a no."""
        ...


class Ledger(Aftercare, Oversight, Protocol):
    """Can they pay, and exactly once."""

    async def find(self, key: OperationKey, digest: bytes) -> Replay | Refusal | None:
        """What an earlier call with this key means for one with this digest; None where there was none."""
        ...

    async def get(self, operation: OperationId, caller: Caller) -> Operation | None:
        """An operation of this caller; another's is as absent as none."""
        ...

    async def admit(self, admission: Admission) -> Reservation | Replay | Refusal:
        """Make key, holds and intent durable in one commit, or nothing of it."""
        ...

    async def stopped(self, reservation: Reservation, halts: tuple[str, ...]) -> Refusal | None:
        """Right before the effect: why it must not leave after all; None if nothing stops it.

        A switch of one of these scopes is set, or the operation has another owner by now. Unreadable is a refusal.
        """
        ...

    async def weigh(self, admission: Admission) -> Refusal | None:
        """What `admit` would refuse this admission for now; nothing is taken and nothing is written."""
        ...

    async def meter(self, rate: Rate) -> Refusal | None:
        """Count one event of a rate in a commit of its own, or refuse it."""
        ...

    async def tally(self, places: tuple[tuple[str, Unit], ...]) -> tuple[Counted, ...]:
        """What is held and charged in the window `total` of these scopes and units, as committed, at one moment."""
        ...

    async def settle(self, settlement: Settlement) -> Operation:
        """Make outcome, charges and record durable in one commit."""
        ...

    async def note(self, record: bytes) -> Receipt:
        """Make a record durable that belongs to no operation, such as a refusal."""
        ...


class Models(Protocol):
    """The model upstreams."""

    def find(self, caller: Caller, name: ModelName) -> Model | Refusal:
        """A configured model that this caller may use."""
        ...

    def offered(self, caller: Caller) -> tuple[Model, ...]:
        """All of them, in the order of their names."""
        ...

    def check(self, model: Model, conversation: Conversation) -> Refusal | None:
        """Refuse, before anything is spent, what this model's upstream cannot do."""
        ...

    def counted(self, model: Model, conversation: Conversation) -> int | None:
        """Tokens of the prompt, if counts of its upstreams are known; asks nobody.

        Without what `uncounted_tokens_bound` is of: no upstream is asked to count that.
        """
        ...

    def stream(
        self,
        reservation: Reservation,
        deadline_ns: int | None,
        may_hedge: Callable[[], Awaitable[bool]] | None = None,
    ) -> AsyncGenerator[Routed, None]:
        """The answer as it comes, and what was tried; raises `UpstreamError`. Closing it aborts the upstream.

        `deadline_ns` is on the clock's monotonic scale: nothing is tried again that could not end before it.
        `may_hedge` is given where the hold covers one more prompt, and asked right before a second request goes out
        beside the first one.
        """
        ...

    async def count(self, reservation: Reservation, deadline_ns: int | None) -> TokenCount:
        """Tokens of the prompt of a `CountAsk`; raises `UpstreamError`."""
        ...


class Tools(Protocol):
    """The tool upstreams."""

    @property
    def upstreams(self) -> tuple[tuple[ToolName, ...], ...]:
        """The names of each upstream's tools: what hangs there must not keep what is looked for elsewhere."""
        ...

    def offered(self, caller: Caller) -> tuple[ToolDeclaration, ...]:
        """The tools that this caller may ask for, in the order of their names."""
        ...

    def ask(self, caller: Caller, request: ToolRequest) -> ToolAsk | Refusal:
        """Read a request strictly and check it against the tool's schema."""
        ...

    async def facts(self, caller: Caller, ask: ToolAsk, tally: Tally) -> Facts | Refusal:
        """What policy and limits must know of the world; reads only. `tally` reads what the ledger counts."""
        ...

    def demand(self, caller: Caller, ask: ToolAsk, facts: Facts) -> Demand | Refusal:
        """Check the hard limits and say what must be held."""
        ...

    async def execute(self, reservation: Reservation) -> Outcome:
        """Do it, at most once. Never raises for anything that the service did."""
        ...

    async def look(self, watched: Watched) -> Finding:
        """Ask by our id what became of an effect, and cancel what is open of it if it is to be withdrawn."""
        ...


class Recorder(Protocol):
    """Prove it: writes what happened as bytes, which the ledger stores and chains."""

    def intent(self, evidence: Evidence, claims: tuple[Claim, ...]) -> bytes:
        """The record that must be durable before the effect."""
        ...

    def outcome(self, evidence: Evidence, outcome: Outcome) -> bytes:
        """The record of how it ended."""
        ...

    def refusal(self, evidence: Evidence, refusal: Refusal) -> bytes:
        """The record of a refused call of a known caller."""
        ...

    def dry_run(self, evidence: Evidence, rehearsal: Rehearsal) -> bytes:
        """The record of a dry run and what it came to."""
        ...

    def denied(self, denied: Denied) -> bytes:
        """The record of refusals that have none of their own."""
        ...

    def replay(self, evidence: Evidence, operation: Operation) -> bytes:
        """The record of a stored answer that was given again."""
        ...

    def operator_refusal(self, act: OperatorAct, refusal: Refusal) -> bytes:
        """The record of a refused call of a known operator."""
        ...

    def halt(self, halt: Halt, act: OperatorAct) -> bytes:
        """The record of a halt switch that an operator set or released."""
        ...

    def unlatched(self, reset: Reset, act: OperatorAct) -> bytes:
        """The record of a latch that an operator reset."""
        ...

    def resolution(self, act: OperatorAct, seen: Overview, outcome: Succeeded | Failed, reason: str) -> bytes:
        """The record of an outcome that an operator decided on."""
        ...

    def finding(self, watched: Watched, outcome: Succeeded | Failed) -> bytes:
        """The record of what was found out later."""
        ...

    def withdrawal(self, operation: Operation) -> bytes:
        """The record that must be durable before an effect of a halted scope is cancelled."""
        ...


class Usage(Protocol):
    """What was used, by the record."""

    async def used(self, query: UsageQuery) -> UsageReport:
        """Calls, tokens and cost. Raises `UsageTooWideError` and `LedgerUnavailableError`."""
        ...


class Witness(Protocol):
    """Tells logs, traces and metrics."""

    def tell(self, event: str, fields: Mapping[str, object]) -> None:
        """One event, named `noun.verb_past`, with its fields. Never raises."""
        ...


class Effects(Protocol):
    """Where effects run, so that a leaving caller cannot cut one in half."""

    def start(self, work: Coroutine[object, object, Value]) -> Future[Value]:
        """Run to the end whatever the caller does; the process waits for it before it stops.

        Who awaits the future and leaves cancels the future, never the work; await one through `asyncio.shield` if its
        result is needed after all.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stations:
    """All that a governed call passes, in the order in which it passes them."""

    identity: Identity
    policy: Policy
    ledger: Ledger
    models: Models
    tools: Tools
    recorder: Recorder
    usage: Usage
    witness: Witness
    effects: Effects
    denials: Denials
    clock: Clock
    ids: IdSource
    changes: Changes
    unsettled: Unsettled
    bell: Event
    """Rung when there is something to look after at once."""
    dry_runs_per_minute: int
    """Of each agent."""
    scopes: KnownScopes
    """What halt switches can stop here."""
