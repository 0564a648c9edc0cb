"""One HTTP exchange with an ASGI 3 application: the request in pieces, the answer in order, and an end in any case.

Nothing here knows which version of HTTP carries it; each brings its own `Carrier`. The rules: ASGI's "HTTP & WebSocket
ASGI Message Format", spec version 2.4.
"""

import asyncio
import re
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec

from gateway.terms.ids import RequestId
from gateway.wire.errors import Ending, internal
from gateway.wire.load import Surroundings
from gateway.wire.running import CallerLeftError, ReaderStalledError

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

Pairs = list[tuple[bytes, bytes]]
"""Header fields."""

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_FORBIDDEN: Final = re.compile(rb"[\x00\r\n]")
_OF_THE_CONNECTION: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding"})
"""What the carrier says, if anybody (RFC 9110, 7.6.1)."""

_OWN_WORDS: Final = {"wire.headers_too_large": 431, "wire.slow_body": 408}

PRESENCE: Final = "gateway.presence"
"""The scope's extension that holds a `Presence`. Other servers have none: there, a task must wait in `receive`."""

UNNOTICED_S: Final = 0.4
"""An application that does not notice for so long that its caller has left is cancelled."""


class Presence(Protocol):
    """What an exchange can tell its application without being asked again and again."""

    @property
    def arrived(self) -> bool:
        """Whether the whole request has come, so that `receive` does not wait for it."""
        ...

    @property
    def broken(self) -> bool:
        """Of a caller that has left: whether it did not say so, and its connection broke under it."""
        ...

    def on_leave(self, left: Callable[[], None]) -> None:
        """Call `left` when the caller leaves: at once in the loop's next round if it has left already."""
        ...

    async def answer(self, status: int, headers: Pairs, body: bytes) -> None:
        """Send a whole answer: what `send` makes of its start and its body, without two events between."""
        ...


class Carrier(Protocol):
    """What one version of HTTP does for an exchange."""

    def consumed(self, size: int) -> None:
        """The application took so many bytes of the request: the caller may send as many again."""
        ...

    def waiting(self, begun: bool) -> None:  # noqa: FBT001 - the value is all that it says
        """Whether the application waits for the request: the caller's time for it runs, or not."""
        ...

    async def writable(self) -> None:
        """Wait until the socket takes more."""
        ...

    def put_head(self, status: int, headers: Pairs, *, last: bool) -> None:
        """Send status and headers, which nothing follows if they are the last."""
        ...

    def put_now(self, data: bytes) -> bool:
        """Send a piece of the body, not the last, if nothing must be waited for; false if it was not sent."""
        ...

    async def put_body(self, data: bytes, *, last: bool) -> None:
        """Send a piece of the body; waits for the caller. `CallerLeftError`, `ReaderStalledError`."""
        ...

    def put_whole(self, status: int, headers: Pairs, body: bytes) -> None:
        """Send a small answer without waiting; its body may be left out where there is no window for it."""
        ...

    def put_trailers(self, headers: Pairs) -> None:
        """Send what comes after the body; nothing follows."""
        ...

    def cut(self) -> None:
        """Show that an answer is not complete, and never will be."""
        ...

    def close(self, *, answered: bool) -> None:
        """The exchange is over."""
        ...


class ApplicationError(Exception):
    """The application broke a rule of ASGI, or of HTTP."""


