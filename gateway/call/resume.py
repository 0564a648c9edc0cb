"""A model stream that may be resumed, and its resuming: the same caller comes back for the rest."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from gateway.call.converse import begun
from gateway.call.governed import arrived
from gateway.call.lasting import GONE, LastingStream, LastingStreams, Numbered, Resumable
from gateway.call.prompted import PromptRequest
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
        lasting.make_room()
        stream = LastingStream(lasting, call.caller, passage, mode)
        stream.start(begun(call, request))
    async with aclosing(stream.read(passage, 0)) as events:
        async for event in events:
            yield event


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
    passage.reply_headers["gateway-operation"] = stream.operation
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
