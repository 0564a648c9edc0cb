"""A governed model stream: who, may they, can they pay, stream it, settle what it took, prove it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from gateway.call.governed import Governed, identified
from gateway.call.stations import Stations
from gateway.call.tally import Tally
from gateway.terms.asks import ChatAsk, CountAsk
from gateway.terms.conversation import (
    Conversation,
    Ending,
    Finish,
    FunctionCall,
    Text,
    Thought,
    Usage,
    prompt_tokens_bound,
)
from gateway.terms.evidence import Evidence
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.ids import ModelName, RunId
from gateway.terms.limits import CHAT_LEASE_MS
from gateway.terms.models import Model
from gateway.terms.money import MicroUsd, Unit
from gateway.terms.operations import (
    Admission,
    Demand,
    Failed,
    Failure,
    Operation,
    Outcome,
    Replay,
    Reservation,
    Succeeded,
)
from gateway.terms.passage import Passage
from gateway.terms.verdict import Kind, Refusal, RefusedError, granted


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A model call as received."""

    model: ModelName
    conversation: Conversation
    run: RunId
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the answer took, and its price; told once, before `Closed`."""

    usage: Usage
    cost: MicroUsd


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The end of a stream whose outcome is durable."""

    ending: Ending
    operation: Operation


Told = Text | Thought | FunctionCall | Spent | Closed
"""What a caller hears of a stream: the parts as they come, what they cost, and one `Closed`, last."""


async def converse(at: Stations, passage: Passage, request: ChatRequest) -> AsyncGenerator[Told, None]:
    """Yield the model's answer as it comes, or raise `RefusedError` before anything is spent.

    Whatever the ending (the whole answer, a broken upstream, a caller that leaves, a deadline), the upstream is
    closed, the hold settled and one outcome recorded before this generator ends (invariants 5 to 7).
    """
    caller = await identified(at, passage)
    model = granted(at.models.find(caller, request.model))
    granted(at.models.check(model, request.conversation))
    ask = _chat_ask(model, request)
    call = Governed(at=at, passage=passage, caller=caller, ask=ask)
    async with call.recorded():
        permit = await call.permit()
        admission = call.admission(permit, _demand(model, ask), CHAT_LEASE_MS)
        passage.reply_headers["gateway-operation"] = admission.operation
        evidence = call.evidence(admission.operation, permit)
        reservation = await _reserved(call, admission, evidence)
    async with aclosing(_streamed(call, reservation, evidence, Tally(ask=ask, model=model))) as told:
        async for event in told:
            yield event


async def count(at: Stations, passage: Passage, request: ChatRequest) -> int:
    """Tokens of a prompt, counted by its upstream; a governed call that holds one call of the budget."""
    caller = await identified(at, passage)
    model = granted(at.models.find(caller, request.model))
    ask = CountAsk(model=model.name, conversation=request.conversation, digest=request.digest)
    call = Governed(at=at, passage=passage, caller=caller, ask=ask)
    async with call.recorded():
        permit = await call.permit()
        admission = call.admission(permit, Demand(amounts={Unit.CALLS: 1}), CHAT_LEASE_MS)
        evidence = call.evidence(admission.operation, permit)
        reservation = await _reserved(call, admission, evidence)
    outcome: Outcome = _left_before_start()
    try:
        with passage.stages.stage("upstream"):
            tokens = await at.models.count(reservation)
        outcome = Succeeded(result=b'{"input_tokens":%d}' % tokens)
    except UpstreamError as error:
        outcome = Failed(failure=Failure(reason=error.fault.value, message=_sentence(error.fault)))
        raise _refused(call, error) from error
    finally:
        await _settled(call, reservation, outcome, evidence)
    return tokens


async def _streamed(
    call: Governed, reservation: Reservation, evidence: Evidence, tally: Tally
) -> AsyncGenerator[Told, None]:
    outcome: Outcome | None = None
    try:
        async with aclosing(call.at.models.stream(reservation)) as chunks:
            first = call.at.clock.monotonic_ns()
            async for chunk in chunks:
                if first:
                    call.passage.stages.spend("first_chunk", call.at.clock.monotonic_ns() - first)
                    first = 0
                tally.take(chunk)
                match chunk:
                    case Ending():
                        break
                    case Usage():
                        pass  # counted; the caller is told once, at the end
                    case _:
                        yield chunk
                if tally.overspent:
                    tally.ending = Ending(finish=Finish.BUDGET_SPENT, upstream_reason="", model_version="")
                    break
        outcome = _ended(tally)
    except UpstreamError as error:
        outcome = tally.broken(error.fault, _sentence(error.fault))
        raise _refused(call, error) from error
    except Exception:
        outcome = tally.broken(Fault.MALFORMED, "The gateway failed while it read the answer.")
        raise
    finally:
        operation = await _settled(call, reservation, tally.left() if outcome is None else outcome, evidence)
    if tally.ending is None:
        raise _refused(call, UpstreamError(Fault.TRUNCATED, "no ending"))
    yield Spent(usage=tally.usage, cost=tally.model.price.cost(tally.usage))
    yield Closed(ending=tally.ending, operation=operation)


