"""The double itself: two loopback servers, one that speaks Vertex AI's REST and one for whoever runs the test."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from localcloud.vertex.admin import admin_application
from localcloud.vertex.bearer import Gate, Introspection, TokenCheck, anyone
from localcloud.vertex.config import VertexConfig
from localcloud.vertex.faults import FaultPlan
from localcloud.vertex.journal import Journal
from localcloud.vertex.service import VertexService

SHUTDOWN_SECONDS = 0.2
BACKLOG = 1024


class ConfigurationError(ValueError):
    """The double was told something that it cannot work with; the message says what to give instead."""


class VertexDouble:
    """A running double: `async with VertexDouble(config) as vertex`, then `vertex.url` and `vertex.admin_url`.

    `faults` and `journal` are the same objects that the admin port shows, for tests in the same process.
    """

    def __init__(self, config: VertexConfig) -> None:
        """Take the configuration; ConfigurationError if it does not say how tokens are checked."""
        ways = (config.token_check is not None, bool(config.introspect_url), config.allow_any_token)
        if sum(ways) != 1:
            told = "give exactly one of a token check, an introspection URL and the permission to take any token"
            raise ConfigurationError(f"The double must know how to check access tokens: {told}.")
        self.config = config
        self.faults = FaultPlan()
        self.journal = Journal(config.journal_size)
        self.url = ""
        self.admin_url = ""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Bind both ports; OSError if one cannot be had."""
        async with AsyncExitStack() as stack:
            gate = Gate(await self._token_check(stack), self.config.members)
            service = VertexService(self.config, gate, self.faults, self.journal)
            application = web.Application(client_max_size=self.config.max_body_bytes)
            application.router.add_route("*", "/{path:.*}", service.handle)
            self.url = await self._listen(stack, application, self.config.port)
            admin = admin_application(self.faults, self.journal)
            self.admin_url = await self._listen(stack, admin, self.config.admin_port)
            stack.callback(setattr, service, "stopping", True)  # noqa: FBT003 - setattr's own signature
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both ports; streams that are still open are cut after a moment."""
        await self._stack.__aexit__(kind, fault, trace)

    async def _token_check(self, stack: AsyncExitStack) -> TokenCheck:
        if self.config.token_check is not None:
            return self.config.token_check
        if self.config.allow_any_token:
            return anyone
        session = await stack.enter_async_context(aiohttp.ClientSession())
        return Introspection(self.config.introspect_url, session)

    async def _listen(self, stack: AsyncExitStack, application: web.Application, port: int) -> str:
        # With handler_cancellation a client that leaves cancels its request's task at once, which is how the double
        # notices; the default would let a stalled stream sleep on.
        runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self.config.host, port, backlog=BACKLOG).start()
        host, bound = runner.addresses[0][:2]
        return f"http://{host}:{bound}"
