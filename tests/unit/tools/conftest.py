"""Fixtures of the tools' tests: a venue on a real socket, and the toolbox in front of it."""

import pytest
from aiohttp import web
from toolcases import FixedClock, VenueDouble, config, holding, quote, toolbox_of

from gateway.tools.alpaca import Alpaca
from gateway.tools.alpaca_wire import unix_us


@pytest.fixture
async def venue():
    double = VenueDouble()
    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", r"/{path:[\s\S]*}", double.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    double.url = "http://{}:{}".format(*runner.addresses[0][:2])
    double.on("GET", "/v2/stocks/", quote())
    double.on("GET", "/v2/positions/", holding())
    yield double
    await runner.cleanup()


@pytest.fixture
def clock():
    """One second after the double's quotes."""
    return FixedClock(unix_us("2026-11-23T12:00:01Z"))


@pytest.fixture
async def exchange(venue, clock):
    async with Alpaca(config(venue.url), clock) as opened:
        yield opened


@pytest.fixture
def toolbox(exchange):
    return toolbox_of(exchange)
