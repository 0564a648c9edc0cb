"""An operation: one admitted call, from its claim to its end, and what must be held while it runs."""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum

import msgspec

from gateway.terms.gcra import Pace
from gateway.terms.ids import BootId, IdempotencyKey, InstanceId, OperationId, Principal, RuleId, TenantName
from gateway.terms.limits import BarrierLimit
from gateway.terms.money import Unit
from gateway.terms.verdict import Permit, Refusal


class State(StrEnum):
    """Where an operation stands (governance study, section 3.2)."""

    CLAIMED = "claimed"
    """The key is taken; nothing was sent."""
    DISPATCHED = "dispatched"
    """The intent is durable; bytes may have left."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """A definite no: nothing happened."""
    UNKNOWN = "unknown"
    """Nobody knows; everything stays held."""
    RECONCILING = "reconciling"
    """Its service is being asked by our id."""

    @property
    def final(self) -> bool:
        """Whether a repeat gets a stored answer that never changes."""
        return self in (State.SUCCEEDED, State.FAILED)


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Names one durable record of the audit log."""

    instance: InstanceId
    boot: BootId
    sequence: int
    leaf_hash: bytes


class OperationKey(msgspec.Struct, frozen=True, kw_only=True):
    """What makes two calls the same call. Keys of different callers and tools never meet (attack rows 2 and 26)."""

    tenant: TenantName
    principal: Principal
    tool: str
    key: IdempotencyKey


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a tool said no, or why nobody knows. `reason` is a stable code, `message` one sentence."""

    reason: str
    message: str


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation as it is stored."""

    id: OperationId
    key: OperationKey
    version: str
    fingerprint: bytes
    """The digest of the ask that claimed the key."""
    state: State
    result: bytes
    """In state SUCCEEDED: one JSON object."""
    failure: Failure | None
    rules: tuple[RuleId, ...]
    policy_hash: str
    intent: Receipt
    outcome: Receipt | None
    created_unix_us: int
    lease_until_unix_us: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """`amount` of `unit` to be held in `scope` for one `window`, if the sum stays within `limit`.

    `window` is the window's start, for example `day:2026-11-23`, or `total`. An amount of 0 is held too: settling may
    charge it. Exposure and position are claims like any other, but the ledger gives back what reduces them, and so a
    claim of 0 of them passes also beyond the limit: who is over it must be able to come back.
    """

    scope: str
    unit: Unit
    window: str
    limit: int
    amount: int
    steps_ms: tuple[int, ...] = ()
    """The windows of all barriers that anyone has before this balance: what is taken of it counts in their steps."""
    barrier: BarrierLimit | None = None
    """At most such a part of what is left of the limit may be taken in one step of time."""
    passes: bool = False
    """It is held and counted, and passes beyond the limit too: what reduces must be able to."""
    reason: str = ""
    """Of the refusal of one that does not fit; empty: by its unit."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What is held and what is charged of one unit in one scope, over all time."""

    held: int
    spent: int


Tally = Callable[[tuple[tuple[str, Unit], ...]], Awaitable[tuple[Counted, ...]]]
"""Reads what the ledger has committed, for each scope and unit of the window `total`, all at one moment."""


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a stream of them."""

    scope: str
    """Whose messages to whom, for example `agent:trader@alpaca-paper`."""
    pace: Pace
    """Two paces of one scope may differ in their burst: what the larger one has more is a reserve for some."""
    reason: str = "limit.rate"
    """Of the refusal of one that comes too soon."""
    burst_max: int = 0
    """The largest burst in the scope, where that is another's."""


class Similar(msgspec.Struct, frozen=True, kw_only=True):
    """The only one of its kind in a window, whatever its key; one that is known to have failed does not count."""

    scope: str
    """Where nothing like it may have been, for example `account:alpaca-paper/desk`."""
    digest: bytes
    """What makes two of them alike."""
    window_ms: int
    """How far back this one looks; 0: not at all, it is only seen by others."""
    kept_ms: int = 0
    """So long others look back: the longest window that anyone has in this scope."""


