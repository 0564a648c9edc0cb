"""Readiness without a wire: no change is missed, and closing is for ever."""

import asyncio

import pytest

from gateway.terms.verdict import Kind, RefusedError
from gateway.wire.health import Health, Readiness
from generated.grpc.health.v1 import HealthCheckRequest
from generated.grpc.health.v1 import HealthCheckResponseServingStatus as Serving


def test_it_begins_with_no_and_ends_with_no():
    readiness = Readiness()
    assert not readiness.serving
    readiness.set_serving(True)
    assert readiness.serving
    readiness.close()
    readiness.set_serving(True)
    assert not readiness.serving
    assert readiness.closed


async def test_a_waiter_sees_a_change_that_comes_at_once():
    readiness = Readiness()
    waiting = asyncio.gather(readiness.change(), readiness.change())
    await asyncio.sleep(0)
    readiness.set_serving(True)
    async with asyncio.timeout(1):
        await waiting


async def test_equal_statuses_are_told_once():
    readiness = Readiness()
    watch = Health(readiness, ("a.B",), retry_after_ms=5).watch(HealthCheckRequest(service="a.B"), None)
    assert (await anext(watch)).status is Serving.NOT_SERVING
    following = asyncio.gather(anext(watch))
    for serving in (False, False, True, False, True):
        readiness.set_serving(serving)
        await asyncio.sleep(0)
    assert [reply.status for reply in await following] == [Serving.SERVING]
    readiness.close()
    assert (await anext(watch)).status is Serving.NOT_SERVING
    with pytest.raises(RefusedError) as caught:
        await anext(watch)
    assert (caught.value.refusal.kind, caught.value.refusal.retry_after_ms) == (Kind.UNAVAILABLE, 5)


async def test_live_is_as_long_as_the_process_does_not_stop():
    readiness = Readiness()
    health = Health(readiness, (), retry_after_ms=5)
    live = HealthCheckRequest(service="live")
    assert (await health.check(live, None)).status is Serving.SERVING
    assert (await health.check(HealthCheckRequest(), None)).status is Serving.NOT_SERVING
    readiness.close()
    assert (await health.check(live, None)).status is Serving.NOT_SERVING
