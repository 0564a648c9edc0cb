"""The steps that a model stream and a token count share: a prompt's form, and its admission."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.call.declared import chosen, declared
from gateway.call.failures import LEFT_BEFORE
from gateway.call.governed import Governed
from gateway.terms.asks import RunTools, ToolDeclaration
from gateway.terms.conversation import Conversation
from gateway.terms.ids import ModelName, RunId
from gateway.terms.models import Model
from gateway.terms.operations import Admission, Failed, Failure, Replay, Reservation
from gateway.terms.verdict import RefusedError, granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a model call says, in its form."""

    conversation: Conversation
    run: RunId
    digest: bytes
    """See `ChatAsk.digest`."""
    run_tools: RunTools | None = None
    tools: tuple[ToolDeclaration, ...] = ()
    """What `run_tools` names; known when its caller is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRequest:
    """A model call as received: nothing checked yet."""

    model: str
    read: Callable[[], Prompt]
    """Reads it, once its caller is known; raises `RefusedError` for what has not the form."""


def prompted(call: Governed, request: PromptRequest) -> tuple[Model, Prompt]:
    """The model and the prompt, or a refusal of what this model cannot do, before anything is spent."""
    with call.passage.stages.stage("form"):
        model = granted(call.at.models.find(call.caller, ModelName(request.model)))
        prompt = request.read()
        if prompt.run_tools is not None:
            tools = chosen(call.at.tools.offered(call.caller), prompt.run_tools)
            prompt = replace(prompt, tools=tools, conversation=declared(prompt.conversation, tools))
        granted(call.at.models.check(model, prompt.conversation))
    return model, prompt


async def reserved(call: Governed, admission: Admission, lesser: Callable[[], Admission] | None = None) -> Reservation:
    """Admit; see `Governed.admit`. A caller that leaves while the commit is under way leaves no hold behind."""
    admitting = call.at.effects.start(call.admit(admission, lesser))
    try:
        verdict = await asyncio.shield(admitting)
    except asyncio.CancelledError:
        call.at.effects.start(_undone(call, admitting))
        raise
    if isinstance(verdict, Replay):
        raise TypeError("a call without a key of its own cannot be a repeat")
    return verdict


async def unstopped(call: Governed, reservation: Reservation, admission: Admission) -> None:
    """Raise `RefusedError`, with the hold settled, if a switch was set since the call was admitted."""
    try:
        stopped = await call.stopped(reservation, admission)
    except asyncio.CancelledError:
        call.at.effects.start(call.settle(reservation, LEFT_BEFORE))
        raise
    if stopped is not None:
        failure = Failure(reason=stopped.reason, message=stopped.sentence)
        await call.at.effects.start(call.settle(reservation, Failed(failure=failure)))
        raise RefusedError(stopped)


async def _undone(call: Governed, admitting: "asyncio.Future[Reservation | Replay]") -> None:
    verdict = await admitting
    if isinstance(verdict, Reservation):
        await call.settle(verdict, LEFT_BEFORE)
