"""The local Google, running: the issuer's face and one metadata server per identity, each on a loopback port."""

import contextlib
import os
import time
from types import TracebackType
from typing import Self

from aiohttp import web

from localcloud.google.certs import CERTS_V1, CERTS_V3, INTROSPECT, Certs
from localcloud.google.identities import GoogleConfig
from localcloud.google.issuer import Clock, Issuer
from localcloud.google.metadata import MetadataServer


class LocalGoogle:
    """`async with LocalGoogle(config) as google`: everything listens inside, and nothing is left behind outside.

    `issuer` mints in process; `metadata` holds the servers by identity name. The clock is in seconds since the epoch.
    Raises AccountError for a config that describes no valid identity, OSError for a port that is taken.
    """

    def __init__(self, config: GoogleConfig, *, clock: Clock = time.time) -> None:
        self.config = config
        self.issuer = Issuer(clock=clock)
        self.metadata = {
            name: MetadataServer(account, self.issuer, config) for name, account in config.accounts().items()
        }
        self._stack = contextlib.AsyncExitStack()
        self._addresses: dict[str, str] = {}
        self.issuer_url = ""

    @property
    def certs_url(self) -> str:
        """The published keys as a JWK set."""
        return f"{self.issuer_url}{CERTS_V3}"

    @property
    def certs_v1_url(self) -> str:
        """The published keys as kid -> certificate: google-auth's default form."""
        return f"{self.issuer_url}{CERTS_V1}"

    @property
    def introspect_url(self) -> str:
        """Where another double asks about an access token: append `?token=`."""
        return f"{self.issuer_url}{INTROSPECT}"

    def metadata_address(self, name: str) -> str:
        """Return HOST:PORT of an identity's metadata server: the value for GCE_METADATA_HOST and GCE_METADATA_IP."""
        return self._addresses[name]

    def facts(self) -> dict[str, object]:
        """Return what the ready file tells: URLs, addresses, accounts, and the process id."""
        return {
            "pid": os.getpid(),
            "issuer_url": self.issuer_url,
            "certs_url": self.certs_url,
            "certs_v1_url": self.certs_v1_url,
            "introspect_url": self.introspect_url,
            "metadata": dict(self._addresses),
            "accounts": {name: server.account.email for name, server in self.metadata.items()},
        }

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            certs = Certs(self.issuer, self.metadata, max_age=self.config.keys_max_age)
            address = await self._listen(stack, certs.application(), self.config.issuer_port)
            self.issuer_url = f"http://{address}"
            for name, server in self.metadata.items():
                self._addresses[name] = await self._listen(stack, server.application(), 0)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _listen(self, stack: contextlib.AsyncExitStack, application: web.Application, port: int) -> str:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self.config.host, port).start()
        host, bound = runner.addresses[0][:2]
        return f"{host}:{bound}"
