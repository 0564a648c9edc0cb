"""The HTTP front of the exchange: authentication, injected faults and the request log around the Alpaca endpoints."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from localcloud.exchange.accounts import Account
from localcloud.exchange.alpaca import AlpacaApi, Answer, ApiError, Call, Endpoint, refusal
from localcloud.exchange.faults import Fault, FaultKind, Faults, Target
from localcloud.exchange.orders import OrderRefusedError
from localcloud.exchange.requestlog import RequestLog, RequestSeen, clipped, credential_headers
from localcloud.exchange.strict_json import MalformedJsonError, decode_object
from localcloud.exchange.venue import Venue

BODY_LIMIT: Final = 64 * 1024
"""The longest request body in bytes."""

_BODY_SECONDS: Final = 10.0
_KEY_ID, _SECRET = "APCA-API-KEY-ID", "APCA-API-SECRET-KEY"
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

Responder = Callable[[web.Request], Awaitable[web.StreamResponse]]

encode: Final = msgspec.json.Encoder(decimal_format="number").encode
"""JSON bytes of a body; Decimals become numbers with exactly their digits."""


async def label_venue(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Say on a response that no real market stands behind it."""
    response.headers["x-venue"] = "simulated"


def json_response(answer: Answer) -> web.Response:
    """An answer as an HTTP response."""
    if answer.body is None:
        return web.Response(status=answer.status)
    return web.Response(status=answer.status, body=encode(answer.body), content_type="application/json")


class Front:
    """Serves the endpoints over HTTP: one call in, one answer (or one injected fault) out."""

    def __init__(self, venue: Venue, faults: Faults, log: RequestLog) -> None:
        """Stand in front of `venue`."""
        self._venue = venue
        self._faults = faults
        self._log = log

    def app(self) -> web.Application:
        """The aiohttp application with every route."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.on_response_prepare.append(label_venue)
        for method, path, endpoint in AlpacaApi(self._venue, self._faults).routes():
            app.router.add_route(method, path, self._responder(endpoint))
        app.router.add_route("*", "/{argument:.*}", self._responder(_no_such_endpoint))
        return app

    def _responder(self, endpoint: Endpoint) -> Responder:
        async def respond(request: web.Request) -> web.StreamResponse:
            number, at = self._log.arrived(), self._venue.clock()
            account = self._authenticate(request)
            answer = await self._answer(request, account, endpoint)
            self._log.ended(
                RequestSeen(
                    number=number,
                    at_us=at,
                    method=request.method,
                    path=clipped(request.raw_path),
                    credential_headers=credential_headers(request.headers),
                    account_number=account.number if account else None,
                    status=answer.status if answer else 0,
                )
            )
            if answer is None:
                _reset(request)
                return web.Response()
            return json_response(answer)

        return respond

    def _authenticate(self, request: web.Request) -> Account | None:
        key_ids, secrets = request.headers.getall(_KEY_ID, []), request.headers.getall(_SECRET, [])
        if len(key_ids) != 1 or len(secrets) != 1:
            return None
        return self._venue.authenticate(key_ids[0], secrets[0])

    async def _answer(self, request: web.Request, account: Account | None, endpoint: Endpoint) -> Answer | None:
        """The answer to a request; None when the connection is to be reset instead."""
        try:
            if account is None:
                return ApiError(401, 40110000, "request is not authorized.").answer()
            return await self._serve(await self._call(request, account), endpoint)
        except ApiError as error:
            return error.answer()
        except OrderRefusedError as error:
            return refusal(error).answer()
        except MalformedJsonError as error:
            return ApiError(400, 40010000, f"request body format is invalid: {error}").answer()

    async def _call(self, request: web.Request, account: Account) -> Call:
        argument, body = request.match_info.get("argument", ""), await _body(request)
        # Only faults ask for the symbols, and finding them costs a second look at the body.
        symbols = _symbols(request, argument, body) if self._faults else frozenset()
        target = Target(method=request.method, path=request.path, symbols=symbols)
        return Call(account=account, target=target, argument=argument, query=request.query, body=body)

    async def _serve(self, call: Call, endpoint: Endpoint) -> Answer | None:
        if not self._faults:
            return endpoint(call)
        if latency := self._take(FaultKind.LATENCY, call):
            await asyncio.sleep(latency.delay_ms / 1_000)
        if self._take(FaultKind.RESET_BEFORE, call):
            return None
        if before := self._take(FaultKind.STATUS_BEFORE, call):
            return _injected(before)
        answer = endpoint(call)
        if late := self._take(FaultKind.LATENCY_AFTER, call):
            await asyncio.sleep(late.delay_ms / 1_000)
        # Only what took effect can lose its reply: a refused order stays an ordinary refusal and the fault waits.
        if self._take(FaultKind.RESET_AFTER_ACCEPT, call):
            return None
        if after := self._take(FaultKind.STATUS_AFTER, call):
            return _injected(after)
        return answer

    def _take(self, kind: FaultKind, call: Call) -> Fault | None:
        return self._faults.take(kind, call.target)


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, 41310000, f"the request body is longer than {BODY_LIMIT} bytes") from None
    except TimeoutError:
        raise ApiError(408, 40810000, f"the request body did not arrive within {_BODY_SECONDS:.0f} s") from None


def _symbols(request: web.Request, argument: str, body: bytes) -> frozenset[str]:
    """The symbols that a request names in its path, its query or its body."""
    named = {argument, *request.query.get("symbols", "").split(",")}
    if body:
        with contextlib.suppress(MalformedJsonError):  # The endpoint refuses such a body; it names no symbol.
            named.add(str(decode_object(body).get("symbol", "")))
    return frozenset(named - {""})


def _no_such_endpoint(call: Call) -> Answer:
    raise ApiError(404, 40410000, f"endpoint not found: {call.target.method} {clipped(call.target.path)}")


def _injected(fault: Fault) -> Answer:
    code = fault.status * 100_000 + 10_000
    return ApiError(fault.status, code, _reason_phrase(fault.status)).answer()


def _reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "error"


def _reset(request: web.Request) -> None:
    """Cut the connection so that the client sees a reset (RST), not an orderly close."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