class AsgiExchange:
    """Receives from the carrier, runs the application in one task, and checks what it sends."""

    __slots__ = (
        "_broken",
        "_carrier",
        "_closed",
        "_complete",
        "_ended",
        "_gone",
        "_head",
        "_head_only",
        "_held",
        "_left",
        "_noticed",
        "_on_leave",
        "_pieces",
        "_scope",
        "_sent_head",
        "_streams",
        "_surroundings",
        "_task",
        "_timer",
        "_told",
        "_trailers",
        "_waiter",
    )

    def __init__(self, carrier: Carrier, scope: Scope, surroundings: Surroundings) -> None:
        self._carrier = carrier
        self._scope = scope
        self._surroundings = surroundings
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._held = 0
        self._complete = self._told = False
        """The request has come; the application knows all of it."""
        self._broken = self._gone = self._ended = self._closed = False
        """The caller has left; the answer is complete or given up; nothing runs any more."""
        self._noticed = False
        """The application knows that there is nobody any more."""
        self._head: tuple[int, Pairs] | None = None
        self._head_only = scope["method"] == "HEAD"
        self._left: int | None = None
        """Bytes of the body that the announced length leaves."""
        self._sent_head = self._trailers = False
        self._streams = False
        """The answer has begun, and its length is not known: pieces are sent as they are."""
        self._waiter: asyncio.Future[None] | None = None
        self._on_leave: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        scope["extensions"][PRESENCE] = self
        surroundings.load.exchanges.add(self)

    def start(self, application: Application) -> None:
        """Run the application."""
        # A task for each exchange, as each gRPC call has one; the server's drain waits for all of them.
        self._task = asyncio.get_running_loop().create_task(self._run(application))

    def data(self, data: bytes, size: int) -> None:
        """A piece of the request, and what it used of the carrier's window."""
        if self._gone or self._ended:
            return
        self._hold(len(data))
        if self._surroundings.load.receiving_bytes > self._surroundings.config.receiving_bytes_max:
            sentence = "the gateway is receiving too much at once; call again"
            self.refuse(self._surroundings.busy("wire.receiving_full", sentence))
            return
        self._pieces.append((data, size))
        self._wake()

    def ended(self) -> None:
        """The request is complete."""
        self._complete = True
        self._wake()

    def lost(self, *, broken: bool = False) -> None:
        """The caller has left; `broken` where it did not say so, and its connection broke under it."""
        self._gone = True
        self._broken = broken
        self._streams = False
        self._forget_pieces()
        if self._task is None:
            self._close()
            return
        self._wake()
        self._notice()
        self._cancel_unless_noticed()

    @property
    def arrived(self) -> bool:
        """See `Presence`."""
        return self._complete

    @property
    def broken(self) -> bool:
        """See `Presence`."""
        return self._broken

    def on_leave(self, left: Callable[[], None]) -> None:
        """See `Presence`."""
        self._on_leave = left
        if self._gone or self._ended:
            self._notice()

    def refuse(self, ending: Ending) -> None:
        """Answer instead of the application, if it has not begun to; else show that its answer is cut off."""
        if not self._ended and not self._gone:
            self._answer_plainly(ending, new_request(self._surroundings))
        self._leave()

    def answer_now(self, ending: Ending) -> None:
        """See `OpenCall`."""
        self.refuse(ending)

    def end(self, ending: Ending) -> None:
        """See `OpenCall`. An application that keeps calls ends them itself, in words of its own protocol."""

    async def receive(self) -> Event:
        """ASGI's `receive`."""
        while not self._pieces and not self._gone and not self._ended and (self._told or not self._complete):
            await self._arrival()
        if self._gone or self._ended:
            self._noticed = True
            return {"type": "http.disconnect"}
        if len(self._pieces) == 1:
            body, size = self._pieces[0]
        else:
            body = b"".join([data for data, _ in self._pieces])
            size = sum([size for _, size in self._pieces])
        self._forget_pieces()
        if size:
            self._carrier.consumed(size)
        self._told = self._complete
        return {"type": "http.request", "body": body, "more_body": not self._complete}

    async def send(self, event: Event) -> None:
        """ASGI's `send`; raises OSError when there is nobody to send to."""
        if self._streams and event["type"] == "http.response.body" and event.get("more_body", False):
            body = event.get("body", b"")
            if not body or self._carrier.put_now(body):
                return
        if self._gone or self._ended:
            self._noticed = True
            raise OSError("the caller left, or the answer is complete")
        match event["type"]:
            case "http.response.start" if self._head is None and not self._sent_head:
                self._head = (int(event["status"]), _checked(event.get("headers", ())))
                self._trailers = bool(event.get("trailers", False))
            case "http.response.body" if self._head is not None or self._sent_head:
                await self._body(event.get("body", b""), more=event.get("more_body", False))
            case "http.response.trailers" if self._sent_head and self._trailers:
                self._carrier.put_trailers(_checked(event.get("headers", ())))
                self._end()
            case other:
                raise ApplicationError(f"{other} is not what comes next")

    async def answer(self, status: int, headers: Pairs, body: bytes) -> None:
        """See `Presence`; raises OSError when there is nobody to send to."""
        if self._gone or self._ended:
            self._noticed = True
            raise OSError("the caller left, or the answer is complete")
        if self._head is not None or self._sent_head:
            raise ApplicationError("a whole answer is not what comes next")
        self._head = (status, _checked(headers))
        await self._body(body, more=False)

    async def _body(self, body: bytes, *, more: bool) -> None:
        last = not more and not self._trailers
        try:
            await self._writable()
            if self._put_head(body, last=last):
                return
            self._count(len(body), last=last)
            if self._head_only:
                body = b""
            if body or last:
                await self._carrier.put_body(body, last=last)
        except CallerLeftError:
            self._noticed = True
            raise OSError("the caller left") from None
        except ReaderStalledError:
            self._noticed = True
            self._carrier.cut()
            self._end()
            raise OSError("the caller stopped reading") from None
        if last:
            self._end()

    async def _writable(self) -> None:
        await self._carrier.writable()
        if self._gone or self._ended:
            raise CallerLeftError

    def _put_head(self, body: bytes, *, last: bool) -> bool:
        """Send the head before the first piece; true if that was all."""
        if self._head is None:
            return False
        (status, headers), self._head = self._head, None
        announced = [value for name, value in headers if name == b"content-length"]
        if announced:
            self._left = int(announced[0])
        elif last:
            headers.append((b"content-length", b"%d" % len(body)))
        all_said = last and (not body or self._head_only)
        if all_said:
            self._count(len(body), last=True)
        self._sent_head = True
        self._streams = not self._head_only and self._left is None
        self._carrier.put_head(status, headers, last=all_said)
        if all_said:
            self._end()
        return all_said

    def _count(self, size: int, *, last: bool) -> None:
        """Hold the application to the length that it announced: a caller would take the rest for the next answer."""
        if self._left is None or self._head_only:
            return
        self._left -= size
        if self._left < 0 or (last and self._left):
            raise ApplicationError("the body is not as long as its content-length says")

    async def _arrival(self) -> None:
        if self._waiter is not None:
            raise ApplicationError("one `receive` at a time")
        self._waiter = asyncio.get_running_loop().create_future()
        if not self._complete:
            self._carrier.waiting(True)  # noqa: FBT003 - see `Carrier`
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._carrier.waiting(False)  # noqa: FBT003 - see `Carrier`

    async def _run(self, application: Application) -> None:
        try:
            await application(self._scope, self.receive, self.send)
            if not self._ended and not self._gone:
                self._failed(ApplicationError("the application returned before its answer was complete"))
        except asyncio.CancelledError:
            if not self._gone and not self._ended:
                # Somebody stops the loop: there is nobody left to answer.
                self._carrier.cut()
                raise
        except Exception as error:  # noqa: BLE001 - what is not foreseen is told whole to the log, never to the caller
            if not self._gone or not isinstance(error, OSError):
                self._failed(error)
        finally:
            self._close()

    def _failed(self, error: BaseException) -> None:
        # Named only now: an application that keeps calls names them itself.
        request = new_request(self._surroundings)
        fields = {
            "request": request,
            "path": str(self._scope["path"])[:128],
            "error": type(error).__name__,
            "traceback": "".join(traceback.format_exception(error)),
        }
        self._surroundings.witness.tell("call.failed", fields)
        if not self._ended and not self._gone:
            self._answer_plainly(internal(request), request)

    def _answer_plainly(self, ending: Ending, request: RequestId) -> None:
        if self._sent_head:
            self._carrier.cut()
        else:
            self._sent_head = True
            self._head = None
            headers, body = plain_refusal(ending, request)
            self._carrier.put_whole(plain_status(ending), headers, b"" if self._head_only else body)
        self._end()

    def _end(self) -> None:
        """The answer is complete, or given up: the application hears of it as of a caller that left."""
        self._ended = True
        self._streams = False
        self._forget_pieces()
        self._wake()

    def _leave(self) -> None:
        if self._task is None:
            self._close()
        else:
            self._notice()
            self._cancel_unless_noticed()

    def _notice(self) -> None:
        """Tell an application that wants to be told; in a round of its own, because it may be what runs now."""
        if self._on_leave is not None and not self._noticed:
            self._noticed = True
            asyncio.get_running_loop().call_soon(self._on_leave)

    def _cancel_unless_noticed(self) -> None:
        if self._timer is None and not self._noticed and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(UNNOTICED_S, self._cancel)

    def _cancel(self) -> None:
        # One that has noticed is ending its work: to be cancelled now would cut its clean-up.
        if self._task is not None and not self._noticed:
            self._task.cancel()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._forget_pieces()
        self._on_leave = None
        # Else the scope and this would keep each other alive until the garbage collector comes.
        self._scope["extensions"].pop(PRESENCE, None)
        self._carrier.close(answered=self._ended and not self._gone)
        self._surroundings.load.exchange_closed(self)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _hold(self, grown: int) -> None:
        self._held += grown
        self._surroundings.load.receiving_bytes += grown

    def _forget_pieces(self) -> None:
        if self._held or self._pieces:
            self._pieces.clear()
            self._hold(-self._held)