async def _reserved(call: Governed, admission: Admission, evidence: Evidence) -> Reservation:
    """Admit. A caller that leaves while the commit is under way leaves no hold behind."""
    admitting = call.at.effects.start(call.at.ledger.admit(admission))
    with call.passage.stages.stage("admit"):
        try:
            verdict = await asyncio.shield(admitting)
        except asyncio.CancelledError:
            call.at.effects.start(_undone(call, admitting, evidence))
            raise
    if isinstance(verdict, Refusal):
        raise RefusedError(verdict)
    if isinstance(verdict, Replay):
        raise TypeError("a call without a key of its own cannot be a repeat")
    return verdict


async def _undone(
    call: Governed, admitting: "asyncio.Future[Reservation | Replay | Refusal]", evidence: Evidence
) -> None:
    verdict = await admitting
    if isinstance(verdict, Reservation):
        await call.settle(verdict, _left_before_start(), evidence)


async def _settled(call: Governed, reservation: Reservation, outcome: Outcome, evidence: Evidence) -> Operation:
    """Settle to the end, also while this task is being cancelled."""
    return await asyncio.shield(call.at.effects.start(call.settle(reservation, outcome, evidence)))


def _chat_ask(model: Model, request: ChatRequest) -> ChatAsk:
    asked = request.conversation.generation.max_output_tokens
    return ChatAsk(
        model=model.name,
        conversation=request.conversation,
        max_output_tokens=min(asked or model.max_output_tokens, model.max_output_tokens),
        input_tokens_bound=prompt_tokens_bound(request.conversation),
        run=request.run,
        digest=request.digest,
    )


def _demand(model: Model, ask: ChatAsk) -> Demand:
    most = Usage(input_tokens=ask.input_tokens_bound, output_tokens=ask.max_output_tokens)
    return Demand(
        amounts={
            Unit.CALLS: 1,
            Unit.TOKENS: ask.input_tokens_bound + ask.max_output_tokens,
            Unit.COST: model.price.cost(most),
        }
    )


def _ended(tally: Tally) -> Outcome:
    if tally.ending is None:
        return tally.broken(Fault.TRUNCATED, _sentence(Fault.TRUNCATED))
    return tally.completed()


def _left_before_start() -> Failed:
    return Failed(failure=Failure(reason="caller.left", message="The caller left before the upstream was asked."))


_KINDS = {
    Fault.REFUSED: Kind.MALFORMED,
    Fault.MISSING: Kind.NOT_FOUND,
    Fault.QUOTA: Kind.EXHAUSTED,
}

_SENTENCES = {
    Fault.REFUSED: "The model's upstream refused the request; check contents, functions and settings.",
    Fault.DENIED: "The model's upstream does not accept the gateway; tell the operator.",
    Fault.MISSING: "The model's upstream does not know this model any more; tell the operator.",
    Fault.QUOTA: "The model's upstream has no capacity for this call now; try again later.",
    Fault.UNREACHABLE: "The model's upstream cannot be reached now; try again later.",
    Fault.TRUNCATED: "The answer broke off before its end; what you received is not whole.",
    Fault.STALLED: "The model's upstream fell silent; what you received is not whole.",
    Fault.MALFORMED: "The model's upstream answered in a form that cannot be read; what you received is not whole.",
    Fault.TOO_LARGE: "The model's upstream sent an event beyond every bound; what you received is not whole.",
    Fault.CREDENTIALS: "The gateway cannot get a token for the model's upstream now; try again later.",
}


def _sentence(fault: Fault) -> str:
    return _SENTENCES[fault]


def _refused(call: Governed, error: UpstreamError) -> RefusedError:
    call.tell("upstream.failed", fault=error.fault.value, detail=error.detail)
    return RefusedError(
        Refusal(
            kind=_KINDS.get(error.fault, Kind.UNAVAILABLE),
            reason=error.fault.value,
            sentence=_sentence(error.fault),
            retry_after_ms=error.retry_after_ms,
        )
    )
