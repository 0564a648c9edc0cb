"""A governed model stream: who, may they, can they pay, stream it, settle what it took, prove it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Final

from msgspec import structs

from gateway.call.failures import BROKEN, refused
from gateway.call.governed import Governed, arrived
from gateway.call.prompted import Prompt, PromptRequest, prompted, reserved, unstopped
from gateway.call.stations import Stations
from gateway.call.tally import Tally
from gateway.call.told import Closed, Spent, Told
from gateway.call.tool_loop import ToolLoop
from gateway.terms.asks import ChatAsk, Unformed
from gateway.terms.conversation import (
    Attempt,
    FunctionCall,
    Text,
    Thinking,
    Thought,
    Usage,
    counted_tokens_bound,
    estimated_tokens,
    prompt_tokens_bound,
    uncounted_tokens_bound,
)
from gateway.terms.faults import UpstreamError
from gateway.terms.limits import CHAT_LEASE_MS
from gateway.terms.models import Model
from gateway.terms.money import Unit
from gateway.terms.operations import Demand, Outcome, Reservation
from gateway.terms.passage import Passage
from gateway.terms.verdict import RefusedError, malformed

TYPICAL_LEAST: Final = 256
"""So many output tokens are held at least: short answers of some callers do not cut those of all others to nothing."""


async def converse(at: Stations, passage: Passage, request: PromptRequest) -> AsyncGenerator[Told, None]:
    """Yield the model's answer as it comes, or raise `RefusedError` before anything is spent.

    Whatever the ending (the whole answer, a broken upstream, a caller that leaves, a deadline), the upstream is
    closed, the hold settled and one outcome recorded before this generator ends (invariants 5 to 7).
    """
    call = await arrived(at, passage, Unformed(what="chat", about=request.model))
    async with aclosing(await begun(call, request)) as told:
        async for event in told:
            yield event


async def begun(call: Governed, request: PromptRequest) -> AsyncGenerator[Told, None]:
    """The stream of a known caller whose request has its form; see `converse`."""
    async with call.recorded():
        model, prompt = prompted(call, request)
        counted = call.at.models.counted(model, prompt.conversation)
        call.ask = ask = _ask(model, prompt, counted)
    return _told(call, ask, model, prompt)


def _told(call: Governed, ask: ChatAsk, model: Model, prompt: Prompt) -> AsyncGenerator[Told, None]:
    """One turn, or as many as the tools take that the gateway runs."""
    if prompt.run_tools is None:
        return _answered(call, ask, model)
    tools = {str(tool.name): tool for tool in prompt.tools}
    ask_model = partial(_answered, model=model)
    loop = ToolLoop(
        stream=call,
        ask=ask,
        run_tools=prompt.run_tools,
        tools=tools,
        ask_model=ask_model,
        one_tokenizer=model.one_tokenizer,
    )
    return loop.told()


async def _answered(call: Governed, ask: ChatAsk, model: Model) -> AsyncGenerator[Told, None]:
    """One turn of the model: its permit, its reservation, its answer, its outcome."""
    async with call.recorded():
        call.ask = ask
        permit = await call.permit(ask)
        with call.passage.stages.stage("intent"):
            admission = call.admission(permit, _demand(model, ask, hedged=model.hedges), CHAT_LEASE_MS)
    # A budget that has no room for a second prompt at once is none to refuse the call for: it goes without a hedge.
    plain = partial(call.admission, permit, _demand(model, ask), CHAT_LEASE_MS) if model.hedges else None
    reservation = await reserved(call, admission, plain)
    await unstopped(call, reservation, admission)
    hedged = model.hedges and reservation.operation == admission.operation
    may_hedge = partial(call.may_hedge, reservation, admission) if hedged else None
    async with aclosing(_streamed(call, reservation, Tally(ask=ask, model=model), may_hedge)) as told:
        async for event in told:
            yield event


async def _streamed(
    call: Governed, reservation: Reservation, tally: Tally, may_hedge: Callable[[], Awaitable[bool]] | None
) -> AsyncGenerator[Told, None]:
    outcome: Outcome | None = None
    began_ns = call.at.clock.monotonic_ns()
    try:
        async with aclosing(call.at.models.stream(reservation, call.passage.deadline_ns, may_hedge)) as chunks:
            async for chunk in chunks:
                waiting = not tally.started
                tally.take(chunk)
                if isinstance(chunk, Attempt) and chunk.code:
                    event = "attempt.lost" if chunk.lost else "attempt.failed"
                    aside = {"aside_ms": chunk.aside_ms} if chunk.aside_ms else {}
                    call.tell(event, target=chunk.target, fault=chunk.code, ms=chunk.milliseconds, **aside)
                if waiting and tally.started:
                    call.passage.stages.spend("first_chunk", call.at.clock.monotonic_ns() - began_ns)
                if isinstance(chunk, Text | Thought | FunctionCall):
                    yield chunk
                if tally.over:
                    break
        ending = tally.ended()
        outcome = tally.completed(ending)
    except UpstreamError as error:
        outcome = tally.broken(error.fault)
        raise refused(call, error) from error
    except Exception:
        outcome = tally.cut(BROKEN)
        raise
    finally:
        outcome = tally.left(late=call.late) if outcome is None else outcome
        operation = await call.at.effects.start(call.settle(reservation, outcome))
    yield Spent(usage=tally.usage, cost=tally.cost)
    yield Closed(ending=ending, operation=operation, attempts=tally.attempts)


def _ask(model: Model, prompt: Prompt, counted: int | None) -> ChatAsk:
    """The ask. Where a count is kept, it holds that and a little more, with the bound of what was not counted."""
    asked = prompt.conversation.generation.max_output_tokens
    if asked is not None and asked > model.max_output_tokens:
        told = f"this model gives at most {model.max_output_tokens}"
        raise RefusedError(malformed("settings.max_output_tokens", told))
    wanted = asked or model.max_output_tokens
    bound = prompt_tokens_bound(prompt.conversation, model.inputs)
    if counted is not None:
        more = uncounted_tokens_bound(prompt.conversation, model.inputs)
        bound = min(bound, counted_tokens_bound(counted) + more)
        counted += estimated_tokens(more)
    return ChatAsk(
        model=model.name,
        conversation=prompt.conversation,
        max_output_tokens=_held(model, prompt.conversation.generation.thinking, wanted),
        wanted_output_tokens=wanted,
        input_tokens_bound=bound,
        input_tokens_counted=counted,
        run=prompt.run,
        digest=prompt.digest,
    )


def _held(model: Model, thinking: Thinking, wanted: int) -> int:
    """Output tokens to be held, which the upstream is told as its bound: so the answer is cut exactly there.

    Who asks for much thinking is not typical: its thoughts alone may be longer than what is, and Claude takes no bound
    in which they have no room.
    """
    thinks = thinking not in (Thinking.UNSPECIFIED, Thinking.MINIMAL)
    if thinks or not model.holds_typical or model.typical_output_tokens is None:
        return wanted
    return min(wanted, max(model.typical_output_tokens, TYPICAL_LEAST))


def _demand(model: Model, ask: ChatAsk, *, hedged: bool = False) -> Demand:
    """What the dearest target can cost, with the prompt once more for each attempt that may cost it for nothing."""
    prompt = Usage(input_tokens=ask.input_tokens_bound)
    answered = structs.replace(prompt, output_tokens=ask.max_output_tokens)
    spare = model.spoilt_max + hedged
    return Demand(
        amounts={
            Unit.CALLS: 1,
            Unit.TOKENS: (1 + spare) * prompt.input_tokens + answered.output_tokens,
            # Each attempt is charged by itself, and rounded up.
            Unit.COST: model.price.cost(answered) + spare * model.price.cost(prompt),
        }
    )
