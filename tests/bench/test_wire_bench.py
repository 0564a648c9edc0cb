"""What `bench wire` compares starts and answers every kind of load: figures that nobody can take are none."""

import os
import sys

import pytest

from bench.wire import serving
from bench.wire_load import KINDS, batch
from bench.wire_servers import SERVERS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bench wire binds each server to a processor")


@pytest.mark.parametrize("name", SERVERS)
async def test_every_server_answers_every_kind_that_it_knows(name):
    with serving(name, min(os.sched_getaffinity(0)), turns=False) as server:
        for kind, request in KINDS.items():
            if name != "ours" and "connect" in kind:
                continue
            made = await batch(server.port, request, 8, in_flight=4)
            await made.run()
            assert (kind, made.failures()) == (kind, 0)
