"""Plain health for probes that speak nothing but HTTP: `GET /healthz` and `GET /readyz`."""

from gateway.wire.asgi import Pairs
from gateway.wire.health import Readiness
from gateway.wire.web.exchange import Exchange

_HEADERS: Pairs = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


async def alive(exchange: Exchange, _readiness: Readiness) -> None:
    """The process answers, and that is all that this says: whoever restarts it for less makes an outage longer."""
    await exchange.whole(200, [*_HEADERS], b'{"status":"alive"}\n')


async def ready(exchange: Exchange, readiness: Readiness) -> None:
    """Whether calls are taken; 503 before the gateway is ready and from the beginning of its drain."""
    if readiness.serving:
        await exchange.whole(200, [*_HEADERS], b'{"status":"ready"}\n')
    else:
        await exchange.whole(503, [*_HEADERS], b'{"status":"not ready"}\n')
