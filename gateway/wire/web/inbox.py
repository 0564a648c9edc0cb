"""The body of one request as it arrives: bounded while reading, and the place where a caller is seen to leave."""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.wire.asgi import Receive
from gateway.wire.errors import EndedError, Ending
from gateway.wire.load import Surroundings
from gateway.wire.message import OneMessage, too_large
from gateway.wire.messages import Form, Messages
from gateway.wire.running import CallerLeftError

HEARD_OUT_BYTES: Final = 64 * 1024
"""What is read of a request that is refused already."""
HEARD_OUT_S: Final = 0.2
"""How long the rest of it is waited for."""


class Inbox:
    """The only reader of one ASGI `receive`."""

    __slots__ = ("_held", "_receive", "_surroundings", "complete")

    def __init__(self, receive: Receive, surroundings: Surroundings) -> None:
        self._receive = receive
        self._surroundings = surroundings
        self._held = 0
        self.complete = False
        """No more of the body follows."""

    async def piece(self) -> bytes:
        """The next piece of the body, possibly empty; raises `CallerLeftError`."""
        event = await self._receive()
        if event["type"] != "http.request":
            raise CallerLeftError
        self.complete = not event.get("more_body", False)
        return bytes(event.get("body", b""))

    async def bare(self, bytes_max: int) -> bytes:
        """The whole body of a request that is one message; raises `EndedError` beyond the bound."""
        body = await self.piece()
        if not self.complete:
            body = await self._joined(body, bytes_max)
        if len(body) > bytes_max:
            raise EndedError(too_large(bytes_max))
        return body

    async def one(self, bytes_max: int, *, gzip: bool) -> bytes:
        """The only enveloped message of a request, inflated; raises `EndedError`."""
        message = OneMessage(bytes_max, gzip=gzip)
        while not self.complete:
            piece = await self.piece()
            message.add(piece)
            if not self.complete:
                self.hold(self._held + len(piece))
        self.hold(0)
        return message.finish()

    async def until_left(self) -> None:
        """Wait until the caller is gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def hear_out(self) -> None:
        """Let a caller that is refused finish a short request; raises `CallerLeftError`.

        Clients may send the end of a body on its own, and some lose an answer that is faster (curl over HTTP/2).
        """
        left = HEARD_OUT_BYTES
        try:
            async with asyncio.timeout(HEARD_OUT_S):
                while not self.complete and left > 0:
                    left -= len(await self.piece())
        except (TimeoutError, EndedError):
            return

    def hold(self, size: int) -> None:
        """Count what is held of this request; raises `EndedError` when all calls together hold too much."""
        load = self._surroundings.load
        grown = size - self._held
        load.receiving_bytes += grown
        self._held = size
        if grown > 0 and load.receiving_bytes > self._surroundings.config.receiving_bytes_max:
            sentence = "the gateway is receiving too much at once; call again"
            raise EndedError(self._surroundings.busy("wire.receiving_full", sentence))

    async def _joined(self, first: bytes, bytes_max: int) -> bytes:
        body = bytearray(first)
        while not self.complete and len(body) <= bytes_max:
            self.hold(len(body))
            body += await self.piece()
        self.hold(0)
        return bytes(body)


class Upload:
    """The requests of a call that streams them: received ahead of their reader, up to a window."""

    __slots__ = ("_config", "_end", "_hurry", "_inbox", "_room", "_slow", "_unread", "messages")

    def __init__(self, inbox: Inbox, form: Form, surroundings: Surroundings, slow: Callable[[], None]) -> None:
        self._inbox = inbox
        self._config = surroundings.config
        self._slow = slow
        """Called when a message that has begun does not end in time."""
        self._unread = 0
        self._room = asyncio.Event()
        self._hurry: asyncio.TimerHandle | None = None
        self.messages = Messages(form, self)

    async def run(self) -> None:
        """Receive until the caller has left; raises `EndedError` and `CallerLeftError`."""
        while not self._inbox.complete:
            piece = await self._inbox.piece()
            self._unread += len(piece)
            self.messages.add(piece, len(piece))
            self._inbox.hold(self.messages.held)
            while self._unread >= self._config.stream_window_bytes:
                self._room.clear()
                await self._room.wait()
        self.messages.finish()
        await self._inbox.until_left()

    def consumed(self, size: int) -> None:
        """See `messages.Source`."""
        self._unread -= size
        self._inbox.hold(self.messages.held)
        self._room.set()

    def unfinished(self, begun: bool) -> None:  # noqa: FBT001 - see `messages.Source`
        """See `messages.Source`."""
        if not begun:
            self.close()
        elif self._hurry is None:
            self._hurry = asyncio.get_running_loop().call_later(self._config.body_s, self._slow)

    def fail(self, ending: Ending) -> None:
        """Whoever reads on gets this."""
        self.messages.fail(ending)
        self.close()

    def close(self) -> None:
        """Stop the timer."""
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None
