"""Health: whether the gateway takes calls, told to probes and balancers by grpc.health.v1; no credentials needed.

Whoever restarts what is not well asks for the service `live`, which is as long as the process answers: a ledger that
cannot be written is no reason to restart, and a restart of all instances makes an outage longer.

The rules: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Final

from gateway.terms.passage import Passage
from gateway.terms.verdict import Kind, Refusal, RefusedError
from generated.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse
from generated.grpc.health.v1 import HealthCheckResponseServingStatus as Serving

LIVE: Final = "live"
"""The name under which a liveness probe asks."""


class Readiness:
    """Whether the gateway takes calls. It begins with no; after `close` it is no for ever."""

    __slots__ = ("_changed", "_closed", "_serving")

    def __init__(self) -> None:
        self._serving = False
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        """Whether calls are taken now."""
        return self._serving and not self._closed

    @property
    def closed(self) -> bool:
        """Whether the gateway is stopping."""
        return self._closed

    def set_serving(self, serving: bool) -> None:  # noqa: FBT001 - the value is all that it says
        """Take calls, or not; whoever watches is told."""
        self._serving = serving
        self._tell()

    def close(self) -> None:
        """The gateway is stopping."""
        self._closed = True
        self._tell()

    async def change(self) -> None:
        """Wait for the next change; bounded by whoever waits."""
        await self._changed.wait()

    def _tell(self) -> None:
        # A new event for the next change: who waits for this one cannot miss it.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Health:
    """grpc.health.v1.Health over the readiness of the whole gateway: all of its services are ready, or none."""

    __slots__ = ("_names", "_readiness", "_retry_after_ms")

    def __init__(self, readiness: Readiness, services: Iterable[str], *, retry_after_ms: int) -> None:
        self._readiness = readiness
        self._names = frozenset({"", LIVE, *services})
        self._retry_after_ms = retry_after_ms

    async def check(self, request: HealthCheckRequest, _passage: Passage) -> HealthCheckResponse:
        """The status now; `RefusedError` for a name that is no service here."""
        if request.service not in self._names:
            sentence = "no such service here; ask with an empty name for the whole gateway"
            raise RefusedError(Refusal(kind=Kind.NOT_FOUND, reason="health.service_unknown", sentence=sentence))
        return HealthCheckResponse(status=self._status(request.service))

    async def watch(self, request: HealthCheckRequest, _passage: Passage) -> AsyncGenerator[HealthCheckResponse, None]:
        """The status now and at every change. It ends when the gateway stops: a drain waits for running calls."""
        told: Serving | None = None
        while True:
            status = self._status(request.service)
            if status is not told:
                told = status
                yield HealthCheckResponse(status=status)
            elif self._readiness.closed:
                break
            else:
                await self._readiness.change()
        sentence = "this gateway is stopping; watch another"
        raise RefusedError(
            Refusal(
                kind=Kind.UNAVAILABLE,
                reason="wire.draining",
                sentence=sentence,
                retry_after_ms=self._retry_after_ms,
            )
        )

    def _status(self, service: str) -> Serving:
        if service not in self._names:
            return Serving.SERVICE_UNKNOWN
        well = self._readiness.serving or (service == LIVE and not self._readiness.closed)
        return Serving.SERVING if well else Serving.NOT_SERVING
