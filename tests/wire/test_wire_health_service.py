"""Health over real sockets, as probes ask for it."""

import asyncio

import grpc
import grpc.aio
import pytest
from wire_clients import grpcio, stub

from generated.grpc.health.v1 import HealthCheckRequest
from generated.grpc.health.v1 import HealthCheckResponseServingStatus as Serving

MODEL = "agentic.gateway.v1.ModelService"


@pytest.mark.parametrize("name", ["", MODEL, "agentic.gateway.v1.ToolService", "grpc.health.v1.Health"])
async def test_check_knows_every_service(serve, name):
    served = await serve()
    async with grpcio(served) as channel:
        check = stub(channel, "Check")
        assert (await check(HealthCheckRequest(service=name), timeout=5)).status is Serving.SERVING
        served.server.readiness.set_serving(False)
        assert (await check(HealthCheckRequest(service=name), timeout=5)).status is Serving.NOT_SERVING


async def test_check_does_not_know_others(serve):
    served = await serve()
    async with grpcio(served) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub(channel, "Check")(HealthCheckRequest(service="agentic.gateway.v1"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watch_tells_every_change_and_the_end(serve):
    served = await serve()
    async with grpcio(served) as channel:
        watch = stub(channel, "Watch")(HealthCheckRequest(service=MODEL))
        assert (await watch.read()).status is Serving.SERVING
        served.server.readiness.set_serving(False)
        assert (await watch.read()).status is Serving.NOT_SERVING
        served.server.readiness.set_serving(True)
        assert (await watch.read()).status is Serving.SERVING
        draining = asyncio.get_running_loop().create_task(served.server.drain(5))
        assert (await watch.read()).status is Serving.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="stopping"):
            await watch.read()
        # A watcher does not hold the drain up.
        async with asyncio.timeout(1):
            assert (await draining).cut == 0


async def test_watch_of_an_unknown_service_stays_open(serve):
    served = await serve()
    async with grpcio(served) as channel:
        watch = stub(channel, "Watch")(HealthCheckRequest(service="no.such"))
        assert (await watch.read()).status is Serving.SERVICE_UNKNOWN
        served.server.readiness.set_serving(False)
        await asyncio.sleep(0.01)
        assert not watch.done()
        watch.cancel()
    await served.quiet()
