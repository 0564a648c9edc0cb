"""One model stream over HTTP, whatever its wire: posted, read event by event, verified, and ended with one `Ending`."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import aiohttp

from gateway.llm.authorized_post import AuthorizedPost
from gateway.llm.bodies import BodyTooLargeError, whole_body
from gateway.llm.constraint import Verification, verifier_of
from gateway.llm.event_stream import EventStream, Patience
from gateway.terms.asks import ChatAsk
from gateway.terms.conversation import Chunk, Constraint, Ending, Finish, Text
from gateway.terms.faults import Fault, UpstreamError
from gateway.terms.sse import EVENT_BYTES_MAX

COUNT_BYTES_MAX: Final = 64 * 1024
COUNT_S: Final = 30.0
BYTES_PER_TOKEN: Final = 4 * 1024
"""One event with one token and all that a provider puts around it."""


class Answer(Protocol):
    """Reads the events of one answer; one for each wire."""

    @property
    def ended(self) -> bool:
        """Whether the upstream gave a reason for its end."""
        ...

    def chunks(self, data: bytes) -> list[Chunk]:
        """The chunks of one event; raises `UpstreamError` for an error event or anything that is not of the form."""
        ...

    def end(self) -> Ending:
        """How it ended; only when `ended`. Raises `UpstreamError` if something is missing all the same."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What is sent, and where."""

    url: str
    body: Callable[[], bytes]
    """Made when it is sent and forgotten then: a stream lives long, and its prompt may be large."""
    bytes_max: int
    """Of the reply."""
    constraint: Constraint | None = None


def sending(url: str, body: Callable[[], bytes], ask: ChatAsk) -> Sending:
    """A request for an answer, with the bound that its tokens set."""
    bytes_max = EVENT_BYTES_MAX + ask.max_output_tokens * BYTES_PER_TOKEN
    return Sending(url=url, body=body, bytes_max=bytes_max, constraint=ask.conversation.constraint)


async def streamed(
    post: AuthorizedPost, sent: Sending, answer: Answer, patience: Patience
) -> AsyncGenerator[Chunk, None]:
    """The answer as it comes; ends with exactly one `Ending` or raises `UpstreamError`.

    The upstream is asked for at most so many tokens; one that goes on regardless is ended by what they can be at most,
    in characters (the `answer` counts them) and in bytes.
    """
    verification = Verification(verifier_of(sent.constraint)) if sent.constraint is not None else None
    async with post.answered(sent.url, sent.body()) as reply:
        _refuse_other_forms(reply)
        with EventStream(reply, patience, sent.bytes_max) as stream:
            while (events := await stream.more(whole=answer.ended)) is not None:
                for data in events:
                    for chunk in answer.chunks(data):
                        if verification is not None and isinstance(chunk, Text):
                            verification.take(chunk.text)
                        yield chunk
    if not answer.ended:
        where = "inside an event" if stream.pending else "without a finish reason"
        raise stream.broken(Fault.TRUNCATED, f"the stream ended {where}")
    ending = answer.end()
    if verification is not None and ending.finish is Finish.STOP and not verification.met:
        # Only an answer that calls itself whole must have the form; every other reason says by itself that it has not.
        ending = replace(ending, finish=Finish.CONSTRAINT_UNMET)
    yield ending


async def counted(post: AuthorizedPost, url: str, body: bytes) -> bytes:
    """The body of a short answer, such as a count; raises `UpstreamError`."""
    try:
        async with asyncio.timeout(COUNT_S), post.answered(url, body) as reply:
            return await whole_body(reply, COUNT_BYTES_MAX)
    except TimeoutError as error:
        raise UpstreamError(Fault.STALLED, f"no count within {COUNT_S:g} s") from error
    except aiohttp.ClientError as error:
        raise UpstreamError(Fault.TRUNCATED, repr(error)) from error
    except BodyTooLargeError as error:
        raise UpstreamError(Fault.TOO_LARGE, f"count: {error}") from None


def _refuse_other_forms(reply: aiohttp.ClientResponse) -> None:
    coding = reply.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        raise UpstreamError(Fault.MALFORMED, f"a body coded as {coding[:64]!r}, which nobody asked for")
    if reply.content_type != "text/event-stream":
        raise UpstreamError(Fault.MALFORMED, f"a body of type {reply.content_type[:64]!r} instead of events")
