"""The issuer's HTTP face: the published keys, and an administrator's door for the other doubles and the tests."""

import asyncio
import json
from collections.abc import Mapping

import msgspec
from aiohttp import web

from localcloud.google.faults import Fault
from localcloud.google.identities import AccountError
from localcloud.google.issuer import Issuer
from localcloud.google.metadata import MetadataServer

CERTS_V3 = "/oauth2/v3/certs"
CERTS_V1 = "/oauth2/v1/certs"
INTROSPECT = "/admin/introspect"
ROTATE = "/admin/rotate"
FAULTS = "/admin/faults"


class FaultOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/faults: which identity's metadata server fails how. `times` 0 clears its faults."""

    identity: str
    status: int = 0
    times: int = 1
    only: str = ""
    latency_seconds: float = 0.0


class Certs:
    """The keys as JWK set and as certificates; introspection, rotation and fault orders under /admin/."""

    def __init__(self, issuer: Issuer, metadata: Mapping[str, MetadataServer], *, max_age: int) -> None:
        self._issuer = issuer
        self._metadata = metadata
        self._cache = {"Cache-Control": f"public, max-age={max_age}, must-revalidate, no-transform"}

    def application(self) -> web.Application:
        """Return the HTTP face, for one listening socket."""
        application = web.Application(client_max_size=16_384)
        application.add_routes(
            [
                web.get(CERTS_V3, self._jwks),
                web.get(CERTS_V1, self._certificates),
                web.get(INTROSPECT, self._introspect),
                web.post(ROTATE, self._rotate),
                web.post(FAULTS, self._order_fault),
            ]
        )
        return application

    async def _jwks(self, _: web.Request) -> web.Response:
        return web.json_response(self._issuer.jwks(), headers=self._cache)

    async def _certificates(self, _: web.Request) -> web.Response:
        return web.json_response(self._issuer.certificates(), headers=self._cache)

    async def _introspect(self, request: web.Request) -> web.Response:
        token = request.query.get("token", "")
        if not token:
            return _bad("Give the token to look at: ?token=...")
        return web.Response(text=self._issuer.describe(token), content_type="application/json")

    async def _rotate(self, request: web.Request) -> web.Response:
        keep_old = request.query.get("keep_old", "true")
        if keep_old not in {"true", "false"}:
            return _bad("keep_old is true or false.")
        key = await asyncio.to_thread(self._issuer.rotate, keep_old=keep_old == "true")
        return web.json_response({"kid": key.kid})

    async def _order_fault(self, request: web.Request) -> web.Response:
        try:
            order = msgspec.json.decode(await request.read(), type=FaultOrder)
            fault = Fault(
                status=order.status,
                times=order.times,
                only=order.only,
                latency_seconds=order.latency_seconds,
            )
        except (msgspec.MsgspecError, AccountError) as error:
            return _bad(str(error))
        server = self._metadata.get(order.identity)
        if server is None:
            return _bad(f"There is no identity {order.identity!r}: it is one of {sorted(self._metadata)}.")
        if order.times == 0:
            server.faults.clear()
        else:
            server.faults.order(fault)
        return web.json_response({})


def _bad(sentence: str) -> web.Response:
    body = json.dumps({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": sentence}})
    return web.Response(status=400, text=body, content_type="application/json")
