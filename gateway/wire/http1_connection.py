"""One HTTP/1.1 connection under an ASGI application: a request at a time, its timers, its bounds and its end.

For curl, browsers and probes on the same port; Cloud Run itself speaks HTTP/2 to the gateway (study, 1.1). Requests
that are sent ahead wait for their turn, unread beyond the window. Upgrades are ignored (RFC 9110, 7.8 allows that). A
caller that closes its side has left, as curl has when it is interrupted.
"""

import asyncio
import traceback
from collections.abc import Callable
from typing import cast

from gateway.terms.verdict import Kind
from gateway.wire.asgi import Application, AsgiExchange, Pairs, Scope, new_request, plain_refusal, plain_status
from gateway.wire.asgi_stream import SLOW_BODY, check_not_draining, decoded_path
from gateway.wire.errors import EndedError, Ending, refused
from gateway.wire.http1 import BadRequestError, HeadBounds, RequestHead, RequestReader
from gateway.wire.http1_answer import CONTINUE, DateHeader, Framing, body_bytes, framing_of, head_bytes
from gateway.wire.load import Surroundings
from gateway.wire.outbox import Outbox
from gateway.wire.running import CallerLeftError


class Http1Connection(asyncio.Protocol):
    """What asyncio calls for one connection; the `Carrier` of one exchange at a time."""

    def __init__(self, application: Application, surroundings: Surroundings) -> None:
        config = surroundings.config
        self._application = application
        self._surroundings = surroundings
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(HeadBounds(bytes_max=config.metadata_bytes_max, fields_max=config.headers_max))
        self._date = DateHeader(surroundings.clock)
        self._write_ready = asyncio.Event()
        self._write_ready.set()
        self._exchange: AsgiExchange | None = None
        self._head: RequestHead | None = None
        self._framing = Framing.NONE
        self._receives = self._continued = False
        """The body of the request has not ended; its sender was told to go on."""
        self._leaves = self._shut = self._paused = False
        """The answer is the last; nothing is read any more; the socket is not read now."""
        self._unconsumed = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, but not long."""
        self._transport = cast("asyncio.Transport", transport)
        self._outbox = Outbox(self._transport, self._surroundings.config.write_burst_bytes)
        self._surroundings.load.connections.add(self)
        self._set_timer("head", self._surroundings.config.preface_s, self.abort)

    def data_received(self, data: bytes) -> None:
        """Read what came, as far as its turn has come."""
        if self._shut:
            return
        self._reader.feed(data)
        self._advance()
        self._read_or_pause()

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - asyncio's own
        """The socket is gone, and with it the caller."""
        self._shut = True
        for timer in self._timers.values():
            timer.cancel()
        self._write_ready.set()
        if self._exchange is not None:
            self._exchange.lost()
        self._surroundings.load.connection_closed(self)

    def pause_writing(self) -> None:
        """The peer reads slower than we write; for too long, it is gone."""
        self._write_ready.clear()
        self._set_timer("stall", self._surroundings.config.write_stall_s, self.abort)

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._drop_timer("stall")
        self._write_ready.set()

    def say_goodbye(self) -> None:
        """See `OpenConnection`: HTTP/1.1 says it with the next answer."""
        self._leaves = True
        if self._exchange is None and not self._reader.held:
            self.shut()

    def shut(self) -> None:
        """See `OpenConnection`: our end now, and a while of reading on, so that the peer sees it and no reset."""
        if not self._shut:
            self._shut = True
            self._outbox.end()
            self._resume_reading()
            self._set_timer("linger", self._surroundings.config.linger_s, self.abort)

    def abort(self) -> None:
        """See `OpenConnection`."""
        self._shut = True
        self._outbox.abort()

    def consumed(self, size: int) -> None:
        """See `Carrier`."""
        self._unconsumed -= size
        self._read_or_pause()

    def waiting(self, begun: bool) -> None:  # noqa: FBT001 - see `Carrier`
        """See `Carrier`. Of a body in chunks, each silence is bounded; one of a known length, as a whole."""
        head = self._head
        if head is None or not self._receives:
            return
        if begun and head.expects_continue and not self._continued:
            self._continued = True
            self._outbox.write(CONTINUE)
        if head.length is None:
            if begun:
                self._set_timer("body", self._surroundings.config.body_s, self._slow)
            else:
                self._drop_timer("body")

    async def writable(self) -> None:
        """See `Carrier`."""
        if not self._write_ready.is_set():
            await self._write_ready.wait()

    def put_head(self, status: int, headers: Pairs, *, last: bool) -> None:
        """See `Carrier`."""
        head = self._head
        minor = head.minor if head is not None else 1
        head_only = head is not None and head.method == b"HEAD"
        self._leaves = self._leaves or self._receives or head is None or not head.keeps_alive
        if last and not head_only and not any(name == b"content-length" for name, _ in headers):
            headers = [*headers, (b"content-length", b"0")]
        self._framing = framing_of(status, headers, head_only=head_only, minor=minor)
        headers = [self._date.field(), *headers]
        self._outbox.write(head_bytes(status, headers, self._framing, closes=self._leaves))

    def put_now(self, data: bytes) -> bool:
        """See `Carrier`."""
        if not self._write_ready.is_set() or self._outbox.is_closing():
            return False
        self._outbox.write(body_bytes(data, self._framing, last=False))
        return True

    async def put_body(self, data: bytes, *, last: bool) -> None:
        """See `Carrier`."""
        if self._outbox.is_closing():
            raise CallerLeftError
        self._outbox.write(body_bytes(data, self._framing, last=last))

    def put_whole(self, status: int, headers: Pairs, body: bytes) -> None:
        """See `Carrier`."""
        self.put_head(status, headers, last=False)
        self._outbox.write(body)

    def put_trailers(self, headers: Pairs) -> None:
        """See `Carrier`: not offered, because callers of HTTP/1.1 do not expect them."""
        raise NotImplementedError

    def cut(self) -> None:
        """See `Carrier`: without the end that its framing promised, an answer is seen to be cut off."""
        self._leaves = True
        self.shut()

    def close(self, *, answered: bool) -> None:
        """See `Carrier`."""
        self._exchange = self._head = None
        self._drop_timer("body")
        if self._shut:
            return
        if not answered or self._leaves or self._receives:
            self.shut()
            return
        self._unconsumed = 0
        self._wait_for_next()
        self._loop.call_soon(self._advance)

    def _advance(self) -> None:
        try:
            if self._exchange is None and not self._shut:
                head = self._reader.head()
                if head is not None:
                    self._begin(head)
                elif self._reader.held and "head" not in self._timers:
                    self._drop_timer("idle")
                    self._set_timer("head", self._surroundings.config.preface_s, self.abort)
            if self._receives and self._exchange is not None:
                self._receive(self._exchange)
        except BadRequestError as error:
            self._bad(error)
        except Exception as error:  # noqa: BLE001 - a defect ends this connection, told whole, and no other
            self._tell("connection.failed", traceback="".join(traceback.format_exception(error)))
            self.abort()

    def _begin(self, head: RequestHead) -> None:
        self._drop_timer("head")
        self._drop_timer("idle")
        self._head = head
        self._receives, self._continued = True, False
        try:
            check_not_draining(self._surroundings)
            scope = self._scope(head)
        except EndedError as error:
            self._refuse(error.ending)
            return
        self._exchange = AsgiExchange(self, scope, self._surroundings)
        if head.length:
            self._set_timer("body", self._surroundings.config.body_s, self._slow)
        self._exchange.start(self._application)

    def _receive(self, exchange: AsgiExchange) -> None:
        data, complete = self._reader.body()
        if data:
            self._unconsumed += len(data)
            exchange.data(data, len(data))
        if complete and not self._shut:
            self._receives = False
            self._drop_timer("body")
            exchange.ended()

    def _bad(self, error: BadRequestError) -> None:
        self._tell("connection.refused", sentence=str(error))
        end = refused(Kind.MALFORMED, "wire.http_malformed", str(error))
        self._leaves = True
        if self._exchange is not None:
            self._exchange.refuse(end)
            return
        headers, body = plain_refusal(end, new_request(self._surroundings))
        self._head = None
        self.put_whole(error.status, headers, body)
        self.shut()

    def _refuse(self, ending: Ending) -> None:
        headers, body = plain_refusal(ending, new_request(self._surroundings))
        self._leaves = True
        self.put_whole(plain_status(ending), headers, b"" if self._framing_is_bare() else body)
        self.shut()

    def _framing_is_bare(self) -> bool:
        return self._head is not None and self._head.method == b"HEAD"

    def _slow(self) -> None:
        if self._exchange is not None:
            self._leaves = True
            self._exchange.refuse(SLOW_BODY)

    def _scope(self, head: RequestHead) -> Scope:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1" if head.minor else "1.0",
            "method": head.method.decode("ascii"),
            "scheme": "https" if self._transport.get_extra_info("ssl_object") else "http",
            "path": decoded_path(head.path),
            "raw_path": head.path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            "client": self._transport.get_extra_info("peername"),
            "server": self._transport.get_extra_info("sockname"),
            "extensions": {},
        }

    def _wait_for_next(self) -> None:
        if self._reader.held:
            self._set_timer("head", self._surroundings.config.preface_s, self.abort)
        else:
            self._set_timer("idle", self._surroundings.config.idle_s, self.shut)

    def _read_or_pause(self) -> None:
        """Stop reading where nobody takes what was read; go on when half of it is taken."""
        if self._shut:
            return
        ahead, window = self._unconsumed + self._reader.held, self._surroundings.config.stream_window_bytes
        if ahead > window and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        elif ahead <= window // 2:
            self._resume_reading()

    def _resume_reading(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _set_timer(self, name: str, delay_s: float, act: Callable[[], None]) -> None:
        self._drop_timer(name)
        self._timers[name] = self._loop.call_later(delay_s, act)

    def _drop_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _tell(self, event: str, **fields: str) -> None:
        peer = self._transport.get_extra_info("peername")
        self._surroundings.witness.tell(event, {"peer": str(peer), **fields})