class Latch(msgspec.Struct, frozen=True, kw_only=True):
    """One more execution of its kind: with the last one allowed, the scope is latched until a person resets it."""

    scope: str
    """What is latched, for example `agent:trader/place_order`."""
    digest: bytes
    """What makes two executions the same strategy's."""
    executions: int
    window_ms: int


Guard = Rate | Similar | Latch
"""What is counted besides amounts, and checked in the same transaction."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What an ask must hold: `amounts` for every budget of the caller with that unit, and `claims` of its own."""

    amounts: Mapping[Unit, int]
    claims: tuple[Claim, ...] = ()
    guards: tuple[Guard, ...] = ()
    halts: tuple[str, ...] = ()
    """Scopes of halt switches that only the tool knows of: `symbol:NAME`, `venue:NAME`."""
    memo: bytes = b""
    """What the tool's backend needs to find out later what became of the call; empty where it cannot. No secrets."""


class Loss(StrEnum):
    """What is done about an operation whose outcome was lost with its owner."""

    CHARGE = "charge"
    """It is charged in full and flagged: a stream, a count, a read. It left nothing in the world that could be asked
    for."""
    ASK = "ask"
    """The tool's service is asked by our id."""
    PERSON = "person"
    """Nobody can be asked: an operator decides."""


class Aftercare(msgspec.Struct, frozen=True, kw_only=True):
    """What must be durable with an intent, so that any instance can look after the effect."""

    loss: Loss = Loss.PERSON
    memo: bytes = b""
    """What the tool's backend needs to ask for it; never a secret."""
    halts: tuple[str, ...] = ()
    """The scopes of the switches that stop it, and that withdraw it where it goes on."""
    similar: tuple[Similar, ...] = ()
    """What it is the only one of for a while, and is not if it comes out that nothing happened."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """All that must become true at once before an effect."""

    permit: Permit
    operation: OperationId
    key: OperationKey
    claims: tuple[Claim, ...]
    record: bytes
    """The intent, as it will be stored and hashed."""
    lease_ms: int
    """After so long without an outcome, the call counts as lost."""
    care: Aftercare
    guards: tuple[Guard, ...] = ()


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """The proof that all of an admission is durable; only `ledger` makes one. An upstream takes nothing less."""

    operation: OperationId
    permit: Permit
    key: OperationKey
    claims: tuple[Claim, ...]
    fence: int
    """Rises with every owner of the operation; a paused old owner cannot settle."""
    intent: Receipt
    guards: tuple[Guard, ...] = ()


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """The key was used before for the same request: this is what became of it."""

    operation: Operation


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What a call would come to now: the refusal that it would get, or what would be held for it."""

    refusal: Refusal | None = None
    rules: tuple[RuleId, ...] = ()
    policy_hash: str = ""
    claims: tuple[Claim, ...] = ()


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """The tool said yes. `charges` replace what was held; a unit that is absent is charged as held."""

    result: bytes
    charges: tuple[tuple[Unit, int], ...] = ()
    live: bool = False
    """The effect goes on, as an open order does: it is followed until it ends, and then charged for what it was."""


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A definite no: nothing happened, and nothing but `charges` is charged (absent units: 0)."""

    failure: Failure
    charges: tuple[tuple[Unit, int], ...] = ()
    account: bytes = b""
    """What was tried and what it took, one JSON object for the record; empty where there is nothing to tell."""


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """The reply never came: the effect may have happened, so everything stays held."""

    failure: Failure


Outcome = Succeeded | Failed | Unknown


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome and its record, to become durable together."""

    reservation: Reservation
    outcome: Outcome
    record: bytes
    look_unix_us: int | None = None
    """When somebody must look what became of it: of an outcome that nobody knows, or an effect that goes on."""
