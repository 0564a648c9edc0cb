"""What an operator looks at and decides about operations of others."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.call.operate import Operated, operating
from gateway.call.stations import Stations
from gateway.terms.faults import AlreadySettledError, SettlementError
from gateway.terms.halts import reason_fault
from gateway.terms.ids import OPERATION_ID, BootId, InstanceId, OperationId
from gateway.terms.money import Unit
from gateway.terms.operations import Failed, Failure, Receipt, State, Succeeded
from gateway.terms.overview import Overview, Page
from gateway.terms.passage import Passage
from gateway.terms.verdict import Kind, Refusal, RefusedError, malformed

RECORDS_MAX: Final = 64
"""Of one operation that are shown: the newest endings, and the intent."""

_NONE: Final = Refusal(
    kind=Kind.NOT_FOUND,
    reason="operation.unknown",
    sentence="There is no operation with this id; take it from `gateway operations list`.",
)
_ASKED: Final = Refusal(
    kind=Kind.IN_PROGRESS,
    reason="operation.in_progress",
    sentence="Its service is just being asked what became of it, or it just changed; look at it again.",
    retry_after_ms=1_000,
)
_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A record of an operation: its place and its bytes."""

    receipt: Receipt
    record: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An operation with its records: the intent, then the endings in their order."""

    overview: Overview
    records: tuple[Told, ...]


async def list_operations(at: Stations, passage: Passage, page: Page) -> tuple[Overview, ...]:
    """Operations of everybody, the newest first."""
    await operating(at, passage, "list_operations")
    return await at.ledger.listed(page)


async def show_operation(at: Stations, passage: Passage, named: str) -> Shown:
    """One operation, with its records."""
    call = await operating(at, passage, "show_operation", named)
    async with call.recorded():
        seen = await _seen(call, named)
    return Shown(overview=seen, records=await _records(at, seen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What an operator decides: how it ended, why, and what it cost if not what was held (or nothing)."""

    operation: str
    outcome: State
    reason: str
    charges: tuple[tuple[str, int], ...]


async def resolve_operation(at: Stations, passage: Passage, decided: Resolution) -> Overview:
    """Give an unknown operation its outcome, with the operator's name and reason on record."""
    call = await operating(at, passage, "resolve_operation", decided.operation)
    async with call.recorded():
        outcome = _outcome(call, decided)
        seen = await _seen(call, decided.operation)
        _refuse_known(seen)
        _refuse_unheld(seen, outcome)
        record = at.recorder.resolution(call.act, seen, outcome, decided.reason)
        try:
            # Whether or not the operator waits for the answer, what was decided is decided.
            await at.effects.start(at.ledger.resolve(seen, outcome, record))
        except AlreadySettledError:
            raise RefusedError(_ASKED) from None
        except SettlementError as error:
            raise RefusedError(malformed("charges", str(error))) from None
        at.changes.tell(seen.operation.id)
        call.tell("operation.resolved", outcome=decided.outcome.value, reason=decided.reason)
        return await _seen(call, decided.operation)


async def _seen(call: Operated, named: str) -> Overview:
    if OPERATION_ID.fullmatch(named) is None:
        raise RefusedError(malformed("operation_id", "take it from `gateway operations list`"))
    seen = await call.at.ledger.shown(OperationId(named))
    if seen is None:
        raise RefusedError(_NONE)
    return seen


def _outcome(call: Operated, decided: Resolution) -> Succeeded | Failed:
    if decided.outcome not in (State.SUCCEEDED, State.FAILED):
        raise RefusedError(malformed("outcome", "say SUCCEEDED or FAILED"))
    fault = reason_fault(decided.reason)
    if fault:
        raise RefusedError(malformed("reason", fault))
    charges = _charges(decided.charges)
    if decided.outcome is State.FAILED:
        return Failed(failure=Failure(reason="operation.resolved", message=decided.reason), charges=charges)
    told = {"resolved_by": call.operator.name, "reason": decided.reason}
    return Succeeded(result=json.dumps(told).encode(), charges=charges)


def _charges(told: tuple[tuple[str, int], ...]) -> tuple[tuple[Unit, int], ...]:
    charges: dict[Unit, int] = {}
    for name, amount in told:
        if name not in set(Unit):
            raise RefusedError(malformed("charges", f"write a unit: one of {', '.join(sorted(Unit))}"))
        if Unit(name) in charges:
            raise RefusedError(malformed("charges", f"give {name} once"))
        charges[Unit(name)] = amount
    return tuple(charges.items())


def _refuse_known(seen: Overview) -> None:
    state = seen.operation.state
    if state is State.UNKNOWN:
        return
    if state is State.RECONCILING:
        raise RefusedError(_ASKED)
    why = "it has its outcome" if state.final else "it is under way"
    raise RefusedError(
        Refusal(
            kind=Kind.UNSUPPORTED,
            reason="operation.not_unknown",
            sentence=f"The operation is {state.value}: {why}, so there is nothing to decide.",
        )
    )


def _refuse_unheld(seen: Overview, outcome: Succeeded | Failed) -> None:
    """What is not held has no balance that could be charged: the ledger would charge less than was said."""
    unheld = [unit for unit, _ in outcome.charges if unit not in seen.units]
    if unheld:
        held = ", ".join(sorted(seen.units))
        what = f"charge what it holds: {held}" if held else "leave them out"
        raise RefusedError(malformed("charges", f"the operation holds no {', '.join(unheld)}: {what}"))


async def _records(at: Stations, seen: Overview) -> tuple[Told, ...]:
    """Follow the endings back, each of which names the one before."""
    endings: list[Told] = []
    place = seen.operation.outcome
    while place is not None and len(endings) < RECORDS_MAX:
        told = await _told(at, place)
        if told is None:
            break
        endings.append(told)
        place = _before(told.record)
    intent = await _told(at, seen.operation.intent)
    return (*(() if intent is None else (intent,)), *reversed(endings))


async def _told(at: Stations, place: Receipt) -> Told | None:
    record = await at.ledger.record(place)
    return None if record is None else Told(receipt=place, record=record)


def _before(record: bytes) -> Receipt | None:
    """The ending before, as a record of a later one names it. Our own bytes, but read as if they were not."""
    read: object = msgspec.json.decode(record)
    before = read.get("before") if isinstance(read, Mapping) else None
    if not isinstance(before, Mapping):
        return None
    match before:
        case {"instance": str(instance), "boot": str(boot), "sequence": int(sequence), "leaf": str(leaf)}:
            if _HEX.fullmatch(leaf):
                place = (InstanceId(instance), BootId(boot), sequence)
                return Receipt(instance=place[0], boot=place[1], sequence=place[2], leaf_hash=bytes.fromhex(leaf))
    return None
