"""A model stream that may be resumed, and its resuming: the same caller comes back for the rest."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from gateway.call.converse import begun
from gateway.call.governed import Governed, arrived
from gateway.call.lasting import GONE, LastingStream, LastingStreams, Numbered, RequestName, Resumable
from gateway.call.prompted import Prompt, PromptRequest
from gateway.call.stations import Stations
from gateway.terms.asks import ReadAsk, Unformed
from gateway.terms.ids import OPERATION_ID, OperationId
from gateway.terms.passage import Passage
from gateway.terms.verdict import RefusedError, malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class Resuming:
    """A wish to come back, as received."""

    operation: str
    after: int
    leave: bool
    """End the stream instead."""


async def converse_lasting(
    at: Stations, lasting: LastingStreams, passage: Passage, request: PromptRequest, mode: Resumable
) -> AsyncGenerator[Numbered, None]:
    """See `gateway.call.converse.converse`; the stream can be resumed when the caller goes as `mode` says."""
    call = await arrived(at, passage, Unformed(what="chat", about=request.model))
    async with call.recorded():
        prompt = request.read()
        name = _name(call, prompt)
        stream = lasting.same(name) if name is not None else None
        if stream is None:
            lasting.make_room(call.caller)
            stream = LastingStream(lasting, call.caller, passage, mode)
            stream.request = name
            stream.start(begun(call, replace(request, read=lambda: prompt)))
        else:
            # What was allowed once may have been withdrawn.
            call.ask = ask = ReadAsk(what="get_operation", operation=stream.operation)
            await call.permit(ask)
            at.witness.tell("stream.resumed", {"request": passage.request, "operation": stream.operation, "after": 0})
    async with aclosing(stream.read(passage, 0)) as events:
        async for event in events:
            yield event


def _name(call: Governed, prompt: Prompt) -> RequestName | None:
    """What makes a repeat of the request the same request; None for one without a key."""
    if prompt.run_tools is None or not prompt.run_tools.key:
        return None
    return (call.caller.tenant, call.caller.principal, prompt.run_tools.key, prompt.digest)


async def resume(
    at: Stations, lasting: LastingStreams, passage: Passage, asked: Resuming
) -> AsyncGenerator[Numbered, None]:
    """The rest of a stream after an event, as the same caller has it already; raises `RefusedError`."""
    stream = await _found(at, lasting, passage, asked)
    fields = {"request": passage.request, "operation": stream.operation, "after": asked.after}
    if asked.leave:
        at.witness.tell("stream.left", fields)
        await stream.left()
        return
    at.witness.tell("stream.resumed", fields)
    async with aclosing(stream.read(passage, asked.after)) as events:
        async for event in events:
            yield event


async def _found(at: Stations, lasting: LastingStreams, passage: Passage, asked: Resuming) -> LastingStream:
    call = await arrived(at, passage, Unformed(what="resume_chat", about=asked.operation))
    async with call.recorded():
        if OPERATION_ID.fullmatch(asked.operation) is None:
            raise RefusedError(malformed("operation_id", "take it from the stream's gateway-operation metadata"))
        if asked.after < 0:
            raise RefusedError(malformed("after_sequence", "send the sequence of the last event that you have, or 0"))
        # To the rules it is a question about an operation of the caller's own.
        call.ask = ask = ReadAsk(what="get_operation", operation=OperationId(asked.operation))
        await call.permit(ask)
        stream = lasting.find(ask.operation, call.caller)
        if stream is None:
            raise RefusedError(GONE)
        if not asked.leave:
            stream.check(asked.after)
    return stream
