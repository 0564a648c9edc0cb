"""The ASGI application: every request of the web comes in here and is sent on its way."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from gateway.terms.ids import RequestId
from gateway.wire.asgi import PRESENCE, Pairs, Receive, Scope, Send
from gateway.wire.errors import Ending
from gateway.wire.health import Readiness
from gateway.wire.load import Surroundings
from gateway.wire.running import CallerLeftError
from gateway.wire.table import Table
from gateway.wire.web import astray
from gateway.wire.web.call import WebCall
from gateway.wire.web.connect_error import error_body, hints
from gateway.wire.web.cors import Cors
from gateway.wire.web.endpoint import Endpoint, endpoints
from gateway.wire.web.enveloped import GrpcWeb
from gateway.wire.web.exchange import Exchange
from gateway.wire.web.fields import WebFields
from gateway.wire.web.health import alive, ready
from gateway.wire.web.inbox import Inbox
from gateway.wire.web.options import WebOptions
from gateway.wire.web.query import Query
from gateway.wire.web.speech import Dialect

_HEALTH: Final[Mapping[str, Callable[[Exchange, Readiness], Awaitable[None]]]] = {"/healthz": alive, "/readyz": ready}
_DEFAULTS: Final = WebOptions()

_CONTENT_TYPE: Final = (b"content-type", b"application/json; charset=utf-8")
"""Of what is no answer to a call: clients of Connect take only the bare `application/json` for one, and go by the
status otherwise, and those of gRPC-Web do not read it."""


class WebApplication:
    """Serves a table over Connect and gRPC-Web, and plain health: an ASGI 3 application for the scope `http`.

    Raises `TableError` when a message of the table has no codec.
    """

    __slots__ = ("_cors", "_endpoints", "_options", "_readiness", "_surroundings")

    def __init__(
        self, table: Table, surroundings: Surroundings, readiness: Readiness, options: WebOptions = _DEFAULTS
    ) -> None:
        self._endpoints = endpoints(table, surroundings.config, options)
        self._cors = Cors(options.origins, options.preflight_s)
        self._options = options
        self._readiness = readiness
        self._surroundings = surroundings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Scopes that are not served are refused in their own way."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await _live(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise ValueError(f"the scope {other!r} is not served")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields = WebFields(scope["headers"])
        exchange = Exchange(
            receive=receive,
            send=send,
            fields=fields,
            query=Query(scope.get("query_string", b"")),
            request=RequestId(self._surroundings.ids.new("req")),
            stages=self._surroundings.stages(self._surroundings.clock),
            always=self._cors.replies(fields),
            presence=scope.get("extensions", {}).get(PRESENCE),
            head=scope["method"] == "HEAD",
        )
        path = _path(scope)
        endpoint = self._endpoints.get(path)
        dialect = None
        if endpoint is not None and scope["method"] == "POST":
            dialect = endpoint.dialect(fields.one(b"content-type"))
        elif endpoint is not None and scope["method"] == "GET":
            dialect = _by_get(endpoint, exchange)
        if dialect is not None:
            await WebCall(dialect, exchange, self._surroundings, self._options.passage).run()
        else:
            await self._answer(scope["method"], path, exchange)

    async def _answer(self, method: str, path: str, exchange: Exchange) -> None:
        """Answer what is no call."""
        endpoint = self._endpoints.get(path)
        health = _HEALTH.get(path)
        if method == "OPTIONS":
            await self._preflight(exchange, endpoint)
        elif health is not None:
            if method in ("GET", "HEAD"):
                await health(exchange, self._readiness)
            else:
                await self._refuse(exchange, path, astray.wrong_method(method, None), [(b"allow", b"GET, HEAD")])
        elif endpoint is None:
            await self._refuse_path(exchange, path)
        elif method == "POST":
            ending = astray.wrong_form(exchange.fields.one(b"content-type"), endpoint)
            await self._refuse(exchange, path, ending, [(b"accept-post", endpoint.accept_post)])
        elif method == "GET" and endpoint.by_codec:
            await self._refuse(exchange, path, astray.wrong_query(), [])
        else:
            await self._refuse(exchange, path, astray.wrong_method(method, endpoint), [(b"allow", endpoint.allow)])

    async def _refuse_path(self, exchange: Exchange, path: str) -> None:
        ending = astray.nowhere(path, self._endpoints)
        any_endpoint = next(iter(self._endpoints.values()), None)
        dialect = None if any_endpoint is None else any_endpoint.dialect(exchange.fields.one(b"content-type"))
        speech = None if dialect is None else dialect.speak(dialect, exchange)
        if isinstance(speech, GrpcWeb):
            self._tell(exchange, path, ending)
            await speech.end(ending)
        else:
            await self._refuse(exchange, path, ending, [])

    async def _preflight(self, exchange: Exchange, endpoint: Endpoint | None) -> None:
        """Answer OPTIONS: a browser's question before it calls, or a plain one for the methods of a path."""
        said = self._cors.preflight(exchange.fields)
        if said is None and exchange.fields.all(b"origin"):
            await self._refuse(exchange, "", astray.no_origin(), [])
            return
        headers = said or [(b"allow", b"GET, HEAD" if endpoint is None else endpoint.allow)]
        await exchange.start(204, headers)
        await exchange.body(b"")

    async def _refuse(self, exchange: Exchange, path: str, ending: Ending, headers: Pairs) -> None:
        self._tell(exchange, path, ending)
        try:
            await Inbox(exchange.receive, self._surroundings).hear_out()
        except CallerLeftError:
            return
        said = [_CONTENT_TYPE, *exchange.leading(), *hints(ending), *headers]
        await exchange.whole(ending.outcome.http, said, error_body(ending, exchange.request))

    def _tell(self, exchange: Exchange, path: str, ending: Ending) -> None:
        fields = {
            "request": exchange.request,
            "path": path[: astray.PATH_BYTES_MAX],
            "status": ending.outcome.http,
            "reason": ending.refusal.reason,
        }
        self._surroundings.witness.tell("request.refused", fields)


def _by_get(endpoint: Endpoint, exchange: Exchange) -> Dialect | None:
    if not endpoint.by_codec:
        return None
    fields = exchange.fields
    if fields.one(b"content-length") not in (b"", b"0") or fields.all(b"transfer-encoding"):
        return None
    return endpoint.by_codec.get(exchange.query.encoding())


def _path(scope: Scope) -> str:
    """The path as it was sent: decoded, two paths would be one that somebody in front may have told apart."""
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"]
    return path if raw is None else raw.decode("latin-1")


async def _live(receive: Receive, send: Send) -> None:
    """A server's beginning and end: nothing to do at either, because the gateway's assembly owns both."""
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
