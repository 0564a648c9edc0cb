"""A gateway that is measured tells what each stage of a call cost, and no more than its process used; others do not."""

import sys
import time

import pytest
from gateway_town import visited

from generated.agentic.gateway.v1 import OperationState
from localcloud.demo.scene import stages_told

STAGES = ["wire", "identity", "form", "find", "facts", "policy", "intent", "admit", "stopped", "upstream", "settle"]
COUNTED = {"dur", "cpu", "threads", "commits"}


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request):
    """Where the ledger is; empty for a file."""
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else ""


async def timed(visitor, key):
    """What `gateway-timing` tells of an order."""
    call = visitor.execute(key=key)
    operation = await call
    assert operation.state == OperationState.SUCCEEDED
    return stages_told(dict(await call.trailing_metadata())["gateway-timing"])


def used_ms(process):
    """Processor time of all threads of a process, on the clock that Linux keeps of each (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns((~process.pid << 3) | 2) / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="reads another process's processor clock as Linux names it")
async def test_a_measured_call_costs_two_commits_and_no_more_than_the_process_used(tmp_path, database_url):
    async with visited(tmp_path, GATEWAY_TIMING="costs", GATEWAY_DATABASE_URL=database_url) as visitor:
        await timed(visitor, "first")
        process = visitor.town.gateway.process
        before_ms = used_ms(process)
        told = await timed(visitor, "second")
        process_ms = used_ms(process) - before_ms
    assert list(told) == [*STAGES, "between"]
    assert all(set(one) == COUNTED for one in told.values())
    assert {name: one["commits"] for name, one in told.items() if one["commits"]} == {"admit": 1, "settle": 1}
    assert all(0 <= one["threads"] <= one["cpu"] for one in told.values())
    assert 0 < sum(one["cpu"] for one in told.values()) < process_ms
    if not database_url:  # a file has a thread of its own that writes it
        assert told["admit"]["threads"] > 0


async def test_a_gateway_that_is_not_measured_tells_the_times_alone(tmp_path):
    async with visited(tmp_path) as visitor:
        told = await timed(visitor, "first")
    assert list(told) == STAGES
    assert all(set(one) == {"dur"} for one in told.values())
