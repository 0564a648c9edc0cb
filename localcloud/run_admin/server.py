"""The running double: an HTTP/1.1 forward proxy on loopback that answers in the place of Google's APIs."""

import asyncio
import datetime as dt
import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from localcloud.google.faults import Faults
from localcloud.google.issuer import Clock, Issuer
from localcloud.run_admin.config import AdminConfig
from localcloud.run_admin.errors import ApiError
from localcloud.run_admin.project import Project
from localcloud.run_admin.routes import APIS, Asked, Routes
from localcloud.run_admin.runtime import Runtime
from localcloud.run_admin.services import Services
from localcloud.run_admin.shapes import JsonObject
from localcloud.run_admin.tokens import TokenMint

_BODY_MAX: Final = 1 << 20
_BODY_SECONDS: Final = 10.0
_REQUESTS_KEPT: Final = 1000


class RunAdmin:
    """`async with RunAdmin(config) as admin`: it listens inside. `admin.url` is the proxy that gcloud is given.

    `requests` holds "METHOD host/path" of the last thousand requests, `faults` takes orders to fail or to be late. The
    issuer is the one whose keys a front door trusts; without one, a new one is made. `runtime` runs the revisions;
    without one, they become what the configuration says. Raises OSError for a taken port.
    """

    def __init__(
        self,
        config: AdminConfig,
        *,
        issuer: Issuer | None = None,
        runtime: Runtime | None = None,
        clock: Clock = time.time,
    ) -> None:
        self.config = config
        self.issuer = issuer or Issuer(clock=clock)
        self.project = Project(config)
        self.services = Services(self.project, _stamps(clock), runtime)
        self.faults = Faults()
        self.requests: deque[str] = deque(maxlen=_REQUESTS_KEPT)
        self.url = ""
        self._routes = Routes(self.project, self.services, TokenMint(self.project, self.issuer))
        self._runner: web.ServerRunner | None = None

    def facts(self) -> dict[str, object]:
        """What the ready file tells."""
        return {"pid": os.getpid(), "url": self.url, "project": self.config.project, "region": self.config.region}

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._respond, access_log=None), shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.config.host, self.config.port).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        self.requests.append(f"{request.method} {request.url.host}{request.url.path}")
        try:
            return _json(200, await self._answer(request))
        except ApiError as error:
            return _json(error.code, error.document())

    async def _answer(self, request: web.BaseRequest) -> JsonObject:
        if request.method == "CONNECT":
            raise ApiError(501, f"Nothing leaves this machine: {request.raw_path} would need TLS to the real Google.")
        fault = self.faults.next(request.url.path)
        if fault is not None:
            await asyncio.sleep(fault.latency_seconds)
            if fault.status:
                raise ApiError(fault.status, f"This fault ({fault.status}) was asked for.")
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            raise ApiError(401, "Request is missing required authentication credential.")
        asked = Asked(parts={}, query=dict(request.query), body=await _body(request))
        return self._routes.answer(request.method, request.url.host or "", request.url.path, asked)


def gcloud_environment(url: str, folder: Path) -> Mapping[str, str]:
    """The variables with which gcloud speaks to this double alone; `folder` becomes its private configuration.

    They leave no way out: names that are not overridden go to CONNECT, which is refused (study, section 4.1). Writes an
    access token of no value into the folder.
    """
    token = folder / "access-token"
    token.write_text("ya29.local-operator\n", encoding="ascii")
    return {
        "CLOUDSDK_CONFIG": str(folder),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
        "http_proxy": url,
        "https_proxy": url,
        "no_proxy": "",
        **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api.upper()}": f"http://{api}.googleapis.com/" for api in APIS},
    }


def _json(status: int, document: Mapping[str, object]) -> web.Response:
    return web.Response(status=status, text=json.dumps(document), content_type="application/json")


async def _body(request: web.BaseRequest) -> JsonObject:
    """The JSON object of a request, an empty one where there is no body."""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            data = await request.content.readexactly(_BODY_MAX)
    except asyncio.IncompleteReadError as error:
        data = error.partial
    else:
        raise ApiError(413, f"A request has less than {_BODY_MAX} bytes here.")
    try:
        body = json.loads(data) if data else {}
    except ValueError as error:
        raise ApiError(400, f"Invalid JSON payload received: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "Invalid JSON payload received: it is no object.")
    return body


def _stamps(clock: Clock) -> Callable[[], str]:
    return lambda: f"{dt.datetime.fromtimestamp(clock(), dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