def new_request(surroundings: Surroundings) -> RequestId:
    """A name for a request, by which a caller can ask about it."""
    return RequestId(surroundings.ids.new("req"))


def plain_status(ending: Ending) -> int:
    """The HTTP status of a refusal, where HTTP has a word of its own for it."""
    return _OWN_WORDS.get(ending.refusal.reason, ending.outcome.http)


def plain_refusal(ending: Ending, request: RequestId) -> tuple[Pairs, bytes]:
    """Headers and body of a refusal that no application speaks: JSON as Connect has it, which curl can show too."""
    body = msgspec.json.encode({"code": ending.outcome.connect, "message": ending.refusal.sentence})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"gateway-request", request.encode()),
    ]
    if ending.refusal.retry_after_ms is not None:
        # Whole seconds, and at least one (RFC 9110, 10.2.3).
        headers.append((b"retry-after", b"%d" % max(1, ending.refusal.retry_after_ms // 1_000)))
    return headers, body


def _checked(headers: Any) -> Pairs:  # noqa: ANN401 - what an application sent
    """Headers that no reader can take for something else; raises `ApplicationError`."""
    pairs = [(bytes(name), bytes(value)) for name, value in headers if name not in _OF_THE_CONNECTION]
    for name, _ in pairs:
        if not _is_name(name):
            raise ApplicationError(f"{name!r} is no header in lower case")
    if _FORBIDDEN.search(b" ".join([value for _, value in pairs])):
        raise ApplicationError("the value of a header holds NUL, CR or LF")
    return pairs


@lru_cache(maxsize=256)
def _is_name(name: bytes) -> bool:
    return _NAME.fullmatch(name) is not None
