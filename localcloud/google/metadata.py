"""The metadata server of one service identity: what `metadata.google.internal` answers inside one container."""

import asyncio
import json
from collections import Counter
from typing import TypeVar

from aiohttp import web

from localcloud.google.faults import Fault, Faults
from localcloud.google.identities import GoogleConfig, ServiceAccount
from localcloud.google.issuer import CLOUD_PLATFORM, TOKEN_SECONDS, AccessToken, Issuer
from localcloud.google.jws import claims_of
from localcloud.google.tree import HTML, JSON, Live, Node, Query, Reply, find, render

_FLAVOR = "Metadata-Flavor"
_HEADERS = {_FLAVOR: "Google", "Server": "Metadata Server for Serverless"}
_CACHED_TOKENS = 256

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class MetadataServer:
    """One identity's metadata: an aiohttp application around the issuer. Rules: study, section 2.1.

    `faults` takes orders to fail or to be late; `requests` counts what was asked, by the last part of the path.
    """

    def __init__(self, account: ServiceAccount, issuer: Issuer, config: GoogleConfig) -> None:
        self.account = account
        self.faults = Faults()
        self.requests: Counter[str] = Counter()
        self._issuer = issuer
        self._config = config
        self._tree = _tree(self, config)
        self._id_tokens: dict[str, tuple[str, int]] = {}
        self._access_tokens: dict[tuple[str, ...], AccessToken] = {}

    def application(self) -> web.Application:
        """Return the HTTP face, for one listening socket."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._respond)
        return application

    async def _respond(self, request: web.Request) -> web.Response:
        fault = self._next_fault(request.path)
        if fault is not None:
            await asyncio.sleep(fault.latency_seconds)
        if fault is not None and fault.status:
            reply = Reply(fault.status, HTML, f"This fault ({fault.status}) was asked for.\n")
        else:
            reply = self._judge(request)
        headers = dict(_HEADERS)
        if reply.status == 301:
            headers["Location"] = reply.body
        return web.Response(status=reply.status, text=reply.body, content_type=reply.content_type, headers=headers)

    def _next_fault(self, path: str) -> Fault | None:
        name = path.rstrip("/").rsplit("/", 1)[-1]
        node = find(self._tree, path)
        self.requests[name if node is not None else "unknown"] += 1  # bounded by the tree, whatever is asked
        return self.faults.next(path)

    def _judge(self, request: web.Request) -> Reply:
        """Apply the rules for every request, then look the path up."""
        if request.method != "GET":
            return Reply(405, HTML, "The metadata of this server can only be read: use GET.\n")
        if "X-Forwarded-For" in request.headers:
            return Reply(403, HTML, "A request that was forwarded may not read metadata: remove X-Forwarded-For.\n")
        below_root = request.path.strip("/") != ""
        if below_root and request.headers.get(_FLAVOR) != "Google":
            return Reply(403, HTML, "Missing required header: send Metadata-Flavor: Google.\n")
        node = find(self._tree, request.path)
        if node is None:
            return Reply(404, HTML, f"There is no metadata at {request.path!r}.\n".replace("<", "&lt;"))
        if isinstance(node, dict) and not request.path.endswith("/") and "recursive" not in request.query:
            return Reply(301, HTML, f"{request.path}/")
        return render(node, request.query)

    def id_token(self, query: Query) -> Reply:
        """Answer `identity`: an ID token as text; 400 without an audience."""
        audience = query.get("audience", "")
        if not audience:
            return Reply(400, HTML, "non-empty audience parameter required\n")
        age = self._config.token_age
        cached, expiry = self._id_tokens.get(audience, ("", 0))
        if age.reuse and expiry - self._issuer.now >= max(age.least_left, 1):
            return Reply(200, HTML, cached)
        token = self._issuer.id_token(self.account, audience, issued_at=self._issuer.now - age.born)
        _make_room(self._id_tokens)
        self._id_tokens[audience] = (token, _expiry(token))
        return Reply(200, HTML, token)

    def access_token(self, query: Query) -> Reply:
        """Answer `token`: an access token as JSON, `expires_in` in seconds; scopes are separated by commas."""
        scopes = tuple(scope for scope in query.get("scopes", "").split(",") if scope) or (CLOUD_PLATFORM,)
        age = self._config.token_age
        token = self._access_tokens.get(scopes)
        if not age.reuse or token is None or token.expiry - self._issuer.now < max(age.least_left, 1):
            token = self._issuer.access_token(self.account, scopes, issued_at=self._issuer.now - age.born)
            _make_room(self._access_tokens)
            self._access_tokens[scopes] = token
        left = token.expiry - self._issuer.now
        body = {"access_token": token.token, "expires_in": left, "token_type": "Bearer"}
        return Reply(200, JSON, json.dumps(body))


def _make_room(cache: dict[_Key, _Value]) -> None:
    if len(cache) >= _CACHED_TOKENS:
        del cache[next(iter(cache))]


def _expiry(token: str) -> int:
    expiry = claims_of(token)["exp"]
    return expiry if isinstance(expiry, int) else TOKEN_SECONDS


def _tree(server: MetadataServer, config: GoogleConfig) -> Node:
    """Return everything that this server knows; the paths are those that Cloud Run documents."""
    place = f"projects/{config.project_number}"
    account: Node = {
        "aliases": ["default"],
        "email": server.account.email,
        "identity": Live(server.id_token),
        "scopes": [CLOUD_PLATFORM],
        "token": Live(server.access_token),
    }
    version: Node = {
        "instance": {
            "id": f"{int(server.account.unique_id):x}",
            "region": f"{place}/regions/{config.region}",
            "service-accounts": {"default": account, server.account.email: account},
            "zone": f"{place}/zones/{config.region}-1",
        },
        "project": {"numeric-project-id": config.project_number, "project-id": config.project_id},
        "universe": {"universe-domain": "googleapis.com"},
    }
    return {"computeMetadata": {"v1": version}}
